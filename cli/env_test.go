package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// installed makes the files that env looks for, empty, and points the
// environment to them. The archive's place is relative to dir.
func installed(t *testing.T, dir, archive string) {
	t.Helper()
	for _, file := range []string{"lib/libmlxrank.so", archive, "models/config.json"} {
		if file == "" {
			continue
		}
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		clitest.WriteFile(t, path, "")
	}
	t.Setenv(mlx.LibraryEnv, filepath.Join(dir, "lib", "libmlxrank.so"))
	t.Setenv(weights.BuiltinEnv, filepath.Join(dir, "models"))
	t.Setenv(ldflagsEnv, "")
}

// evaluated returns what a shell makes of env's lines.
func evaluated(t *testing.T, r clitest.Result) map[string]string {
	t.Helper()
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	shell := exec.Command("sh", "-c", `eval "$ENV"; printf '%s\n' "$`+ldflagsEnv+`" "$`+mlx.LibraryEnv+`" "$`+weights.BuiltinEnv+`"`)
	shell.Env = []string{"ENV=" + r.Out}
	out, err := shell.CombinedOutput()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) != 4 {
		t.Fatalf("%v\n%s\nof\n%s", err, out, r.Out)
	}
	return map[string]string{ldflagsEnv: lines[0], mlx.LibraryEnv: lines[1], weights.BuiltinEnv: lines[2]}
}

func TestEnv(t *testing.T) {
	for _, test := range []struct{ name, folder, archive, flags string }{
		{"an installation", "prefix", "lib/libtokenizers.a", ""},
		{"a build tree", "build", "tokenizers/libtokenizers.a", ""},
		{"quotes, spaces and more", "it's $HOME; `x` * [a] é", "lib/libtokenizers.a", ""},
		{"a build tree of such a name", "[a]* it's", "tokenizers/libtokenizers.a", ""},
		{"flags that are set stay", "prefix", "lib/libtokenizers.a", `-O2 '-L/it is' -Wl,-z,now`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), test.folder)
			installed(t, dir, test.archive)
			t.Setenv(ldflagsEnv, test.flags)
			want := map[string]string{
				ldflagsEnv:         strings.TrimSpace(`"-L` + filepath.Join(dir, filepath.Dir(test.archive)) + `" ` + test.flags),
				mlx.LibraryEnv:     filepath.Join(dir, "lib", "libmlxrank.so"),
				weights.BuiltinEnv: filepath.Join(dir, "models"),
			}
			for range 2 { // the second time with what the first has set
				got := evaluated(t, mlxrank.MustRun(t, "", "env"))
				for name, value := range want {
					if got[name] != value {
						t.Errorf("%s is %q, want %q", name, got[name], value)
					}
					t.Setenv(name, got[name])
				}
			}
			var object map[string]string
			if err := json.Unmarshal([]byte(mlxrank.MustRun(t, "", "env", "--json").Out), &object); err != nil {
				t.Fatal(err)
			}
			for name, value := range want {
				if object[name] != value || len(object) != len(want) {
					t.Errorf("JSON: %q, want %q", object, want)
				}
			}
		})
	}
}

func TestEnvErrors(t *testing.T) {
	for _, test := range []struct {
		name, folder, archive, library string
		words                          []string
	}{
		{"no library", "prefix", "lib/libtokenizers.a", "/none.so", []string{"/none.so: no such file", "make build", mlx.LibraryEnv}},
		{"no archive", "prefix", "", "", []string{"libtokenizers.a", "make build", filepath.Join("prefix", "lib", archiveFile),
			filepath.Join("prefix", "tokenizers", archiveFile)}},
		{"double quote", `say "hi"`, "lib/libtokenizers.a", "", []string{`\"hi\"`, "double quote", "rename"}},
		{"backslash", `back\slash`, "lib/libtokenizers.a", "", []string{"backslash", "rename"}},
		{"line break", "two\nlines", "lib/libtokenizers.a", "", []string{`two\nlines`, "control character"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			installed(t, filepath.Join(t.TempDir(), test.folder), test.archive)
			if test.library != "" {
				t.Setenv(mlx.LibraryEnv, test.library)
			}
			clitest.CheckFailure(t, mlxrank.Run(t, "", "env"), command.ExitFailure, test.words...)
		})
	}
}

// TestEnvWithoutBuiltin still serves programs that use other models.
func TestEnvWithoutBuiltin(t *testing.T) {
	installed(t, t.TempDir(), "lib/libtokenizers.a")
	t.Setenv(weights.BuiltinEnv, "/none")
	r := mlxrank.MustRun(t, "", "env")
	if strings.Contains(r.Out, weights.BuiltinEnv) || !strings.Contains(r.Out, mlx.LibraryEnv) {
		t.Errorf("got %q", r.Out)
	}
	if !strings.Contains(r.ErrOut, "/none") || !strings.Contains(r.ErrOut, "builtin") || strings.Count(r.ErrOut, "\n") != 1 {
		t.Errorf("standard error: %q", r.ErrOut)
	}
}
