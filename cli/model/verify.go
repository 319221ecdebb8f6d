package model

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

func modelVerifyCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check the hashes and the contents of a model's files",
		UsageText: "mlxrank model verify REF",
		Description: "Computes the hash of each file of the model in the cache and compares it with the\n" +
			"hash of the hub. Copies of a cache (cp -rL, rsync -L) are compared too; a file whose\n" +
			"hash is unknown is marked with -. Then the model is read as for scoring: tokenizer,\n" +
			"shapes, and every number of the weights. For a directory or builtin, the files are\n" +
			"only read. The exit status is 1 if a check fails.\n\n" +
			command.Examples([2]string{"Check a model of the cache", "mlxrank model verify " + weights.Default}),
		Action: func(c *cli.Context) error {
			ref, err := reference(c)
			if err != nil {
				return err
			}
			return modelVerify(c, s, ref)
		},
	}
}

func modelVerify(c *cli.Context, s command.Streams, ref string) error {
	m, err := lookAt(c.Context, ref)
	if err != nil {
		return err
	}
	faults, unknown, err := verifyFiles(c, s.Out, m.snapshot)
	if err != nil {
		return err
	}
	if unknown > 0 {
		if _, err := fmt.Fprintf(s.Err, "%s not compared because the hash is unknown; mlxrank model pull %s gets the hashes of copied files from the hub\n",
			output.Count(unknown, "file was", "files were"), m.Model); err != nil {
			return err
		}
	}
	state, text := "OK", "tokenizer, shapes and values"
	if !m.Supported {
		state, text = "FAIL", m.Reason
	}
	if _, err := fmt.Fprintf(s.Out, "%-6s%s\n", state, text); err != nil {
		return err
	}
	switch {
	case faults == 0 && m.Supported:
		return nil
	case faults == 0 && m.incomplete:
		return fmt.Errorf("model %q is not complete: %s", m.Model, command.PullAdvice(m.Model))
	case faults == 0: // a new download would have the same files
		return fmt.Errorf("model %q cannot be used", ref)
	}
	again := "get it again: mlxrank model remove --yes " + m.Model + " && mlxrank model pull " + m.Model
	if forbids := hub.Offline(); forbids != "" {
		again = "get it again, with " + forbids + " unset" + strings.TrimPrefix(again, "get it again")
	}
	return fmt.Errorf("model %q: %s above; remove the model and %s", m.Model, output.Count(faults, "damaged file", "damaged files"), again)
}

// verifyFiles compares the files of a snapshot with their hashes. It returns the number
// of files that differ and the number of files whose hash is unknown.
func verifyFiles(c *cli.Context, w io.Writer, snapshot *hub.Snapshot) (faults, unknown int, err error) {
	if snapshot == nil {
		return 0, 0, nil
	}
	client, err := hub.FromEnvironment()
	if err != nil {
		return 0, 0, err
	}
	width := 0
	for _, f := range snapshot.Files {
		width = max(width, len(f.Name))
	}
	for _, f := range snapshot.Files {
		state, text := "OK", output.Bytes(f.Size)
		err := client.VerifyFile(c.Context, *snapshot, f)
		if c.Context.Err() != nil {
			return faults, unknown, c.Context.Err()
		}
		switch {
		case errors.Is(err, hub.ErrNoHash):
			state, text, unknown = "-", text+", not compared: "+err.Error(), unknown+1
		case err != nil:
			state, text, faults = "FAIL", err.Error(), faults+1
		}
		line := fmt.Sprintf("%-6s%-*s  %s", state, width, f.Name, text)
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return faults, unknown, err
		}
	}
	return faults, unknown, nil
}
