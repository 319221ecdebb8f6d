package model

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

func modelListCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the models in the cache",
		UsageText: "mlxrank model list [--json]",
		Description: "Lists builtin, which has no commit, and the complete models that mlxrank supports.\n" +
			"The time is that of the newest file.\n\n" +
			command.Examples(
				[2]string{"List the models", "mlxrank model list"},
				[2]string{"List their names only", "mlxrank model list --json | jq -r '.[].model'"},
			),
		Flags: []cli.Flag{command.JSONFlag()},
		Action: func(c *cli.Context) error {
			if err := command.NoArguments(c); err != nil {
				return err
			}
			return modelList(c, s)
		},
	}
}

// listedJSON describes a model in the list.
type listedJSON struct {
	Model     string    `json:"model"`
	Revisions []string  `json:"revisions"` // branches and tags of the commit
	Commit    string    `json:"commit"`
	Dir       string    `json:"dir"`
	Bytes     int64     `json:"bytes"`
	Modified  time.Time `json:"modified"`
}

func modelList(c *cli.Context, s command.Streams) error {
	client, err := hub.FromEnvironment()
	if err != nil {
		return err
	}
	all, err := client.List()
	if err != nil {
		return err
	}
	listed, others := []listedJSON{}, 0
	if b, err := listBuiltin(); err == nil { // doctor reports the error
		listed = append(listed, b)
	}
	builtin := len(listed)
	for _, snapshot := range all {
		if weights.CheckDir(snapshot.Dir) != nil {
			others++
			continue
		}
		listed = append(listed, listedJSON{snapshot.Model, append([]string{}, snapshot.Revisions...), snapshot.Commit, snapshot.Dir,
			snapshot.Size(), snapshot.Modified().UTC().Truncate(time.Second)})
	}
	switch {
	case c.Bool("json"):
		err = output.PrintJSON(s.Out, listed)
	case len(listed) > 0:
		err = printList(s, listed)
	}
	if err == nil && len(listed) == builtin && !c.Bool("json") {
		_, err = fmt.Fprintf(s.Err, "%s has no model that mlxrank supports; %s\n", client.Cache(), command.PullAdvice(weights.Default))
	}
	if err == nil && others > 0 {
		_, err = fmt.Fprintf(s.Err, "not listed: %s that mlxrank does not support; mlxrank model show REF prints the reason\n", output.Count(others, "model", "models"))
	}
	return err
}

// listBuiltin describes the builtin model.
func listBuiltin() (listedJSON, error) {
	dir, err := weights.BuiltinDir()
	if err != nil {
		return listedJSON{}, err
	}
	m := &shownJSON{Dir: dir}
	if err := m.listDir(); err != nil {
		return listedJSON{}, err
	}
	l := listedJSON{Model: weights.Builtin, Revisions: []string{}, Dir: m.Dir, Bytes: m.Bytes}
	for _, f := range m.Files {
		info, err := os.Stat(filepath.Join(m.Dir, f.Name))
		if err != nil {
			return l, err
		}
		if at := info.ModTime().UTC().Truncate(time.Second); at.After(l.Modified) {
			l.Modified = at
		}
	}
	return l, nil
}

// printList prints the list as a table.
func printList(s command.Streams, listed []listedJSON) error {
	t := output.Table{Header: []string{"size", "written", "commit", "model"}}
	for _, l := range listed {
		name := l.Model
		if len(l.Revisions) > 0 {
			name += " (" + strings.Join(l.Revisions, ", ") + ")"
		}
		t.Add(output.Bytes(l.Bytes), l.Modified.Local().Format("2006-01-02 15:04"), cmp.Or(fmt.Sprintf("%.12s", l.Commit), "-"), name)
	}
	return t.Write(s.Out, output.Width(s.Out))
}
