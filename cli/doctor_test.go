package cli

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// states reads doctor's lines: the state of each check by name.
func states(t *testing.T, r clitest.Result) map[string]string {
	t.Helper()
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	got := map[string]string{}
	advice := 0
	for _, line := range strings.Split(strings.TrimSuffix(r.Out, "\n"), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "-> ") {
			advice++
		}
		if strings.HasPrefix(line, " ") {
			continue
		}
		words := strings.Fields(line)
		if len(words) < 3 || (words[0] != "OK" && words[0] != "FAIL") || strings.Index(line, words[1]) != 6 || line[17] == ' ' {
			t.Fatalf("line %q", line)
		}
		got[words[1]] = words[0]
	}
	failed := 0
	for _, state := range got {
		if state == "FAIL" {
			failed++
		}
	}
	if failed != advice {
		t.Errorf("%d failures and %d times advice:\n%s", failed, advice, r.Out)
	}
	return got
}

func TestDoctor(t *testing.T) {
	hub := hubtest.New(t)
	hub.Use(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // where calibrations are kept
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
		{"calibration", []string{"--model", tiny, "--calibration"}, append([]string{"model", "calibrate"}, all...), nil, []string{"us a token", "x  32 tokens"}},
		{"another model", []string{"--model", tiny}, append([]string{"model"}, all...), nil, []string{tiny, "2 layers of 64", "by " + tiny}},
		{"hub model", []string{"--model", weights.Default}, append([]string{"model"}, all...), []string{"model"}, []string{weights.Default, "not downloaded yet", "mlxrank model pull " + weights.Default, "by builtin"}},
		{"no such adapter, another dtype", []string{"--model", tiny, "--adapter", none, "--dtype", "bfloat16"}, append([]string{"model"}, all...), []string{"model"}, []string{none, "by builtin on cpu in bfloat16"}},
		{"no library", []string{"--library", none}, []string{"program", "processor", "library", "builtin", "forward"}, []string{"library", "forward"}, []string{none + ": no such file", "make build", "--library"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := mlxrank.Run(t, "", append([]string{"doctor"}, test.args...)...)
			got := states(t, r)
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
		t.Errorf("doctor has made %d requests to the hub", n)
	}
}

// TestDoctorAdvice advises nothing that was done already.
func TestDoctorAdvice(t *testing.T) {
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
	check("-> correct what is said of the files in "+tiny, "give --model a directory", "--model", tiny)
	check("-> give --activation raw, sigmoid or softmax", "run `make build`, then", "--model", odd)
	check("-> give --model a directory", "correct", "--model", tiny+"/none")
	check("-> name another file with --library", "or name the file with", "--library", tiny+"/none.so")
	t.Setenv("HF_HUB_OFFLINE", "1")
	check("-> unset HF_HUB_OFFLINE", "-> get it", "--model", "org/name")
	t.Setenv(weights.BuiltinEnv, tiny+"/none")
	check("-> correct "+weights.BuiltinEnv, "fetches its files")
}

// TestDoctorWithoutBuiltin still uses the model it was given.
func TestDoctorWithoutBuiltin(t *testing.T) {
	t.Setenv(weights.BuiltinEnv, filepath.Join(t.TempDir(), "none"))
	r := mlxrank.Run(t, "", "doctor")
	if got := states(t, r); r.Status != command.ExitFailure || got["builtin"] != "FAIL" || got["forward"] != "FAIL" || got["library"] != "OK" {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
	r = mlxrank.Run(t, "", "doctor", "--model", clitest.TinyModel(t))
	if got := states(t, r); r.Status != command.ExitFailure || got["builtin"] != "FAIL" || got["forward"] != "OK" || got["model"] != "OK" {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
}

// TestDoctorDevice asks for a GPU: where there is none, that alone fails, and
// the pair is scored on the CPU.
func TestDoctorDevice(t *testing.T) {
	r := mlxrank.Run(t, "", "doctor", "--device", "gpu")
	got := states(t, r)
	if strings.Contains(r.Out, "GPUs that MLX can use: 0") {
		if r.Status != command.ExitFailure || got["device"] != "FAIL" || got["forward"] != "OK" || !strings.Contains(r.Out, "on cpu") {
			t.Errorf("status %d\n%s", r.Status, r.Out)
		}
	} else if r.Status != command.ExitOK || !strings.Contains(r.Out, "on gpu") {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name, model, dtype string
		off                float64
		ok                 bool
	}{
		{"exact", "builtin", "float32", 0, true},
		{"rounding", "builtin", "float32", 0.0001, true},
		{"wrong", "builtin", "float32", 0.01, false},
		{"half precision", "builtin", "float16", 0.01, true},
		{"wrong in half precision", "builtin", "float16", -1, false},
		{"not known", "dir", "float32", 5, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			logit := float32(doctorLogit + test.off)
			c := judge(engine.Info{Model: test.model, DType: engine.DType(test.dtype)}, &engine.Result{Logits: []float32{logit}, Scores: []float32{0.5}})
			if c.failed() == test.ok {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// TestDoctorLogit finds doctor's pair, with the logit it expects, among the
// golden pairs that PyTorch has scored.
func TestDoctorLogit(t *testing.T) {
	file, err := os.Open("../engine/testdata/builtin.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(unzipped); ; {
		var golden struct {
			Query, Document string
			Logit           float64
		}
		err := decoder.Decode(&golden)
		if errors.Is(err, io.EOF) {
			t.Fatal("doctor's pair is not golden")
		}
		if err != nil {
			t.Fatal(err)
		}
		if golden.Query == doctorPair.Query && golden.Document == doctorPair.Document {
			if golden.Logit != doctorLogit {
				t.Errorf("logit %v, want %v", doctorLogit, golden.Logit)
			}
			return
		}
	}
}
