package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

func modelListCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the models in the cache",
		UsageText: "mlxrank model list [--json]",
		Description: "Lists the models that are complete and of a kind that mlxrank runs, with the time\n" +
			"at which their newest file was written.\n\n" +
			examples(
				[2]string{"What is there", "mlxrank model list"},
				[2]string{"Only their names", "mlxrank model list --json | jq -r '.[].model'"},
			),
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return modelList(c, s)
		},
	}
}

type listedJSON struct {
	Model     string    `json:"model"`
	Revisions []string  `json:"revisions"` // branches and tags that were at the commit
	Commit    string    `json:"commit"`
	Dir       string    `json:"dir"`
	Bytes     int64     `json:"bytes"`
	Modified  time.Time `json:"modified"`
}

func newListed(s hub.Snapshot) listedJSON {
	return listedJSON{s.Model, append([]string{}, s.Revisions...), s.Commit, s.Dir, s.Size(), s.Modified().UTC().Truncate(time.Second)}
}

func modelList(c *cli.Context, s Streams) error {
	client, err := hub.FromEnvironment()
	if err != nil {
		return err
	}
	all, err := client.List()
	if err != nil {
		return err
	}
	listed, others := []listedJSON{}, 0
	for _, snapshot := range all {
		if weights.CheckDir(snapshot.Dir) != nil {
			others++
			continue
		}
		listed = append(listed, newListed(snapshot))
	}
	switch {
	case c.Bool("json"):
		err = printJSON(s, listed)
	case len(listed) > 0:
		err = printList(s, listed)
	default:
		_, err = fmt.Fprintf(s.Err, "no model that mlxrank runs is in %s; get one with mlxrank model pull %s\n", client.Cache(), weights.Default)
	}
	if err == nil && others > 0 {
		_, err = fmt.Fprintf(s.Err, "not listed: %s of another kind (mlxrank model show REF says why)\n", count(others, "model", "models"))
	}
	return err
}

func printList(s Streams, listed []listedJSON) error {
	t := table{header: []string{"size", "written", "commit", "model"}}
	for _, l := range listed {
		name := l.Model
		if len(l.Revisions) > 0 {
			name += " (" + strings.Join(l.Revisions, ", ") + ")"
		}
		t.add(bytesText(l.Bytes), l.Modified.Local().Format("2006-01-02 15:04"), l.Commit[:12], name)
	}
	return t.write(s.Out, widthOf(s.Out))
}

// printJSON prints a value, indented.
func printJSON(s Streams, v any) error {
	encoder := json.NewEncoder(s.Out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
