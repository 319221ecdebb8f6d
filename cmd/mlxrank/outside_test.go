package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// TestOutsideModule builds and runs the program of docs/user/go.md in a separate
// module, with only the variables that mlxrank env prints. It then runs the program
// from an installation, without these variables. The test is not parallel: a fork of
// another test would keep the copied programs open, and they could not be executed.
func TestOutsideModule(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	const build = `eval "$("$MLXRANK" env)" && go build -o app . && ./app`
	tree := builtParts(t)
	t.Run("build tree", func(t *testing.T) {
		copied := t.TempDir()
		mlxrank := filepath.Join(copied, "bin", "mlxrank")
		check(t, os.Mkdir(filepath.Dir(mlxrank), 0o700), copyFile(program, mlxrank),
			os.Symlink(tree.lib, filepath.Join(copied, "lib")), os.Symlink(tree.models, filepath.Join(copied, "models")))
		checkScores(t, outsideModule(t), build, append(bareEnv(t), "MLXRANK="+mlxrank)...)
	})
	t.Run("installation", func(t *testing.T) {
		mlxrank := tree.install(t, program, filepath.Join(t.TempDir(), "it's $HOME, elsewhere"))
		module := outsideModule(t)
		checkScores(t, module, build, append(bareEnv(t), "MLXRANK="+mlxrank)...)
		shipped := tree.install(t, filepath.Join(module, "app"), t.TempDir())
		checkScores(t, t.TempDir(), shipped, "HOME="+t.TempDir())
	})
}

// parts has the paths of the files that make build made.
type parts struct{ lib, archive, models string }

func builtParts(t *testing.T) parts {
	t.Helper()
	library, err := mlx.Find("")
	check(t, err)
	encoder, err := weights.BuiltinDir()
	check(t, err)
	lib := filepath.Dir(library)
	archive := filepath.Join(filepath.Dir(lib), "tokenizers", "libtokenizers.a")
	_, err = os.Stat(archive)
	check(t, err)
	models, err := filepath.Abs(filepath.Dir(encoder))
	check(t, err)
	return parts{lib: lib, archive: archive, models: models}
}

// install installs a program and the parts in a prefix, as make install does, and
// returns the program's path. Files that search for no other file are links, to save
// copying.
func (p parts) install(t *testing.T, exe, prefix string) string {
	t.Helper()
	installed, lib := filepath.Join(prefix, "bin", filepath.Base(exe)), filepath.Join(prefix, "lib", "mlxrank")
	share := filepath.Join(prefix, "share", "mlxrank")
	for _, dir := range []string{filepath.Dir(installed), lib, share} {
		check(t, os.MkdirAll(dir, 0o700))
	}
	entries, err := os.ReadDir(p.lib)
	check(t, err)
	for _, entry := range entries {
		from, to := filepath.Join(p.lib, entry.Name()), filepath.Join(lib, entry.Name())
		if strings.HasPrefix(entry.Name(), "libmlxrank.") {
			check(t, copyFile(from, to))
		} else {
			check(t, os.Symlink(from, to))
		}
	}
	check(t, os.Symlink(p.archive, filepath.Join(lib, filepath.Base(p.archive))),
		os.Symlink(p.models, filepath.Join(share, "models")), copyFile(exe, installed))
	return installed
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o700)
}

// check fails the test at the first error.
func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// outsideModule creates a module with the program of docs/user/go.md that uses this
// checkout instead of a release.
func outsideModule(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	check(t, err)
	guide, err := os.ReadFile(filepath.Join(root, "docs", "user", "go.md"))
	check(t, err)
	_, text, found := strings.Cut(string(guide), "```go\n")
	source, _, ended := strings.Cut(text, "```\n")
	if !found || !ended || !strings.HasPrefix(source, "package main\n") {
		t.Fatal("docs/user/go.md does not begin with a program")
	}
	dir := t.TempDir()
	module := "module example.com/outside\n\ngo 1.25.0\n\nrequire github.com/mlxrank/mlxrank v0.0.0\n\n" +
		"replace github.com/mlxrank/mlxrank => " + root + "\n"
	check(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module), 0o600),
		os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600),
		copyFile(filepath.Join(root, "go.sum"), filepath.Join(dir, "go.sum")))
	return dir
}

// bareEnv returns an environment in which go builds from its caches. With -trimpath, a
// program has no source paths, by which it would find the build tree.
func bareEnv(t *testing.T) []string {
	t.Helper()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod -trimpath"}
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		check(t, err)
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	return env
}

// checkScores runs a shell command, which must print the passages, best first. The
// best passage is a golden pair with PyTorch's score 0.9988; half precision on a GPU
// may differ in the third digit.
func checkScores(t *testing.T, dir, command string, env ...string) {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "sh", "-c", command)
	shell.Dir, shell.Env = dir, env
	out, err := shell.CombinedOutput()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0], "0.99") || !strings.Contains(lines[0], "  Colorstring is") || !strings.HasPrefix(lines[1], "0.0") {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}
