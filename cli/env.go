package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// The tokenizer library, which is linked into every program with package
// engine, and the environment variable that names for go build where it is.
const (
	archiveFile = "libtokenizers.a"
	ldflagsEnv  = "CGO_LDFLAGS"
)

func envCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "env",
		Usage:     "print the environment that Go programs with package engine are built and run in",
		UsageText: "mlxrank env [--json]",
		Description: "Prints lines for a shell, which set\n\n" +
			"  " + ldflagsEnv + "          for go build: where the tokenizer library is; other flags stay\n" +
			"  " + mlx.LibraryEnv + "      for the program: the file of libmlxrank\n" +
			"  " + weights.BuiltinEnv + "  for the program: the folder of the builtin model's encoder\n\n" +
			"to the parts that this mlxrank uses. It changes and loads nothing.\n\n" +
			command.Examples(
				[2]string{"Build a program of your own", `eval "$(mlxrank env)" && go build`},
				[2]string{"Configure an editor", "mlxrank env --json"},
			),
		Flags: []cli.Flag{command.JSONFlag()},
		Action: func(c *cli.Context) error {
			if err := command.NoArguments(c); err != nil {
				return err
			}
			vars, err := environment(s.Err)
			if err != nil {
				return err
			}
			return printEnvironment(s.Out, vars, c.Bool("json"))
		},
	}
}

// A variable is one of the environment.
type variable struct{ name, value string }

// environment finds what a program needs. Where the builtin model is missing
// that is said on stderr alone: programs with other models do without it.
func environment(stderr io.Writer) ([]variable, error) {
	library, err := mlx.Find("")
	if err != nil {
		return nil, err
	}
	archive, err := findArchive(library)
	if err != nil {
		return nil, err
	}
	flags, err := addSearchPath(os.Getenv(ldflagsEnv), filepath.Dir(archive))
	if err != nil {
		return nil, err
	}
	vars := []variable{{ldflagsEnv, flags}, {mlx.LibraryEnv, library}}
	builtin, err := weights.BuiltinDir()
	if err != nil {
		_, err := fmt.Fprintf(stderr, "mlxrank: %s is not set; programs cannot use the model builtin: %v\n", weights.BuiltinEnv, err)
		return vars, err
	}
	if builtin, err = filepath.Abs(builtin); err != nil {
		return nil, err
	}
	return append(vars, variable{weights.BuiltinEnv, builtin}), nil
}

// findArchive looks for the tokenizer library where an installation and a build
// tree have it: in libmlxrank's, then in this program's.
func findArchive(library string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return "", err
	}
	lib, prefix := filepath.Dir(library), filepath.Dir(filepath.Dir(exe))
	const inTree = "tokenizers/" + archiveFile
	var tried []string
	for _, file := range []string{
		filepath.Join(lib, archiveFile),
		filepath.Join(filepath.Dir(lib), inTree),
		filepath.Join(prefix, "lib", "mlxrank", archiveFile),
		filepath.Join(prefix, inTree),
	} {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		tried = append(tried, "\n  "+file)
	}
	return "", fmt.Errorf("%s, which go build links, was not found; run `make build` in a checkout of mlxrank, or install it "+
		"with its lib folder; tried:%s", archiveFile, strings.Join(tried, ""))
}

// addSearchPath puts dir in front of what the linker is told to search. Of the
// two kinds of quotes that go takes around a flag, neither protects the
// characters refused here on their way to the linker.
func addSearchPath(flags, dir string) (string, error) {
	if strings.ContainsFunc(dir, func(r rune) bool { return r == '"' || r == '\\' || unicode.IsControl(r) }) {
		return "", fmt.Errorf("go build cannot link from %q: it takes no folder with a double quote, backslash or control character "+
			"in its name; move or rename it", dir)
	}
	flag := `"-L` + dir + `"`
	if strings.Contains(flags, flag) {
		return flags, nil
	}
	return strings.TrimSpace(flag + " " + flags), nil
}

func printEnvironment(w io.Writer, vars []variable, asJSON bool) error {
	if asJSON {
		object := map[string]string{}
		for _, v := range vars {
			object[v.name] = v.value
		}
		return output.PrintJSON(w, object)
	}
	for _, v := range vars {
		if _, err := fmt.Fprintf(w, "export %s=%s\n", v.name, shellQuoted(v.value)); err != nil {
			return err
		}
	}
	return nil
}

// shellQuoted is s as a word of a POSIX shell.
func shellQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
