package experiment

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "some_test.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const seedYAML = `# the seed's configuration
name: 14_optimized_production
description: "Production-optimized config:
  MLX + Length-Aware Batching"
model: builtin
batch: 32
concurrency: 1
requests: 100
policy: continuous
max_batch: 256
timeout: 200ms
length_aware: true
`

func TestOpen(t *testing.T) {
	e, err := Open(Sources{File: write(t, seedYAML), Defaults: map[string]string{"model": "other", "device": "cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Model: "builtin", Device: "cpu", DType: "auto", Dataset: "builtin", DatasetSize: 50000, Mode: Full,
		Batch: 32, Concurrency: 1, Requests: 100, MaxBatch: 256,
		LengthAware: true, Warmup: 5, Runs: 1, Seed: 1,
	}
	if len(e.Points) != 1 || e.Points[0] != want || len(e.Swept) != 0 || len(e.Warnings) != 1 {
		t.Errorf("%+v, want %+v", e, want)
	}
	if e.Name != "14_optimized_production" || e.Description != "Production-optimized config: MLX + Length-Aware Batching" {
		t.Errorf("%q, %q", e.Name, e.Description)
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var back Settings
	if err := json.Unmarshal(data, &back); err != nil || back != want {
		t.Errorf("%+v, %v after JSON", back, err)
	}
}

func TestSweep(t *testing.T) {
	e, err := Open(Sources{
		File:  write(t, "batch: [8, 16]\nbatch_timeout_ms: [0, 5]\nconcurrency:\n  - 1\n  - 4\n  - 8\n"),
		Flags: map[string]string{"length_aware": "on,off"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Points) != 2*2*2*3 || e.Name != "some_test" {
		t.Errorf("%d points of %s", len(e.Points), e.Name)
	}
	for i, point := range e.Points {
		if slices.Contains(e.Points[:i], point) {
			t.Errorf("%+v is there twice", point)
		}
	}
	if want := []string{"batch_timeout_ms", "length_aware", "batch", "concurrency"}; !slices.Equal(e.Swept, want) {
		t.Errorf("swept %q", e.Swept)
	}
	if got, want := e.Points[4].Label(e.Swept), "batch=16, concurrency=4, batch_timeout_ms=0, length_aware=true"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Files and results of version 0.1 have policy and timeout.
func TestDeprecatedPolicy(t *testing.T) {
	for yaml, want := range map[string][]float64{
		"policy: window\ntimeout: 1.5ms":               {1.5},
		"policy: [continuous, window]\ntimeout: 200ms": {0, 200},
		"policy: window\ntimeout: [5ms, 1s]":           {5, 1000},
		"policy: continuous\ntimeout: 200ms":           {0},
		"timeout: 200ms":                               {0},
	} {
		e, err := Open(Sources{File: write(t, yaml)})
		if err != nil {
			t.Fatal(err)
		}
		var got []float64
		for _, p := range e.Points {
			got = append(got, p.BatchTimeoutMS)
		}
		if !slices.Equal(got, want) || len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], "batch_timeout_ms") {
			t.Errorf("%q: %v, warnings %q; want %v", yaml, got, e.Warnings, want)
		}
	}
	file := write(t, "policy: window\ntimeout: 5ms")
	if e, err := Open(Sources{File: file, Flags: map[string]string{"batch_timeout_ms": "7"}}); err != nil || e.Points[0].BatchTimeoutMS != 7 || len(e.Warnings) != 0 {
		t.Errorf("%+v, %v", e, err)
	}
	for data, want := range map[string]float64{`{"policy":"window","timeout":"200ms"}`: 200, `{"policy":"continuous","timeout":"200ms"}`: 0, `{"batch_timeout_ms":3}`: 3} {
		var s Settings
		if err := json.Unmarshal([]byte(data), &s); err != nil || s.BatchTimeoutMS != want {
			t.Errorf("%s: %+v, %v", data, s, err)
		}
	}
}

func TestFlagsOverFile(t *testing.T) {
	e, err := Open(Sources{File: write(t, seedYAML), Flags: map[string]string{"duration": "2s", "rate": "3.5", "batch": "64"}})
	if err != nil {
		t.Fatal(err)
	}
	p := e.Points[0]
	if p.Requests != 0 || p.Duration != Time(2*time.Second) || p.Concurrency != 0 || p.Rate != 3.5 || !p.Open() || p.Batch != 64 {
		t.Errorf("%+v", p)
	}
	if got := p.Label(nil); got != "batch=64, rate=3.5" {
		t.Error(got)
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct{ yaml, want string }{
		{"batch_sizes: [8]", `line 1: key "batch_sizes" is not known; did you mean "batch"?`},
		{"name: x\nconcurency: 8", `line 2: key "concurency" is not known; did you mean "concurrency"?`},
		{"max-batch: 8", `did you mean "max_batch"?`},
		{"length_aware_batching: true", `did you mean "length_aware"?`},
		{"timeout_ms: 200", `did you mean "batch_timeout_ms"?`},
		{"zzz: 1", `key "zzz" is not known; the keys are name, description, model`},
		{"batch: 0", `batch: "0" is not a whole number from 1 on`},
		{"requests: 0", `requests: "0" is not a whole number from 1 on`},
		{"requests: [1, 2]", "line 1: requests: it cannot be a list"},
		{"batch: []", "its list is empty"},
		{"batch: [8, 8]", "batch: 8 is there twice"},
		{"batch: {a: 1}", "expected a value or a list"},
		{"batch: [[8]]", "expected a value or a list"},
		{"batch:", "expected a value or a list"},
		{"batch: 8\nbatch: 16", "already defined"},
		{"batch: [8", "[1:8]"},
		{"- batch", "key: value"},
		{"", "key: value"},
		{"batch: 1\n---\nbatch: 2", "key: value"},
		{"batch: 1.5", `"1.5" is not a whole number`},
		{"device: tpu", `device: "tpu" is not one of auto, gpu, cpu`},
		{"dtype: int7", `"int7" is not one of`},
		{"mode: pipeline", `"pipeline" is not one of full, tokenization-only, inference-only`},
		{"length_aware: perhaps", `"perhaps" is neither true nor false`},
		{"timeout: 200", `timeout: "200" is not a time such as 200ms`},
		{"batch_timeout_ms: -1", `batch_timeout_ms: "-1" is not a number of milliseconds`},
		{"batch_timeout_ms: 200ms", "is not a number of milliseconds"},
		{"batch_timeout_ms: 5\npolicy: window\ntimeout: 5ms", "batch_timeout_ms replaces policy and timeout"},
		{"policy: fixed", `policy: "fixed" is not one of`},
		{"mode: tokenization-only\nbatch_timeout_ms: 5", "has no meaning"},
		{"rate: 0", "is not a number above 0"},
		{"rate: .nan", "is not a number above 0"},
		{"max_length: 2", "from 3 on"},
		{"runs: 0", "runs:"},
		{"seed: -1", "seed:"},
		{"name: ../x", `name "../x" cannot name files`},
		{"requests: 5\nduration: 5s", "requests and duration are both given"},
		{"rate: 5\nconcurrency: 5", "concurrency and rate are both given"},
		{"policy: window", "needs a timeout"},
		{"timeout: [1ms, 2ms]", "only policy window waits"},
		{"device: gpu\nthreads: 2", "gpu computes on one thread"},
		{"device: gpu\ncpu_shards: 2", "gpu computes on one thread"},
		{"mode: tokenization-only\ndtype: [float32, float16]", "dtype: 2 values, but mode tokenization-only does not depend on it"},
		{"mode: inference-only\ntokenizer_workers: [1, 2]", "does not depend on it"},
		{"mode: tokenization-only\npolicy: window\ntimeout: 5ms", "has no meaning"},
		{"dataset_size: 10", "a request would hold pairs twice"},
		{"dataset: ''", "it is empty"},
	} {
		path := write(t, test.yaml)
		_, err := Open(Sources{File: path})
		if err == nil {
			t.Errorf("%q is taken", test.yaml)
		} else if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v; want %q", test.yaml, err, test.want)
		}
	}
	if _, err := Open(Sources{File: "none.yaml"}); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
	if _, err := Open(Sources{File: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Error(err)
	}
	if _, err := Open(Sources{Flags: map[string]string{"batch": "8,x"}}); err == nil || !strings.Contains(err.Error(), `batch: "x"`) {
		t.Error(err)
	}
	if _, err := Open(Sources{Flags: map[string]string{"requests": "1", "duration": "1s"}}); err == nil {
		t.Error("both are taken")
	}
}

// The experiments of the repository are valid, have the names of their files, and
// begin with the question that they answer.
func TestShipped(t *testing.T) {
	files, err := filepath.Glob("../../experiments/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d experiments, %v", len(files), err)
	}
	table, err := os.ReadFile("../../experiments/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		e, err := Open(Sources{File: path})
		if err != nil {
			t.Error(err)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		question, _, _ := strings.Cut(strings.TrimPrefix(string(data), "# "), "\n")
		if e.Name+".yaml" != filepath.Base(path) || e.Description == "" || !strings.Contains(question, "?") || !strings.Contains(string(table), question) {
			t.Errorf("%s: named %s, question %q", path, e.Name, question)
		}
	}
}
