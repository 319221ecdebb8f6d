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

const (
	// archiveFile is the tokenizer library, which go build links into every
	// program with package engine.
	archiveFile = "libtokenizers.a"
	// ldflagsEnv is the variable by which go build finds archiveFile.
	ldflagsEnv = "CGO_LDFLAGS"
)

func envCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "env",
		Usage:     "print the environment for building and running Go programs with package engine",
		UsageText: "mlxrank env [--json]",
		Description: "Prints shell commands that set three variables to the files of this installation:\n\n" +
			"  " + ldflagsEnv + "          for go build: folder of the tokenizer library, before the flags set already\n" +
			"  " + mlx.LibraryEnv + "      for the program: path of libmlxrank\n" +
			"  " + weights.BuiltinEnv + "  for the program: folder of the builtin model's encoder\n\n" +
			"The command changes no file and loads no library.\n\n" +
			command.Examples(
				[2]string{"Build your own program", `eval "$(mlxrank env)" && go build`},
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

// A variable is an environment variable and its value.
type variable struct{ name, value string }

// environment finds the values of the variables. If the builtin model is missing,
// it only prints a warning to stderr: programs with other models do not need it.
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
		_, err := fmt.Fprintf(stderr, "mlxrank: %s stays unset, so programs cannot use the builtin model: %v\n", weights.BuiltinEnv, err)
		return vars, err
	}
	if builtin, err = filepath.Abs(builtin); err != nil {
		return nil, err
	}
	return append(vars, variable{weights.BuiltinEnv, builtin}), nil
}

// findArchive finds the tokenizer library of an installation or a build tree:
// first next to libmlxrank, then next to this program.
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
	return "", fmt.Errorf("no %s, which go build links; run `make build` in a checkout of mlxrank, or install mlxrank "+
		"with its lib folder; tried:%s", archiveFile, strings.Join(tried, ""))
}

// addSearchPath puts dir in front of the linker's search path. It rejects names
// with characters that neither kind of quotes, which go accepts around a flag,
// protects on their way to the linker.
func addSearchPath(flags, dir string) (string, error) {
	if strings.ContainsFunc(dir, func(r rune) bool { return r == '"' || r == '\\' || unicode.IsControl(r) }) {
		return "", fmt.Errorf("go build cannot link from %q, whose name has a double quote, backslash or control character; "+
			"move or rename the folder", dir)
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

// shellQuoted quotes s as one word of a POSIX shell.
func shellQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
