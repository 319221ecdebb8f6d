package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func TestBench(t *testing.T) {
	dir := t.TempDir()
	experiment := clitest.WriteFile(t, filepath.Join(dir, "quick.yaml"), "description: A quick one\nbatch: [2, 4]\nrequests: 1000\nwarmup: 1\nmodel: none\n")
	folder := filepath.Join(dir, "results")
	r := mlxrank.MustRun(t, "", "bench", experiment, "--model", clitest.TinyModel(t), "--requests", "4", "--results", folder)
	if !strings.HasPrefix(r.Out, "## Results Summary\n") || !strings.Contains(r.Out, "| 2 | 1 | 8 |") || !strings.Contains(r.Out, "| 4 | 1 | 16 |") {
		t.Errorf("standard output: %q", r.Out)
	}
	if !strings.Contains(r.ErrOut, "quick_results.md") {
		t.Errorf("standard error: %q", r.ErrOut)
	}
	stored, err := results.Read(filepath.Join(folder, "quick_results.json"))
	if err != nil || stored.Description != "A quick one" || len(stored.Points) != 2 || stored.Environment.Program != command.Version {
		t.Errorf("%+v, %v", stored, err)
	}
	report, err := os.ReadFile(filepath.Join(folder, "quick_results.md"))
	if err != nil || !strings.HasPrefix(string(report), "# quick\n\n_A quick one_\n") {
		t.Errorf("%.100q, %v", report, err)
	}
}

func TestBenchstatLines(t *testing.T) {
	r := mlxrank.MustRun(t, "", "bench", "--model", clitest.TinyModel(t), "--batch", "2", "--requests", "3", "--runs", "3", "--format", "benchstat", "--results", t.TempDir())
	if n := strings.Count(r.Out, "\nBenchmarkScore/batch=2/concurrency=1 3 "); n != 3 {
		t.Errorf("%d lines of three runs:\n%s", n, r.Out)
	}
}

// TestBenchPrecedence checks that the command line overrides the experiment, and the
// experiment overrides the environment and the config file.
func TestBenchPrecedence(t *testing.T) {
	dir, tiny := t.TempDir(), clitest.TinyModel(t)
	t.Setenv("MLXRANK_MODEL", "/none/environment")
	with := clitest.WriteFile(t, filepath.Join(dir, "with.yaml"), "model: "+tiny+"\nrequests: 2\nbatch: 2\n")
	mlxrank.MustRun(t, "", "bench", with, "--results", dir)
	without := clitest.WriteFile(t, filepath.Join(dir, "without.yaml"), "requests: 2\nbatch: 2\n")
	for args, want := range map[string]string{without: "/none/environment", with + " --model /none/line": "/none/line"} {
		r := mlxrank.Run(t, "", append([]string{"bench", "--results", dir}, strings.Fields(args)...)...)
		if r.Status != command.ExitFailure || !strings.Contains(r.ErrOut, want) {
			t.Errorf("%s: status %d, %s", args, r.Status, r.ErrOut)
		}
	}
	t.Setenv("MLXRANK_MAX_LENGTH", "64")
	mlxrank.MustRun(t, "", "bench", with, "--results", dir)
	if stored, err := results.Read(filepath.Join(dir, "with_results.json")); err != nil || stored.Points[0].Engine.MaxLength != 64 {
		t.Errorf("%+v, %v", stored, err)
	}
}

func TestBenchRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string { return clitest.WriteFile(t, filepath.Join(t.TempDir(), "x.yaml"), text) }
	broken := clitest.WriteFile(t, filepath.Join(dir, "top1000.dev.tsv"), "1\t2\tquery\tpassage\n1\t2\tquery\n")
	report := clitest.WriteFile(t, filepath.Join(dir, "x_results.md"), "# x\n")
	other := clitest.WriteFile(t, filepath.Join(dir, "other.json"), `{"schema_version": 7}`)
	for _, test := range []struct {
		args  []string
		words []string
	}{
		{[]string{"bench", file("batchsize: 8")}, []string{"x.yaml", "line 1", `did you mean "batch"?`}},
		{[]string{"bench", file("requests: 0")}, []string{"requests", "from 1 on"}},
		{[]string{"bench", "--requests", "0"}, []string{"requests", "from 1 on"}},
		{[]string{"bench", "--policy", "window"}, []string{"needs a timeout"}},
		{[]string{"bench", "--cpu-shards", "0"}, []string{"--threads 0"}},
		{[]string{"bench", "--cpu-shards", "1", "--threads", "1"}, []string{"same setting"}},
		{[]string{"bench", "--rate", "5", "--concurrency", "5"}, []string{"concurrency and rate are both given"}},
		{[]string{"bench", "--device", "tpu"}, []string{`"tpu"`}},
		{[]string{"bench", "none.yaml"}, []string{"none.yaml"}},
		{[]string{"bench", "a.yaml", "b.yaml"}, []string{"one experiment", "compare --run"}},
		{[]string{"bench", "--format", "xml"}, []string{`--format "xml"`, "text, benchstat"}},
		{[]string{"bench", "--dataset", broken, "--results", dir}, []string{broken, "line 2", "expected 4"}},
		{[]string{"bench", "--results", filepath.Join(broken, "x")}, []string{"results folder"}},
		{[]string{"bench", "compare", "a"}, []string{"takes two files, found 1"}},
		{[]string{"bench", "compare", "a", "b"}, []string{"results", "no such file"}},
		{[]string{"bench", "compare", other, other}, []string{"schema version 7, expected 1"}},
		{[]string{"bench", "compare", broken, broken}, []string{"results " + broken, "NAME_results.json"}},
		{[]string{"bench", "compare", report, report}, []string{report + ": not a results file", "NAME_results.json"}},
		{[]string{"bench", "compare", filepath.Dir(report), report}, []string{filepath.Dir(report) + ": this is a folder", "NAME_results.json"}},
		{[]string{"bench", "compare", "--fail-if-slower", "much", "a", "b"}, []string{`"much"`, "5%"}},
		{[]string{"bench", "compare", "--run", "--rounds", "0", "a", "b"}, []string{"--rounds 0"}},
		{[]string{"bench", "compare", "--run", file("batch: 2"), file("batch: 4")}, []string{"both experiments are named x"}},
	} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", test.args...), command.ExitUsage, test.words...)
	}
}

// watched is a buffer that calls seen once its text contains a word.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	word string
	seen func()
}

func (w *watched) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.text.Write(data)
	if strings.Contains(w.text.String(), w.word) {
		w.seen()
	}
	return n, err
}

// TestBenchInterrupted interrupts a run during a measurement.
func TestBenchInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	defer func(every time.Duration) { logEvery = every }(logEvery)
	logEvery = 200 * time.Millisecond
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	errOut := &watched{word: "progress", seen: cancel}
	args := []string{"mlxrank", "bench", "--model", clitest.TinyModel(t), "--duration", "60s", "--batch", "2", "--results", folder}
	status := runProgram(ctx, args, command.Streams{In: strings.NewReader(""), Out: &out, Err: errOut})
	r := clitest.Result{Status: status, Out: out.String(), ErrOut: errOut.text.String()}
	if r.Status != command.ExitInterrupted || !strings.HasSuffix(r.ErrOut, "mlxrank: interrupted\n") || !strings.Contains(r.ErrOut, "--resume") || r.Out != "" {
		t.Errorf("status %d, %q, %q", r.Status, r.Out, r.ErrOut)
	}
	if !strings.Contains(r.ErrOut, "progress") || !strings.Contains(r.ErrOut, "throughput_pairs_s=") || strings.Contains(r.ErrOut, "\r") {
		t.Errorf("progress in the log: %q", r.ErrOut)
	}
	if stored, err := results.Read(filepath.Join(folder, "bench_results.json")); err != nil || stored.Finished != nil {
		t.Errorf("%+v, %v", stored, err)
	}
}

func TestBenchCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	dir, tiny := t.TempDir(), clitest.TinyModel(t)
	quick := clitest.WriteFile(t, filepath.Join(dir, "quick.yaml"), "batch: 8\nrequests: 6\nmodel: "+tiny+"\n")
	slow := clitest.WriteFile(t, filepath.Join(dir, "slow.yaml"), "batch: 8\nrequests: 6\npolicy: window\ntimeout: 50ms\nmodel: "+tiny+"\n")
	r := mlxrank.Run(t, "", "bench", "compare", "--run", "--rounds", "3", "--fail-if-slower", "5%", "--results", dir, quick, slow)
	if r.Status != command.ExitFailure || !strings.Contains(r.Out, "measured in alternating rounds") || !strings.Contains(r.Out, "B is worse") || !strings.Contains(r.ErrOut, "throughput of slow is") {
		t.Errorf("status %d\n%s\n%s", r.Status, r.Out, r.ErrOut)
	}
	a, b := filepath.Join(dir, "quick_results.json"), filepath.Join(dir, "slow_results.json")
	r = mlxrank.MustRun(t, "", "bench", "compare", "--format", "json", b, a, "--fail-if-slower", "5")
	var c struct {
		Interleaved bool
		Points      []struct {
			Figures []struct{ Ratio, Low float64 }
		}
	}
	if err := json.Unmarshal([]byte(r.Out), &c); err != nil || c.Interleaved || c.Points[0].Figures[0].Ratio < 2 || c.Points[0].Figures[0].Low < 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if !strings.Contains(r.ErrOut, "warning: not interleaved") {
		t.Errorf("warnings: %q", r.ErrOut)
	}
	r = mlxrank.MustRun(t, "", "bench", "compare", "--format", "benchstat", a, b)
	if n := strings.Count(r.Out, "\nBenchmarkScore/"); n != 6 || !strings.Contains(r.Out, "\nexperiment: slow\n") {
		t.Errorf("%d lines\n%s", n, r.Out)
	}
}

// TestBenchProfile checks that a profile follows the summary, and goes to standard
// error with Go's benchmark format.
func TestBenchProfile(t *testing.T) {
	args := []string{"bench", "--profile", "--model", clitest.TinyModel(t), "--batch", "2", "--requests", "3", "--results", t.TempDir()}
	r := mlxrank.MustRun(t, "", args...)
	if !strings.HasPrefix(r.Out, "## Results Summary\n") || !strings.Contains(r.Out, "\n\n## Profile\n") || !strings.Contains(r.Out, "\n| tokenising |") {
		t.Errorf("standard output: %q", r.Out)
	}
	r = mlxrank.MustRun(t, "", append(args, "--format", "benchstat")...)
	if strings.Contains(r.Out, "Profile") || !strings.Contains(r.ErrOut, "## Profile\n") {
		t.Errorf("standard output: %q, standard error: %q", r.Out, r.ErrOut)
	}
}

// TestBenchCompareArguments checks that compare names the arguments that are missing.
func TestBenchCompareArguments(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "give two results, results/OLD_results.json results/NEW_results.json, or with --run two experiments, A.yaml B.yaml"},
		{[]string{"a.yaml", "b.yaml"}, "a.yaml is an experiment: add --run to measure both"},
		{[]string{"--run", "a_results.json", "b_results.json"}, "a_results.json is a result, and --run measures experiments"},
	} {
		r := mlxrank.Run(t, "", append([]string{"bench", "compare"}, test.args...)...)
		if r.Status != 2 || !strings.Contains(r.ErrOut, test.want) {
			t.Errorf("%v: status %d, %q lacks %q", test.args, r.Status, r.ErrOut, test.want)
		}
	}
}
