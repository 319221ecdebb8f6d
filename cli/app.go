// Package cli implements the command line of mlxrank: flags in, text and JSON out.
//
// The compatibility promise of package engine also covers commands, flags, JSON
// names, output streams and exit statuses. Texts and tables for people may change.
package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/bench"
	"github.com/mlxrank/mlxrank/cli/conform"
	"github.com/mlxrank/mlxrank/cli/doctor"
	"github.com/mlxrank/mlxrank/cli/eval"
	"github.com/mlxrank/mlxrank/cli/fleet"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/key"
	"github.com/mlxrank/mlxrank/cli/mcp"
	"github.com/mlxrank/mlxrank/cli/model"
	"github.com/mlxrank/mlxrank/cli/rerank"
	"github.com/mlxrank/mlxrank/cli/score"
	"github.com/mlxrank/mlxrank/cli/serve"
	"github.com/mlxrank/mlxrank/cli/tune"
)

// Streams are the standard streams of a run.
type Streams = command.Streams

// Run executes the command line args, whose first element is the program's name.
// It prints errors and returns the exit status: 0 for success, 1 for a failure, 2
// for a wrong command line, 130 when ctx was cancelled.
func Run(ctx context.Context, args []string, s Streams) int {
	if len(args) > 1 && args[1] == completeCommand {
		return command.Report(ctx, s.Err, command.PrintLines(s.Out, candidates(newApp(s).Commands, args[2:])))
	}
	return command.Run(ctx, args, s, newApp)
}

func newApp(s command.Streams) *cli.App {
	app := command.NewApp(s,
		rerank.Command(s), score.Command(s), fleet.Command(s), tokenizeCommand(s), model.Command(s), eval.Command(s), bench.Command(s), serve.Command(s), key.Command(s), mcp.Command(s), conform.Command(s), tune.Command(s), doctor.Command(s),
		envCommand(s), bundleCommand(s), debugCommand(s), completionCommand(s), manCommand(s), versionCommand(s), helpCommand())
	app.Usage = "rank passages by how well they answer a query, with cross-encoders on MLX"
	app.UsageText = "mlxrank COMMAND [flags]"
	app.Description = "Flags follow the command. Environment variables, such as MLXRANK_MODEL or\n" +
		"MLXRANK_MAX_LENGTH, and a config file can also set the model, the device and most\n" +
		"other settings of the engine and of serve. The command line overrides the\n" +
		"environment, and the environment overrides the config file.\n\n" +
		"The config file is mlxrank/config.yaml in the user's configuration folder, or the\n" +
		"file that --config or MLXRANK_CONFIG names. It is YAML with the flags' names as keys,\n" +
		"such as \"max-length: 256\"; a key may have _ for -. mlxrank warns of unknown\n" +
		"variables that begin with MLXRANK_. NO_COLOR turns off the colours of the log."
	app.Flags = []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}, cli.HelpFlag}
	app.Action = func(c *cli.Context) error { return withoutCommand(c, s) }
	return app
}

// withoutCommand handles a command line that names no known command.
func withoutCommand(c *cli.Context, s command.Streams) error {
	if c.Bool("version") {
		return printVersion(s.Out, false)
	}
	if !c.Args().Present() {
		return command.Usagef("no command given; %s", listed(c.App.Commands))
	}
	return unknownCommand(c.Args().First(), c.App.Commands)
}

func unknownCommand(name string, commands []*cli.Command) error {
	return command.Usagef("unknown command %q%s; %s", name, command.Hint(name, commands), listed(commands))
}

func listed(commands []*cli.Command) string {
	return "commands: " + strings.Join(command.Names(commands), ", ") + " (see mlxrank --help)"
}

// helpCommand returns the command help. The one of urfave/cli shows no subcommand
// of a command.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name:        "help",
		Aliases:     []string{"h"},
		Usage:       "show this list, or the help of a command",
		UsageText:   "mlxrank help [COMMAND]",
		Description: command.Examples([2]string{"Show the help of a command", "mlxrank help model pull"}),
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowAppHelp(c)
			}
			var found *cli.Command
			commands := c.App.Commands
			for _, name := range c.Args().Slice() {
				i := slices.IndexFunc(commands, func(known *cli.Command) bool { return known.HasName(name) })
				switch {
				case i < 0 && found == nil:
					return unknownCommand(name, commands)
				case i < 0:
					return command.Usagef("%s has no command %q%s (see %s --help)", found.Name, name, command.Hint(name, commands), found.HelpName)
				}
				found, commands = commands[i], commands[i].Subcommands
			}
			return c.App.RunContext(c.Context, slices.Concat([]string{c.App.Name}, c.Args().Slice(), []string{"--help"}))
		},
	}
}
