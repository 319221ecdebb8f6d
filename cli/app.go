// Package cli is the command line of mlxrank: flags in, text and JSON out.
//
// Commands, flags, names in JSON, where output goes and exit statuses are kept as
// package engine's API is; texts and tables for people may change.
package cli

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/bench"
	"github.com/mlxrank/mlxrank/cli/doctor"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/model"
	"github.com/mlxrank/mlxrank/cli/rerank"
	"github.com/mlxrank/mlxrank/cli/score"
	"github.com/mlxrank/mlxrank/cli/serve"
)

// Streams are the standard streams of a run.
type Streams = command.Streams

// Run executes the command line args, whose first element is the program's name.
// It prints errors and returns the exit status: 0, 1 for a failure, 2 for a wrong
// command line, 130 when ctx was cancelled.
func Run(ctx context.Context, args []string, s command.Streams) int {
	if len(args) > 1 && args[1] == completeCommand {
		return command.Report(ctx, s.Err, printCandidates(s.Out, newApp(s).Commands, args[2:]))
	}
	return command.Run(ctx, args, s, newApp)
}

func newApp(s command.Streams) *cli.App {
	app := command.NewApp(s,
		rerank.Command(s), score.Command(s), tokenizeCommand(s), model.Command(s), bench.Command(s), serve.Command(s), doctor.Command(s), envCommand(s), bundleCommand(s), debugCommand(s),
		completionCommand(s), manCommand(s), versionCommand(s))
	app.Usage = "rank passages by how well they answer a query, with cross-encoders on MLX"
	app.UsageText = "mlxrank COMMAND [flags]"
	app.Description = "Flags follow the command. Those that choose the model, the device and the like can\n" +
		"also be set by environment variables, such as MLXRANK_MODEL or MLXRANK_MAX_LENGTH,\n" +
		"and by a config file: YAML with their names as keys, such as \"max-length: 256\", in\n" +
		"which _ may stand for -. Other variables that begin with MLXRANK_ are warned of. It is\n" +
		"mlxrank/config.yaml in the user's configuration folder, or the one that --config or\n" +
		"MLXRANK_CONFIG names. The command line comes first, then the environment, then the\n" +
		"file. NO_COLOR keeps colours out of the log."
	app.Flags = []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}}
	app.Action = func(c *cli.Context) error { return withoutCommand(c, s) }
	return app
}

// withoutCommand answers a command line that names no command of ours.
func withoutCommand(c *cli.Context, s command.Streams) error {
	if c.Bool("version") {
		return printVersion(s.Out, false)
	}
	commands := "commands: " + strings.Join(command.Names(c.App.Commands), ", ") + " (see mlxrank --help)"
	if !c.Args().Present() {
		return command.Usagef("no command given; %s", commands)
	}
	return command.Usagef("unknown command %q%s; %s", c.Args().First(), command.CommandHint(c.Args().First(), c.App.Commands), commands)
}
