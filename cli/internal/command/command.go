// Package command provides the shared parts of mlxrank's commands: flags, settings,
// errors, hints, and the notices of a run.
package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/progress"
	"github.com/mlxrank/mlxrank/engine"
)

// Streams are the standard streams of a run. Out carries results only; facts
// about the run, the log and errors go to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Hangups, if set, makes SIGHUP a request to read files again: it sends on the
	// channel from then on, and no longer ends the run.
	Hangups func() <-chan struct{}
}

// Run executes a command line of the program that build returns. It prints errors
// and returns the exit status.
func Run(ctx context.Context, args []string, s Streams, build func(Streams) *cli.App) int {
	if _, file := s.Err.(*os.File); !file { // the engine logs from several goroutines
		s.Err = zerolog.SyncWriter(s.Err)
	}
	help := &failingWriter{w: s.Out}
	app := build(s)
	app.Writer = help
	args = FlagsFirst(args, app.Commands)
	err := refuseRepeats(args, app.Commands)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil && help.err != nil {
		err = fmt.Errorf("write standard output: %w", help.err)
	}
	SharedDownloads(app).End()
	return Report(ctx, s.Err, err)
}

// A failingWriter keeps its first write error, because urfave/cli drops errors
// when it prints help.
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

// NewApp returns a program with the given commands.
func NewApp(s Streams, commands ...*cli.Command) *cli.App {
	app := &cli.App{
		Name:           "mlxrank",
		Commands:       commands,
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // Run reports and main exits
		Reader:         s.In,
		Writer:         s.Out,
		ErrWriter:      s.Err,
		Metadata:       map[string]any{downloadsKey: progress.NewDownloads(s.Err)},
	}
	for _, c := range app.Commands {
		prepare(c, app.Name+" "+c.Name)
	}
	return app
}

// prepare sets what all commands share, in a command with the given full name and
// in its subcommands.
func prepare(c *cli.Command, name string) {
	c.OnUsageError = onUsageError
	// A help subcommand would hide a passage that reads "help". Without that
	// subcommand, urfave/cli needs the template by name.
	c.HideHelpCommand = true
	c.CustomHelpTemplate = cli.CommandHelpTemplate
	if len(c.Subcommands) > 0 {
		c.CustomHelpTemplate = cli.SubcommandHelpTemplate
	}
	for _, sub := range c.Subcommands {
		sub.HelpName = name + " " + sub.Name // urfave/cli would set it when the command runs
		prepare(sub, sub.HelpName)
	}
}

// NoArguments rejects arguments of a command that takes flags only.
func NoArguments(c *cli.Context) error {
	if c.Args().Present() {
		return Usagef("%s takes no argument %q (see %s --help)", c.Command.Name, c.Args().First(), c.Command.HelpName)
	}
	return nil
}

// RequireSubcommand is the action of a command that only has subcommands. It
// rejects a command line that names none of them.
func RequireSubcommand(c *cli.Context) error {
	name, known := c.Command.Name, strings.Join(Names(c.Command.Subcommands), ", ")
	unknown := c.Args().First()
	if !c.Args().Present() {
		return Usagef("%s needs a command: %s (see %s --help)", name, known, c.Command.HelpName)
	}
	return Usagef("%s has no command %q%s; it has %s (see %s --help)", name, unknown, Hint(unknown, c.Command.Subcommands), known, c.Command.HelpName)
}

// Examples formats the examples of a help text: pairs of a purpose and a command.
func Examples(pairs ...[2]string) string {
	text := "Examples:"
	for _, p := range pairs {
		text += "\n  # " + p[0] + "\n  " + p[1]
	}
	return text
}

// PrintLines writes each line with a newline.
func PrintLines(w io.Writer, lines []string) error {
	_, err := io.WriteString(w, strings.Join(append(lines, ""), "\n"))
	return err
}

const downloadsKey = "downloads"

// SharedDownloads returns the progress of downloads, which all commands of a run share.
func SharedDownloads(app *cli.App) *progress.Downloads {
	return app.Metadata[downloadsKey].(*progress.Downloads)
}

// Require rejects a command line that lacks one of the named flags or has
// arguments.
func Require(c *cli.Context, names ...string) error {
	for _, name := range names {
		if c.String(name) == "" {
			return Usagef("--%s is missing (see %s --help)", name, c.Command.HelpName)
		}
	}
	return NoArguments(c)
}

// Version is the version of mlxrank.
const Version = engine.Version

// VersionLine returns the version with Go's version and the platform.
func VersionLine() string {
	return fmt.Sprintf("mlxrank %s (%s %s/%s)", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
