// Package cli is the command line of mlxrank: flags in, text and JSON out.
//
// Commands, flags, names in JSON, where output goes and exit statuses are kept as
// package engine's API is; texts and tables for people may change.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// Streams are the standard streams of a run. Out carries results only; facts
// about the run, the log and errors go to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run executes the command line args, whose first element is the program's name.
// It prints errors and returns the exit status: 0, 1 for a failure, 2 for a wrong
// command line, 130 when ctx was cancelled.
func Run(ctx context.Context, args []string, s Streams) int {
	if len(args) > 1 && args[1] == completeCommand {
		return report(ctx, s.Err, printCandidates(s.Out, newApp(s).Commands, args[2:]))
	}
	return runApp(ctx, args, s, newApp)
}

// runApp executes a command line of the program that build returns.
func runApp(ctx context.Context, args []string, s Streams, build func(Streams) *cli.App) int {
	if _, file := s.Err.(*os.File); !file { // the engine logs from goroutines of its own
		s.Err = zerolog.SyncWriter(s.Err)
	}
	help := &failingWriter{w: s.Out}
	app := build(s)
	app.Writer = help
	args = flagsFirst(args, app.Commands)
	err := refuseRepeats(args, app.Commands)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil && help.err != nil {
		err = fmt.Errorf("write standard output: %w", help.err)
	}
	downloadsOf(app).end()
	return report(ctx, s.Err, err)
}

// A failingWriter keeps the first error of its writes, which the flag package
// drops when it prints help.
type failingWriter struct {
	w   io.Writer
	err error
}

func (f *failingWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if f.err == nil {
		f.err = err
	}
	return n, err
}

func newApp(s Streams) *cli.App {
	app := baseApp(s,
		rerankCommand(s), scoreCommand(s), tokenizeCommand(s), modelCommand(s), benchCommand(s), serveCommand(s), doctorCommand(s), envCommand(s), bundleCommand(s), debugCommand(s),
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

// baseApp returns a program with the given commands.
func baseApp(s Streams, commands ...*cli.Command) *cli.App {
	app := &cli.App{
		Name:           "mlxrank",
		Commands:       commands,
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // runApp reports and main exits
		Reader:         s.In,
		Writer:         s.Out,
		ErrWriter:      s.Err,
		Metadata:       map[string]any{downloadsKey: newDownloads(s.Err)},
	}
	for _, c := range app.Commands {
		prepare(c)
	}
	return app
}

// prepare gives a command and its subcommands what all commands have.
func prepare(c *cli.Command) {
	c.OnUsageError = onUsageError
	// Without a help subcommand, which would take the place of a passage that
	// reads "help"; its template is then to be named.
	c.HideHelpCommand = true
	c.CustomHelpTemplate = cli.CommandHelpTemplate
	if len(c.Subcommands) > 0 {
		c.CustomHelpTemplate = cli.SubcommandHelpTemplate
	}
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
}

// withoutCommand answers a command line that names no command of ours.
func withoutCommand(c *cli.Context, s Streams) error {
	if c.Bool("version") {
		return printVersion(s.Out, false)
	}
	var names []string
	for _, command := range c.App.Commands {
		names = append(names, command.Name)
	}
	commands := "commands: " + strings.Join(names, ", ") + " (see mlxrank --help)"
	if !c.Args().Present() {
		return usagef("no command given; %s", commands)
	}
	return usagef("unknown command %q%s; %s", c.Args().First(), commandHint(c.Args().First(), c.App.Commands), commands)
}

// noArguments refuses arguments of a command that takes flags only.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no argument %q (see %s --help)", c.Command.Name, c.Args().First(), c.Command.HelpName)
	}
	return nil
}

// examples lays out the examples of a help text, each what it does and a command.
func examples(pairs ...[2]string) string {
	var b strings.Builder
	b.WriteString("Examples:")
	for _, p := range pairs {
		fmt.Fprintf(&b, "\n  # %s\n  %s", p[0], p[1])
	}
	return b.String()
}
