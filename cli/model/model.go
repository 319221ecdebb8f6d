// Package model implements the commands on models: pull, list, show, verify, quantize and remove.
package model

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

// Command returns the command model with its subcommands.
func Command(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "model",
		Usage:     "download, list, show, verify, quantize and remove models",
		UsageText: "mlxrank model COMMAND [flags] [REF]",
		Description: "REF names a model of the Hugging Face hub: ORG/NAME, ORG/NAME@REVISION, or the URL\n" +
			"of its page, such as https://huggingface.co/ORG/NAME. A revision is a branch, a tag\n" +
			"or a commit. mlxrank and Python's huggingface_hub share one cache of models. Other\n" +
			"commands download a model when they first need it; then they use the cache without a\n" +
			"connection.\n\n" +
			"SENTENCE_TRANSFORMERS_HOME, HF_HUB_CACHE or HF_HOME, in this order, set the folder of\n" +
			"the cache. HF_TOKEN opens private models, HF_ENDPOINT sets another hub, and\n" +
			"HF_HUB_OFFLINE=1 forbids all connections. HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and\n" +
			"NO_PROXY set the proxy. On file systems without symbolic links, or with\n" +
			"HF_HUB_DISABLE_SYMLINKS=1, the cache has the layout of huggingface_hub without links.\n\n" +
			command.Examples(
				[2]string{"Download the default model", "mlxrank model pull " + weights.Default},
				[2]string{"List the models in the cache", "mlxrank model list"},
			),
		Subcommands: []*cli.Command{
			modelPullCommand(s), modelListCommand(s), modelShowCommand(s), modelVerifyCommand(s), modelQuantizeCommand(s), modelRemoveCommand(s),
		},
		Action: command.RequireSubcommand,
	}
}

// reference returns the only argument of a command on a model.
func reference(c *cli.Context) (string, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return "", command.Usagef("model %s needs one REF, as in mlxrank model %[1]s %s (see %s --help)", c.Command.Name, weights.Default, c.Command.HelpName)
	}
	return c.Args().First(), nil
}

// hubReference returns the only argument as a model of the hub, with a client.
func hubReference(c *cli.Context) (hub.Ref, *hub.Client, error) {
	text, err := reference(c)
	if err != nil {
		return hub.Ref{}, nil, err
	}
	if text == weights.Builtin {
		return hub.Ref{}, nil, command.Usagef("builtin is part of mlxrank: there is nothing to %s", c.Command.Name)
	}
	ref, err := hub.ParseRef(text)
	if err != nil {
		return ref, nil, command.Usagef("%v%s (see %s --help)", err, weights.SuggestModel(text), c.Command.HelpName)
	}
	client, err := hub.FromEnvironment()
	return ref, client, err
}

// modelError adds to err the model and how to get it.
func modelError(ref string, err error) error {
	if errors.Is(err, weights.ErrNotDownloaded) {
		err = fmt.Errorf("%w; %s", err, command.PullAdvice(ref))
	}
	return fmt.Errorf("model %q: %w", ref, err)
}

func modelPullCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "download a model or update it",
		UsageText: "mlxrank model pull REF",
		Description: "Asks the hub for the commit of the revision, downloads the files that the cache\n" +
			"lacks, and prints the directory of the model. The size and the hash of each file are\n" +
			"checked. An interrupted download continues where it stopped.\n\n" +
			command.Examples(
				[2]string{"Download a model", "mlxrank model pull " + weights.Default},
				[2]string{"Download a revision of it", "mlxrank model pull " + weights.Default + "@refs/pr/1"},
				[2]string{"Download from a mirror, to another cache", "HF_ENDPOINT=https://hub.example HF_HUB_CACHE=./models mlxrank model pull " + weights.Default},
			),
		Action: func(c *cli.Context) error {
			ref, client, err := hubReference(c)
			if err != nil {
				return err
			}
			shown := command.SharedDownloads(c.App)
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
