package model

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

func Command(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "model",
		Usage:     "download, list, show, verify and remove models",
		UsageText: "mlxrank model COMMAND [flags] [REF]",
		Description: "REF names a model of the Hugging Face hub, ORG/NAME or ORG/NAME@REVISION, where a\n" +
			"revision is a branch, a tag or a commit; the address of its page, such as\n" +
			"https://huggingface.co/ORG/NAME, will do too. Models are kept in the cache that Python's\n" +
			"huggingface_hub uses too. Other commands download a model when it is first needed,\n" +
			"and use the cache without a connection from then on.\n\n" +
			"HF_HOME or HF_HUB_CACHE say where the cache is, or SENTENCE_TRANSFORMERS_HOME, which\n" +
			"comes first; HF_TOKEN opens private models, HF_ENDPOINT names another hub, and\n" +
			"HF_HUB_OFFLINE=1 forbids every connection. HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and\n" +
			"NO_PROXY count. Without symbolic links, or with HF_HUB_DISABLE_SYMLINKS=1, files are\n" +
			"kept as huggingface_hub keeps them there.\n\n" +
			command.Examples(
				[2]string{"Download the default model", "mlxrank model pull " + weights.Default},
				[2]string{"What is there", "mlxrank model list"},
			),
		Subcommands: []*cli.Command{
			modelPullCommand(s), modelListCommand(s), modelShowCommand(s), modelVerifyCommand(s), modelRemoveCommand(s),
		},
		Action: func(c *cli.Context) error {
			var names []string
			for _, command := range c.Command.Subcommands {
				names = append(names, command.Name)
			}
			if !c.Args().Present() {
				return command.Usagef("model needs a command: %s (see mlxrank model --help)", strings.Join(names, ", "))
			}
			unknown := c.Args().First()
			return command.Usagef("model has no command %q%s; it has %s (see mlxrank model --help)",
				unknown, command.CommandHint(unknown, c.Command.Subcommands), strings.Join(names, ", "))
		},
	}
}

// reference returns the one argument of a command on a model.
func reference(c *cli.Context) (string, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return "", command.Usagef("model %s needs one REF, as in mlxrank model %[1]s %s (see %s --help)", c.Command.Name, weights.Default, c.Command.HelpName)
	}
	return c.Args().First(), nil
}

// hubReference is reference for commands that work on the cache of the hub.
func hubReference(c *cli.Context) (hub.Ref, error) {
	text, err := reference(c)
	if err != nil {
		return hub.Ref{}, err
	}
	if text == weights.Builtin {
		return hub.Ref{}, command.Usagef("builtin is part of mlxrank: there is nothing to %s", c.Command.Name)
	}
	ref, err := hub.ParseRef(text)
	if err != nil {
		return ref, command.Usagef("%v%s (see %s --help)", err, weights.SuggestModel(text), c.Command.HelpName)
	}
	return ref, nil
}

// hubModelOf is the model of the hub that the command line names, and the client
// to deal with it.
func hubModelOf(c *cli.Context) (hub.Ref, *hub.Client, error) {
	ref, err := hubReference(c)
	if err != nil {
		return ref, nil, err
	}
	client, err := hub.FromEnvironment()
	return ref, client, err
}

// modelError adds which model err is about, and how to get it.
func modelError(ref string, err error) error {
	if errors.Is(err, weights.ErrNotDownloaded) {
		err = fmt.Errorf("%w; %s", err, command.PullAdvice(ref))
	}
	return fmt.Errorf("model %q: %w", ref, err)
}

func modelPullCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "download a model, or what is new of it",
		UsageText: "mlxrank model pull REF",
		Description: "Asks the hub which commit the revision is at, downloads what the cache lacks and\n" +
			"prints the directory of the model's files. Each file is checked by its size and\n" +
			"hash. An interrupted download goes on where it stopped.\n\n" +
			command.Examples(
				[2]string{"Download a model", "mlxrank model pull " + weights.Default},
				[2]string{"A certain version of it", "mlxrank model pull " + weights.Default + "@refs/pr/1"},
				[2]string{"From a mirror, into a directory of your own", "HF_ENDPOINT=https://hub.example HF_HUB_CACHE=./models mlxrank model pull " + weights.Default},
			),
		Action: func(c *cli.Context) error {
			ref, client, err := hubModelOf(c)
			if err != nil {
				return err
			}
			shown := command.DownloadsOf(c.App)
			snapshot, err := client.Pull(c.Context, ref, hub.PullOptions{
				Progress: shown.Report, Check: weights.CheckConfig, Warn: shown.Warn,
			})
			shown.End()
			if errors.Is(err, hub.ErrNoModel) {
				err = fmt.Errorf("%w%s", err, weights.SuggestModel(ref.Model))
			}
			if err != nil {
				return fmt.Errorf("model %q: %w", ref.String(), err)
			}
			if _, err := fmt.Fprintf(s.Err, "%s at commit %s: %s, %s\n", ref, snapshot.Commit,
				output.Count(len(snapshot.Files), "file", "files"), output.Bytes(snapshot.Size())); err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.Out, snapshot.Dir)
			return err
		},
	}
}
