package bench

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/report/reporttest"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// modelDir holds a small model, the same for all tests.
var modelDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "mlxrank-bench") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := modelDir(); err != nil || os.RemoveAll(dir) != nil {
		code = 1
	}
	os.Exit(code)
}

func tinyModel(t testing.TB) string {
	t.Helper()
	dir, err := modelDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err != nil {
		weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(32, 2, 1), Seed: 7})
	}
	return dir
}

func options(t *testing.T) Options {
	return Options{Folder: t.TempDir(), Engine: engine.Config{Logger: zerolog.Nop()}, Program: "test", Log: zerolog.Nop(), withoutPlots: true}
}

// open makes an experiment with the tiny model from flags.
func open(t *testing.T, flags map[string]string) *experiment.Experiment {
	t.Helper()
	e, err := experiment.Open(experiment.Sources{Flags: flags, Defaults: map[string]string{"model": tinyModel(t), "device": "cpu", "warmup": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func runExperiment(t *testing.T, e *experiment.Experiment, o Options) *results.Result {
	t.Helper()
	r, err := Run(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReport measures the real engine and compares the report with the seed
// report.
func TestReport(t *testing.T) {
	o := options(t)
	o.withoutPlots = false
	e := open(t, map[string]string{"requests": "40", "runs": "3", "batch": "16"})
	r := runExperiment(t, e, o)
	files := results.Files{Dir: o.Folder, Name: "bench"}
	stored, err := results.Read(files.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if stored.Finished == nil || len(stored.Points[0].Runs) != 3 || len(stored.Points[0].Runs[1].Requests) != 40 {
		t.Errorf("stored: %+v", stored)
	}
	ours, seed := read(t, files.Report()), read(t, "report/testdata/seed.md")
	for i, want := range seed[1:] {
		got := ours[i+1]
		if want.Title == "Config 1: batch=32, concurrency=1" {
			want.Title = "Config 1: batch=16, concurrency=1"
		}
		if got.Title != want.Title || got.Level != want.Level || len(got.Tables) != len(want.Tables) {
			t.Fatalf("section %q with %d tables, want %q with %d", got.Title, len(got.Tables), want.Title, len(want.Tables))
		}
		for k := range want.Tables {
			if h := got.Tables[k].Header; len(h) > 1 && h[1] == "MLX Mem (MB)" { // the seed ran on a GPU
				h[1] = "GPU Mem (MB)"
			}
			if !slices.Equal(got.Tables[k].Header, want.Tables[k].Header) || got.Tables[k].Separator != want.Tables[k].Separator {
				t.Errorf("%s: header %q", got.Title, got.Tables[k].Header)
			}
		}
	}
	rows := reporttest.Find(ours, "Dashboard Time-Series Data").Tables[0].Rows
	if len(rows) < 5 { // of at least ten, less those in which no request ended
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		if row[4] == "-" || row[5] == "0" {
			t.Errorf("no request ended in row %v", row)
		}
	}
	for _, link := range []string{"timeline.png", "timeline.svg", "latency.png", "latency.svg"} {
		if _, err := os.Stat(filepath.Join(files.Plots(), link)); err != nil {
			t.Error(err)
		}
	}
	checkRun(t, &r.Points[0].Runs[0], 40, 16)
	facts := r.Points[0].Engine
	tokens := 0
	for _, n := range facts.TokenLengths {
		tokens += n
	}
	if facts.Device != "cpu" || facts.MaxLength != 128 || tokens != 640 || facts.WorkloadPairs != 640 || len(facts.ModelSHA256) != 64 || facts.MLX == "" {
		t.Errorf("%+v", facts)
	}
}

func read(t *testing.T, path string) []reporttest.Section {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sections, err := reporttest.Parse(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return sections
}

// checkRun checks the invariants of a run.
func checkRun(t *testing.T, run *results.Run, requests, batch int) {
	t.Helper()
	pairs, end := 0, 0.0
	for _, r := range run.Requests {
		if r.Pairs < 1 || r.Pairs > batch || r.Tokens < 1 || r.LatencyMS <= 0 || r.LateMS < 0 {
			t.Fatalf("%+v", r)
		}
		if other := r.OtherMS(); other < -1e-6 || other < r.LateMS-1e-6 {
			t.Errorf("stages do not add up: %+v", r)
		}
		pairs += r.Pairs
		end = max(end, r.EndMS())
	}
	if len(run.Requests) != requests || run.Pairs() != pairs || run.WallMS < end {
		t.Errorf("%d requests, %d pairs in %v ms, the last ended at %v", len(run.Requests), run.Pairs(), run.WallMS, end)
	}
	shown := 0.0
	for _, s := range run.Samples {
		shown += *s.ThroughputPairsS * (s.ToMS - s.FromMS) / 1000
	}
	if math.Abs(shown-float64(pairs)) > 1e-6*float64(pairs) {
		t.Errorf("the rows show %v of %d pairs", shown, pairs)
	}
	if run.DeviceBusyPct == nil {
		return
	}
	if *run.DeviceBusyPct <= 0 || *run.DeviceBusyPct > 100.5 || len(run.Workers) == 0 {
		t.Errorf("device busy %v %%, workers %+v", *run.DeviceBusyPct, run.Workers)
	}
	byWorkers := 0
	for _, w := range run.Workers {
		byWorkers += int(w.Pairs)
	}
	if byWorkers != pairs {
		t.Errorf("workers computed %d of %d pairs", byWorkers, pairs)
	}
}

func TestModes(t *testing.T) {
	lengths := map[string]int{}
	for _, mode := range []string{experiment.Full, experiment.TokenizationOnly, experiment.InferenceOnly} {
		r := runExperiment(t, open(t, map[string]string{"mode": mode, "requests": "20", "batch": "8", "concurrency": "2"}), options(t))
		run := &r.Points[0].Runs[0]
		checkRun(t, run, 20, 8)
		var tokenization, inference float64
		for _, request := range run.Requests {
			lengths[mode] += request.Tokens
			tokenization += request.TokenizationMS
			inference += request.InferenceMS
		}
		if (tokenization > 0) == (mode == experiment.InferenceOnly) || (inference > 0) == (mode == experiment.TokenizationOnly) {
			t.Errorf("%s: tokenization %v ms, inference %v ms", mode, tokenization, inference)
		}
		if (run.DeviceBusyPct == nil) != (mode == experiment.TokenizationOnly) {
			t.Errorf("%s: device busy %v", mode, run.DeviceBusyPct)
		}
	}
	if lengths[experiment.Full] != lengths[experiment.TokenizationOnly] || lengths[experiment.Full] != lengths[experiment.InferenceOnly] {
		t.Errorf("the modes differ in tokens: %v", lengths)
	}
}

func TestOpenLoopRun(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	r := runExperiment(t, open(t, map[string]string{"rate": "200", "duration": "300ms", "batch": "4"}), options(t))
	run := &r.Points[0].Runs[0]
	checkRun(t, run, len(run.Requests), 4)
	if n := len(run.Requests); n < 20 || n > 120 {
		t.Errorf("%d requests at 200 a second for 0.3 s", n)
	}
}

// With a batch timeout a lone caller waits, without one it does not.
func TestBatchTimeout(t *testing.T) {
	e := open(t, map[string]string{"batch_timeout_ms": "0,60", "requests": "4", "batch": "8"})
	r := runExperiment(t, e, options(t))
	waits := map[float64]float64{}
	for _, p := range r.Points {
		for _, request := range p.Runs[0].Requests {
			waits[p.Settings.BatchTimeoutMS] += request.QueueWaitMS / 4
		}
	}
	if waits[60] < 50 || waits[0] > 20 {
		t.Errorf("mean queue wait in ms: %v", waits)
	}
}

func TestFailedPoint(t *testing.T) {
	o := options(t)
	r, err := Run(t.Context(), open(t, map[string]string{"max_length": "32", "requests": "5", "batch": "4", "max_batch_tokens": "8,2048"}), o)
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "1 of 2 points failed") || !strings.Contains(err.Error(), "max_batch_tokens=8") {
		t.Errorf("%v", err)
	}
	if r.Points[0].Error == "" || r.Points[1].Error != "" || len(r.Points[1].Runs) != 1 || r.Finished == nil {
		t.Errorf("%+v", r.Points)
	}
	ours := read(t, results.Files{Dir: o.Folder, Name: "bench"}.Report())
	if reporttest.Find(ours, "Config 1: **ERROR**") == nil || ours[1].Tables[0].Rows[1][2] != "20" {
		t.Errorf("summary %q", ours[1].Tables[0].Rows)
	}
}

// An interrupt keeps complete runs, and resume continues.
func TestInterruptAndResume(t *testing.T) {
	o := options(t)
	flags := map[string]string{"requests": "30", "batch": "2,4,8", "runs": "2"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Every = time.Millisecond
	o.Progress = func(p Progress) {
		if p.Step == 4 { // the second run of the second point
			cancel()
		}
	}
	r, err := Run(ctx, open(t, flags), o)
	if !errors.Is(err, context.Canceled) || r.Finished != nil {
		t.Fatalf("%v, finished %v", err, r.Finished)
	}
	files := results.Files{Dir: o.Folder, Name: "bench"}
	before, err := results.Read(files.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(before.Points[0].Runs); n != 2 || len(before.Points[1].Runs) > 2 || len(before.Points[2].Runs) != 0 {
		t.Fatalf("%d, %d, %d runs were kept", n, len(before.Points[1].Runs), len(before.Points[2].Runs))
	}
	if title := read(t, files.Report())[0].Title; title != "bench (PARTIAL)" {
		t.Errorf("title %q", title)
	}
	o.Progress, o.Resume = nil, true
	after := runExperiment(t, open(t, flags), o)
	for i, p := range after.Points {
		if !p.Done() || len(p.Runs) != 2 {
			t.Errorf("point %d: %d runs", i, len(p.Runs))
		}
	}
	if !after.Points[0].Runs[0].Started.Equal(before.Points[0].Runs[0].Started) {
		t.Error("the first point was measured again")
	}
	flags["batch"] = "2,4"
	if _, err := Run(t.Context(), open(t, flags), o); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "another experiment") {
		t.Errorf("%v", err)
	}
}

func TestEarlierResultsAreKept(t *testing.T) {
	o := options(t)
	o.withoutPlots = false
	e := open(t, map[string]string{"requests": "3", "batch": "2", "warmup": "0"})
	for range 2 {
		runExperiment(t, e, o)
	}
	entries, err := os.ReadDir(o.Folder)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "bench_20") {
			continue
		}
		kept++
		old := results.Files{Dir: filepath.Join(o.Folder, entry.Name()), Name: "bench"}
		if _, err := results.Read(old.JSON()); err != nil {
			t.Error(err)
		}
		text := strings.Join(reporttest.Find(read(t, old.Report()), "Plots").Lines, "\n")
		if !strings.Contains(text, "](bench_results/latency.png)") {
			t.Errorf("links %s", text)
		}
		if _, err := os.Stat(filepath.Join(old.Plots(), "latency.png")); err != nil {
			t.Error(err)
		}
	}
	if kept != 1 || len(entries) != 4 {
		t.Errorf("%d earlier results are kept: %v", kept, entries)
	}
}

func TestInTurns(t *testing.T) {
	o := options(t)
	a, b := open(t, map[string]string{"requests": "5", "batch": "4", "concurrency": "1,2"}), open(t, map[string]string{"requests": "5", "batch": "4", "concurrency": "1,2"})
	if _, err := RunInTurns(t.Context(), [2]*experiment.Experiment{a, b}, 2, o); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "both experiments are named bench") {
		t.Errorf("%v", err)
	}
	b.Name = "other"
	r, err := RunInTurns(t.Context(), [2]*experiment.Experiment{a, b}, 3, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r[0].Points {
		if len(r[0].Points[i].Runs) != 3 || len(r[1].Points[i].Runs) != 3 {
			t.Fatalf("point %d: %d and %d runs", i, len(r[0].Points[i].Runs), len(r[1].Points[i].Runs))
		}
		for k := range 3 {
			runA, runB := r[0].Points[i].Runs[k], r[1].Points[i].Runs[k]
			if !runA.Started.Before(runB.Started) || k > 0 && !r[1].Points[i].Runs[k-1].Started.Before(runA.Started) {
				t.Errorf("point %d: round %d is out of turn", i, k)
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	fail := func(want string, e *experiment.Experiment, o Options) {
		t.Helper()
		if r, err := Run(t.Context(), e, o); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), want) || r != nil {
			t.Errorf("%v, want %q", err, want)
		}
	}
	o := options(t)
	fail("no such file", open(t, map[string]string{"dataset": "none.tsv"}), o)
	fail("has only 3200 pairs", open(t, map[string]string{"batch": "4000"}), o)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inside := o
	inside.Folder = filepath.Join(file, "results")
	fail("results folder", open(t, nil), inside)
	resume := o
	resume.Resume = true
	path := results.Files{Dir: o.Folder, Name: "bench"}.JSON()
	for text, want := range map[string]string{`{"schema_version": 99}`: "found schema version 99, expected 1", `{}`: "no schema_version", `{`: "unexpected end"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fail(want, open(t, nil), resume)
	}
	if os.Getuid() != 0 { // whom no folder refuses
		locked := filepath.Join(t.TempDir(), "locked")
		if err := os.Mkdir(locked, 0o500); err != nil {
			t.Fatal(err)
		}
		o.Folder = locked
		fail("is not writable", open(t, nil), o)
	}
}

func TestProgress(t *testing.T) {
	o := options(t)
	o.Every = time.Millisecond
	var seen []Progress
	o.Progress = func(p Progress) { seen = append(seen, p) }
	runExperiment(t, open(t, map[string]string{"requests": "40", "batch": "8,16"}), o)
	steps := map[int]bool{}
	for i, p := range seen {
		steps[p.Step] = true
		if p.Steps != 2 || p.Total != 40 || p.Done > 40 || p.Done > 0 && (p.P95 < p.P50 || p.PairsPerS <= 0 || p.Left < 0) {
			t.Errorf("%+v", p)
		}
		if i > 0 && (p.Step < seen[i-1].Step || p.Step == seen[i-1].Step && p.Done < seen[i-1].Done) {
			t.Errorf("%+v after %+v", p, seen[i-1])
		}
	}
	if len(steps) != 2 {
		t.Errorf("steps seen: %v", steps)
	}
}

func TestLeft(t *testing.T) {
	timed := step{settings: experiment.Settings{Duration: experiment.Time(10 * time.Second), Batch: 32}}
	counted := step{settings: experiment.Settings{Requests: 100, Batch: 32}}
	for _, test := range []struct {
		steps []step
		p     Progress
		want  time.Duration
	}{
		{[]step{counted}, Progress{Done: 50, PairsPerS: 160}, 10 * time.Second},
		{[]step{counted, counted}, Progress{Done: 50, PairsPerS: 160}, 30 * time.Second},
		{[]step{timed}, Progress{Done: 5, PairsPerS: 160, Elapsed: 4 * time.Second, Length: 10 * time.Second}, 6 * time.Second},
		{[]step{timed, counted}, Progress{Done: 5, PairsPerS: 160, Elapsed: 4 * time.Second, Length: 10 * time.Second}, 26 * time.Second},
		{[]step{counted}, Progress{}, -1},
	} {
		if got := left(test.steps, test.p); got != test.want {
			t.Errorf("%+v: %v, want %v", test.p, got, test.want)
		}
	}
}
