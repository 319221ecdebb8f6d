package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestSettingsPrecedence sets the same flag in more and more places: each comes
// before the ones set so far.
func TestSettingsPrecedence(t *testing.T) {
	model := clitest.TinyModel(t)
	length := func(want int, args ...string) {
		t.Helper()
		got := mlxrank.Summary(t, append(args, "--query", "city", "london is a city")...)
		if got.MaxLength != want || got.Model != model || got.Device != "cpu" {
			t.Errorf("maximum length %d of %s on %s, want %d of %s on cpu", got.MaxLength, got.Model, got.Device, want, model)
		}
	}
	users := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "mlxrank", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(users), 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.WriteFile(t, users, "# defaults\nmodel: "+model+"\ndevice: cpu\nmax-length: 20\n")
	t.Cleanup(func() {
		if err := os.Remove(users); err != nil {
			t.Error(err)
		}
	})
	length(20)
	t.Setenv(command.ConfigEnv, clitest.WriteFile(t, filepath.Join(t.TempDir(), "a.yaml"), "model: "+model+"\ndevice: cpu\nmax-length: 21\n"))
	length(21)
	named := clitest.WriteFile(t, filepath.Join(t.TempDir(), "b.yaml"), "model: "+model+"\ndevice: cpu\nmax-length: 22\n")
	length(22, "--config", named)
	t.Setenv("MLXRANK_MAX_LENGTH", "23")
	length(23, "--config", named)
	length(24, "--config", named, "--max-length", "24")
}

func TestSettingsErrors(t *testing.T) {
	file := func(text string) string { return clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), text) }
	for _, test := range []struct {
		name   string
		config string
		status int
		words  []string
	}{
		{"missing", filepath.Join(t.TempDir(), "none.yaml"), command.ExitFailure, []string{"none.yaml", "no such file"}},
		{"a folder", t.TempDir(), command.ExitFailure, []string{"is not a file"}},
		{"not YAML", file("model: [1"), command.ExitFailure, []string{"c.yaml"}},
		{"a list", file("- model\n"), command.ExitFailure, []string{"c.yaml"}},
		{"unknown key", file("modell: builtin\n"), command.ExitFailure, []string{"c.yaml", `"modell"`, "model, adapter, label, max-length, threads, microbatch-tokens, device"}},
		{"misspelt key", file("max_lengt: 8\n"), command.ExitFailure, []string{`unknown key "max_lengt"; did you mean "max-length"?`}},
		{"key of other programs", file("port: 80\n"), command.ExitFailure, []string{`unknown key "port"; use listen`}},
		{"key in two spellings", file("max-length: 8\nmax_length: 9\n"), command.ExitFailure, []string{`keys "max-length" and "max_length" are the same`}},
		{"key twice", file("device: cpu\ndevice: gpu\n"), command.ExitFailure, []string{"c.yaml", "device"}},
		{"nested", file("model: {dir: x}\n"), command.ExitFailure, []string{"c.yaml", `"model"`, "single value"}},
		{"value", file("device: tpu\n"), command.ExitUsage, []string{"c.yaml: device", `"tpu"`, "auto, gpu, cpu"}},
		{"second document", file("max-length: 128\n---\nmodel: builtin\n"), command.ExitFailure, []string{"c.yaml: a second YAML document"}},
		{"second document that is broken", file("max-length: 128\n---\n[\n"), command.ExitFailure, []string{"c.yaml: "}},
		{"number", file("max-length: long\n"), command.ExitUsage, []string{"c.yaml: max-length", `"long"; expected a whole number`}},
		{"too small", file("max-length: 2\n"), command.ExitUsage, []string{"c.yaml: max-length 2", "3 tokens"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--config", test.config, "--query", "q", "d"), test.status, test.words...)
		})
	}
	t.Setenv("MLXRANK_DTYPE", "int3")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "q", "d"), command.ExitUsage, "MLXRANK_DTYPE", `"int3"`, "float32")
}

// Keys may be spelt as in experiments.
func TestSettingsSpelling(t *testing.T) {
	config := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), "max_length: 21\nlog_level: error\n")
	r := mlxrank.Summary(t, "--config", config, "--model", clitest.TinyModel(t), "--query", "city", "london is a city")
	if r.MaxLength != 21 {
		t.Errorf("maximum length %d, want 21", r.MaxLength)
	}
}

// A value that the native library would pass over is refused.
func TestUnfusedGraphValue(t *testing.T) {
	t.Setenv(command.UnfusedGraphEnv, "true")
	r := mlxrank.Run(t, "", "rerank", "--model", clitest.TinyModel(t), "--query", "q", "d")
	if r.Status != command.ExitUsage || !strings.Contains(r.ErrOut, command.UnfusedGraphEnv+` cannot be "true"; expected 0 or 1`) {
		t.Errorf("status %d: %s", r.Status, r.ErrOut)
	}
}

func TestUnknownVariables(t *testing.T) {
	model := clitest.TinyModel(t)
	for name, want := range map[string]string{
		"MLXRANK_MODELL":    "; did you mean MLXRANK_MODEL?",
		"MLXRANK_MAX_LEN":   "; did you mean MLXRANK_MAX_LENGTH?",
		"MLXRANK_PORT":      "; use MLXRANK_LISTEN",
		"MLXRANK_TOP_N":     "; --top-n can be set on the command line only",
		"MLXRANK_MAX_BATCH": "; --max-batch can be set on the command line only",
		"MLXRANK_FROBNIFY":  "variable",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "8")
			r := mlxrank.MustRun(t, "", "rerank", "--model", model, "--query", "q", "d")
			if !strings.Contains(r.ErrOut, "unknown environment variable") || !strings.Contains(r.ErrOut, want) || !strings.Contains(r.ErrOut, name) {
				t.Errorf("standard error lacks %q:\n%s", want, r.ErrOut)
			}
			mlxrank.Summary(t, "--log-level", "error", "--model", model, "--query", "q", "d") // without a word
		})
	}
	for name, value := range map[string]string{
		"MLXRANK_PORT": "tcp://10.0.0.1:8437", "MLXRANK_SERVICE_HOST": "10.0.0.1", "MLXRANK_SERVICE_PORT_HTTP": "8437", "MLXRANK_PORT_8437_TCP_ADDR": "10.0.0.1",
		"MLXRANK_LISTEN": ":8437", "MLXRANK_DEVICE": "cpu", "MLXRANK_PLAIN_GRAPH": "", "MLXRANK_UNFUSED_GRAPH": "", "MLXRANK_API_KEY": "k",
	} {
		t.Setenv(name, value)
	}
	mlxrank.Summary(t, "--model", model, "--query", "q", "d")
}

// An empty file and empty variables set nothing.
func TestEmptySettings(t *testing.T) {
	t.Setenv("MLXRANK_DEVICE", "")
	config := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), "\n# nothing\n")
	mlxrank.MustRun(t, "", "rerank", "--config", config, "--model", clitest.TinyModel(t), "--query", "q", "d")
	config = clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), "---\nmax-length: 128\n")
	mlxrank.MustRun(t, "", "rerank", "--config", config, "--model", clitest.TinyModel(t), "--query", "q", "d")
}
