package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

func TestDoctor(t *testing.T) {
	hub := hubtest.New(t)
	hub.Use(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // where costs are kept
	t.Setenv("HOME", t.TempDir())
	tiny := clitest.TinyModel(t)
	none := filepath.Join(t.TempDir(), "none")
	all := []string{"program", "processor", "library", "mlx", "mlx-c", "blas", "device", "builtin", "tokenizer", "forward", "memory"}
	for _, test := range []struct {
		name   string
		args   []string
		checks []string
		failed []string
		words  []string
	}{
		{"all is well", nil, all, nil, []string{"libmlxrank", "processors", "peak", "6 layers of 384", "on cpu in float32"}},
		{"int8", []string{"--dtype", "int8"}, all, nil, []string{"on cpu in int8", "int8 x int8"}},
		{"small weights", []string{"--dtype", "int8w"}, all, nil, []string{"on cpu in int8w"}},
		{"small weights of 4 bits", []string{"--dtype", "int4w"}, all, nil, []string{"on cpu in int4w"}},
		{"costs", []string{"--model", tiny, "--costs"}, append([]string{"model", "costs"}, all...), nil, []string{"us a token", "x  32 tokens"}},
		{"another model", []string{"--model", tiny}, append([]string{"model"}, all...), nil, []string{tiny, "2 layers of 64", "by " + tiny}},
		{"hub model", []string{"--model", weights.Default}, append([]string{"model"}, all...), []string{"model"}, []string{weights.Default, "not downloaded yet", "mlxrank model pull " + weights.Default, "by builtin"}},
		{"no such adapter, another dtype", []string{"--model", tiny, "--adapter", none, "--dtype", "int8"}, append([]string{"model"}, all...), []string{"model"}, []string{none, "by builtin on cpu in int8"}},
		{"no library", []string{"--library", none}, []string{"program", "processor", "library", "builtin", "forward"}, []string{"library", "forward"}, []string{none + ": no such file", "make build", "--library"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := mlxrank.Run(t, "", append([]string{"doctor"}, test.args...)...)
			got := clitest.States(t, r)
			want := map[string]string{}
			for _, name := range test.checks {
				want[name] = "OK"
			}
			status := command.ExitOK
			for _, name := range test.failed {
				want[name], status = "FAIL", command.ExitFailure
			}
			for name := range want {
				if got[name] != want[name] {
					t.Errorf("%s: %q, want %q", name, got[name], want[name])
				}
			}
			if len(got) != len(want) || r.Status != status {
				t.Errorf("%d checks and status %d, want %d and %d\n%s", len(got), r.Status, len(want), status, r.Out)
			}
			for _, word := range test.words {
				if !strings.Contains(r.Out, word) {
					t.Errorf("lacks %q:\n%s", word, r.Out)
				}
			}
		})
	}
	if n := len(hub.Requests()); n > 0 {
		t.Errorf("doctor made %d requests to the hub", n)
	}
}

// TestDoctorRemedies checks that no advice names a step that was already done.
func TestDoctorRemedies(t *testing.T) {
	hubtest.New(t).Use(t)
	tiny := clitest.TinyModel(t)
	odd := clitest.TinyModel(t)
	data, err := os.ReadFile(filepath.Join(odd, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(string(data), "{", `{"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.GELU"},`, 1)
	if err := os.WriteFile(filepath.Join(odd, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(tiny, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	check := func(has, lacks string, args ...string) {
		t.Helper()
		r := mlxrank.Run(t, "", append([]string{"doctor"}, args...)...)
		if !strings.Contains(r.Out, has) || strings.Contains(r.Out, lacks) || r.Status != command.ExitFailure {
			t.Errorf("%q: status %d, want %q and not %q\n%s", args, r.Status, has, lacks, r.Out)
		}
	}
	check("-> correct the error above in the files of "+tiny, "give --model a directory", "--model", tiny)
	check("-> give --activation raw, sigmoid or softmax", "run `make build`, then", "--model", odd)
	check("-> give --model a directory", "correct", "--model", tiny+"/none")
	check("-> give another file with --library", "or give the file with", "--library", tiny+"/none.so")
	t.Setenv("HF_HUB_OFFLINE", "1")
	check("-> unset HF_HUB_OFFLINE", "-> get it", "--model", "org/name")
	t.Setenv(weights.BuiltinEnv, tiny+"/none")
	check("-> correct "+weights.BuiltinEnv, "fetches its files")
}

// TestDoctorWithoutBuiltin checks that doctor still uses the model of --model.
func TestDoctorWithoutBuiltin(t *testing.T) {
	t.Setenv(weights.BuiltinEnv, filepath.Join(t.TempDir(), "none"))
	r := mlxrank.Run(t, "", "doctor")
	if got := clitest.States(t, r); r.Status != command.ExitFailure || got["builtin"] != "FAIL" || got["forward"] != "FAIL" || got["library"] != "OK" {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
	r = mlxrank.Run(t, "", "doctor", "--model", clitest.TinyModel(t))
	if got := clitest.States(t, r); r.Status != command.ExitFailure || got["builtin"] != "FAIL" || got["forward"] != "OK" || got["model"] != "OK" {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
}

// TestDoctorDevice asks for a GPU. Without a GPU only the check of the device fails,
// and the CPU scores the pair.
func TestDoctorDevice(t *testing.T) {
	r := mlxrank.Run(t, "", "doctor", "--device", "gpu")
	got := clitest.States(t, r)
	if strings.Contains(r.Out, "GPUs that MLX can use: 0") {
		if r.Status != command.ExitFailure || got["device"] != "FAIL" || got["forward"] != "OK" || !strings.Contains(r.Out, "on cpu") {
			t.Errorf("status %d\n%s", r.Status, r.Out)
		}
	} else if r.Status != command.ExitOK || !strings.Contains(r.Out, "on gpu") {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
}

// A model of several labels needs no --label to be checked.
func TestDoctorSeveralLabels(t *testing.T) {
	dir := t.TempDir()
	config := weightstest.Tiny(64, 4, 2)
	config["id2label"] = map[string]any{"0": "no", "1": "perhaps", "2": "yes"}
	weightstest.Write(t, dir, weightstest.Spec{Config: config, Seed: 7})
	r := mlxrank.Run(t, "", "doctor", "--model", dir)
	if got := clitest.States(t, r); r.Status != command.ExitOK || got["forward"] != "OK" || !strings.Contains(r.Out, "3 labels") {
		t.Errorf("status %d, %v\n%s", r.Status, got, r.Out)
	}
}

// TestOldCosts shows that the former name of --costs works, with a warning, and that a
// calibration in the environment is for commands that score.
func TestOldCosts(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("MLXRANK_CALIBRATION", "calibration.json")
	r := mlxrank.MustRun(t, "", "doctor", "--model", clitest.TinyModel(t), "--calibration")
	if !strings.Contains(r.Out, "us a token") || !strings.Contains(r.ErrOut, "use --costs") {
		t.Errorf("out %s\nerr %s", r.Out, r.ErrOut)
	}
}
