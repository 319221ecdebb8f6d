// Package command holds what the commands of mlxrank share: flags, settings, errors,
// hints, and the notices of a run.
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
}

// Run executes a command line of the program that build returns.
func Run(ctx context.Context, args []string, s Streams, build func(Streams) *cli.App) int {
	if _, file := s.Err.(*os.File); !file { // the engine logs from goroutines of its own
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
	DownloadsOf(app).End()
	return Report(ctx, s.Err, err)
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

// NewApp returns a program with the given commands.
func NewApp(s Streams, commands ...*cli.Command) *cli.App {
	app := &cli.App{
		Name:           "mlxrank",
		Commands:       commands,
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // runApp reports and main exits
		Reader:         s.In,
		Writer:         s.Out,
		ErrWriter:      s.Err,
		Metadata:       map[string]any{downloadsKey: progress.NewDownloads(s.Err)},
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

// NoArguments refuses arguments of a command that takes flags only.
func NoArguments(c *cli.Context) error {
	if c.Args().Present() {
		return Usagef("%s takes no argument %q (see %s --help)", c.Command.Name, c.Args().First(), c.Command.HelpName)
	}
	return nil
}

// Examples lays out the examples of a help text, each what it does and a command.
func Examples(pairs ...[2]string) string {
	var b strings.Builder
	b.WriteString("Examples:")
	for _, p := range pairs {
		fmt.Fprintf(&b, "\n  # %s\n  %s", p[0], p[1])
	}
	return b.String()
}

const downloadsKey = "downloads"

// DownloadsOf returns the downloads of a run, which every command shares.
func DownloadsOf(app *cli.App) *progress.Downloads {
	return app.Metadata[downloadsKey].(*progress.Downloads)
}

// Require refuses a command line without the named flags, or with
// arguments.
func Require(c *cli.Context, names ...string) error {
	for _, name := range names {
		if c.String(name) == "" {
			return Usagef("--%s is missing (see %s --help)", name, c.Command.HelpName)
		}
	}
	return NoArguments(c)
}

const Version = engine.Version

func VersionLine() string {
	return fmt.Sprintf("mlxrank %s (%s %s/%s)", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
