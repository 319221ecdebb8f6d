package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/internal/bundle"
	"github.com/mlxrank/mlxrank/mlx"
)

func bundleCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "bundle",
		Usage:     "copy the libraries into a macOS app",
		UsageText: "mlxrank bundle --app Foo.app [flags]",
		Description: "Copies libmlxr, libmlxrank and MLX to Contents/Frameworks of the app, and Metal's\n" +
			"kernels and the licenses to Contents/Resources. It also edits the names and run paths\n" +
			"by which the libraries find one another. The app's LSMinimumSystemVersion selects the\n" +
			"build of MLX: from macOS 26.2 on, the build with kernels for the matrix units of M5.\n" +
			"If any file does not fit, nothing is changed. A second run changes nothing more,\n" +
			"signatures included. The command runs on any system.\n\n" +
			"The command does not sign. Standard output lists the codesign commands to run, and\n" +
			"nothing else. See docs/user/bundling.md.\n\n" +
			command.Examples(
				[2]string{"Show what would be done", "mlxrank bundle --app Foo.app --dry-run"},
				[2]string{"Bundle and sign", "mlxrank bundle --app Foo.app >sign.sh && IDENTITY=\"Developer ID Application: ...\" sh -e sign.sh"},
				[2]string{"From an unpacked release, with the builtin model", "mlxrank bundle --app Foo.app --from ~/mlxrank-macos-arm64 --with-builtin"},
			),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "app", Usage: "`FOLDER` of the app"},
			&cli.StringFlag{Name: "from", DefaultText: "this program's own", Usage: "`DIR` with the libraries: a release, an installation prefix, or a build folder"},
			&cli.BoolFlag{Name: "with-builtin", DisableDefaultText: true, Usage: "also copy the encoder of the builtin model"},
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Usage: "check and print what would be done, without changes"},
		},
		Action: func(c *cli.Context) error { return bundleApp(c, s) },
	}
}

func bundleApp(c *cli.Context, s command.Streams) (err error) {
	if err := command.NoArguments(c); err != nil {
		return err
	}
	for _, name := range []string{"app", "from"} {
		if c.IsSet(name) && c.String(name) == "" {
			return command.Usagef("--%s is empty", name)
		}
	}
	if !c.IsSet("app") {
		return command.Usagef("--app is missing; give the app's folder (see mlxrank bundle --help)")
	}
	app, err := bundle.Open(c.String("app"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.Close()) }()
	source, err := findParts(c.String("from"))
	if err != nil {
		return err
	}
	plan, err := app.Plan(source, c.Bool("with-builtin"))
	if err != nil {
		return fmt.Errorf("nothing was changed in %s:\n%w", app.Path, err)
	}
	if !c.Bool("dry-run") {
		if err := plan.Apply(c.Context); err != nil {
			return err
		}
	}
	if err := writePlan(s.Err, app, plan, c.Bool("dry-run")); err != nil {
		return err
	}
	return command.PrintLines(s.Out, plan.Sign)
}

// findParts finds the libraries in the given folder, or next to this program's own
// libraries if from is "".
func findParts(from string) (*bundle.Source, error) {
	if from != "" {
		return bundle.FindSource([]string{from})
	}
	source, err := bundle.FindSource(mlx.Folders())
	if errors.Is(err, bundle.ErrNoSource) {
		return nil, fmt.Errorf("%w; give a release for macOS with --from", err)
	}
	return source, err
}

// writePlan prints what was done, or what a dry run would do.
func writePlan(w io.Writer, app *bundle.App, plan *bundle.Plan, dry bool) error {
	var b strings.Builder
	row := func(name, text string) { fmt.Fprintf(&b, "%-10s%s\n", name, text) }
	row("app", fmt.Sprintf("%s: %s, for macOS %v and newer (by %s)", app.Path, app.Identifier, app.Minimum, app.MinimumBy))
	row("mlx", plan.Variant)
	for _, f := range plan.Files {
		text := f.Target
		if f.Source != "" {
			text += ", " + output.Bytes(f.Size) + ", from " + f.Source
		}
		row(f.State, text)
		for _, note := range f.Notes {
			row("", note)
		}
	}
	for _, note := range plan.Notes {
		row("note", note)
	}
	switch {
	case dry && plan.Changes():
		row("done", "nothing: this was a dry run")
	case !plan.Changes():
		row("done", "nothing: everything was in place")
	}
	if len(plan.Sign) > 0 {
		row("sign", "run the commands on standard output, with IDENTITY=\"Developer ID Application: ...\";")
		row("", "to use the app on this Mac only, IDENTITY=- without --timestamp --options runtime is enough")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
