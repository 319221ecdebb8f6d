package model

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

func modelRemoveCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "remove a model from the cache",
		UsageText: "mlxrank model remove [--yes | --dry-run] REF",
		Description: "Removes the files of the model at the revision, including those that other programs\n" +
			"downloaded, except files that another revision in the cache shares. The command\n" +
			"shows what it will remove and asks on the terminal. Without a terminal, it removes\n" +
			"nothing unless --yes is given.\n\n" +
			command.Examples(
				[2]string{"Remove a model", "mlxrank model remove " + weights.Default},
				[2]string{"Show what would be removed", "mlxrank model remove --dry-run " + weights.Default},
				[2]string{"Remove one commit of it without asking", "mlxrank model remove --yes " + weights.Default + "@c5ee24cb16019beea0893ab7796b1df96625c6b8"},
			),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "remove without asking", DisableDefaultText: true},
			&cli.BoolFlag{Name: "dry-run", Usage: "print what would be removed, and remove nothing", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error { return modelRemove(c, s) },
	}
}

func modelRemove(c *cli.Context, s command.Streams) error {
	ref, client, err := hubReference(c)
	if err != nil {
		return err
	}
	if c.Bool("yes") && c.Bool("dry-run") {
		return command.Usagef("--yes and --dry-run are both given; choose one")
	}
	if !c.Bool("yes") {
		planned, err := client.Removal(ref)
		if err != nil {
			return fmt.Errorf("model %q: %w", ref.String(), err)
		}
		if c.Bool("dry-run") {
			_, err := fmt.Fprintln(s.Out, "would remove "+removalText(ref, planned))
			return err
		}
		if err := confirm(s, "remove "+removalText(ref, planned)); err != nil {
			return err
		}
	}
	removed, err := client.Remove(ref)
	if err != nil {
		return fmt.Errorf("model %q: %w", ref.String(), err)
	}
	_, err = fmt.Fprintln(s.Out, "removed "+removalText(ref, removed))
	return err
}

// confirm asks a question on the terminal and returns an error unless the answer is yes.
func confirm(s command.Streams, what string) error {
	in, ok := s.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return command.Usagef("this would %s; standard input is not a terminal: give --yes to remove it, or --dry-run to print this only", what)
	}
	if _, err := fmt.Fprintf(s.Err, "%s? [y/N] ", what); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("the answer was not yes; nothing was removed")
}

// removalText describes what a removal removes.
func removalText(ref hub.Ref, r hub.Removed) string {
	text := fmt.Sprintf("%s at commit %s", ref.Model, r.Commit)
	if r.Commit == "" {
		text = ref.Model + ", whose download is not complete"
	}
	if len(r.Revisions) > 0 {
		text += " (" + strings.Join(r.Revisions, ", ") + ")"
	}
	text += fmt.Sprintf(": %s, %s", output.Count(r.Blobs+r.Copies, "file", "files"), output.Bytes(r.Bytes))
	if r.Kept > 0 {
		text += fmt.Sprintf("; %s kept for other revisions", output.Count(r.Kept, "shared file is", "shared files are"))
	}
	return text
}
