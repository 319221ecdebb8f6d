package compare

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
)

// made returns a result with a run for each throughput, of requests of 32 pairs.
func made(name string, batches []int, rates ...float64) *results.Result {
	now := time.Now()
	r := &results.Result{Name: name, Finished: &now, Environment: results.Environment{OS: "debian 12, kernel 6, linux/amd64", Chip: "a chip"}}
	for _, batch := range batches {
		p := results.Point{Settings: experiment.Settings{Batch: batch, Concurrency: 1}}
		for _, rate := range rates {
			run := results.Run{}
			for range 10 {
				latency := 1000 * float64(batch) / rate
				run.Requests = append(run.Requests, results.Request{StartMS: run.WallMS, LatencyMS: latency, Pairs: batch})
				run.WallMS += latency
			}
			p.Runs = append(p.Runs, run)
		}
		r.Points = append(r.Points, p)
	}
	return r
}

func compare(t *testing.T, a, b *results.Result, interleaved bool) *Comparison {
	t.Helper()
	c, err := Results(a, b, interleaved)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestApart(t *testing.T) {
	a, b := made("a", []int{32}, 100, 101, 99, 100, 102), made("b", []int{32}, 80, 81, 79, 82, 80)
	c := compare(t, a, b, false)
	f := c.Points[0].Figures[0]
	if f.Ratio < 0.79 || f.Ratio > 0.81 || f.Low == nil || *f.Low > f.Ratio || *f.High < f.Ratio || *f.High > 0.83 || f.verdict() != "B is worse" {
		t.Errorf("%+v", f)
	}
	if latency := c.Points[0].Figures[1]; latency.Ratio < 1.2 || latency.verdict() != "B is worse" {
		t.Errorf("%+v", latency)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "not interleaved") {
		t.Errorf("%q", c.Warnings)
	}
	if c.Slower(0.05) == "" || c.Slower(0.25) != "" || compare(t, b, a, false).Slower(0.05) != "" {
		t.Errorf("slower: %q, %q", c.Slower(0.05), c.Slower(0.25))
	}
	for _, word := range []string{"A  a", "B  b", "batch=32, concurrency=1 (5 and 5 runs)", "throughput_pairs_s", "B is worse"} {
		if !strings.Contains(c.Text(), word) {
			t.Errorf("no %q in\n%s", word, c.Text())
		}
	}
}

// Noise that slows both down hides a difference unless the rounds alternate.
func TestInterleaved(t *testing.T) {
	a, b := made("a", []int{32}, 100, 60, 90, 50, 80), made("b", []int{32}, 95, 57, 85, 47.5, 76)
	apart, rounds := compare(t, a, b, false), compare(t, a, b, true)
	if verdict := apart.Points[0].Figures[0].verdict(); verdict != "no difference shown" || apart.Slower(0.01) != "" {
		t.Errorf("apart: %s, %s", verdict, apart.Slower(0.01))
	}
	if verdict := rounds.Points[0].Figures[0].verdict(); verdict != "B is worse" || rounds.Slower(0.01) == "" || len(rounds.Warnings) != 0 {
		t.Errorf("in rounds: %s, %q", verdict, rounds.Warnings)
	}
}

func TestOneRun(t *testing.T) {
	c := compare(t, made("a", []int{32}, 100), made("b", []int{32}, 90), false)
	f := c.Points[0].Figures[0]
	if f.Low != nil || f.interval() != "-" || f.verdict() != "-" || len(c.Warnings) != 2 {
		t.Errorf("%+v, %q", f, c.Warnings)
	}
	if c.Slower(0.05) == "" {
		t.Error("without an interval the ratio alone decides")
	}
}

func TestMatch(t *testing.T) {
	c := compare(t, made("a", []int{8, 16, 32}, 100, 100), made("b", []int{16, 32, 64}, 100, 100), false)
	if len(c.Points) != 2 || c.Points[0].A != "batch=16, concurrency=1" {
		t.Errorf("%+v", c.Points)
	}
	for _, want := range []string{"a: batch=8, concurrency=1 is left out: b has no measured point like it", "b: batch=64, concurrency=1 is left out: a has no measured point like it"} {
		if text := strings.Join(c.Warnings, "\n"); strings.Count(text, want) != 1 || strings.Count(text, "left out") != 2 {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if _, err := Results(made("a", []int{8, 16}, 100), made("b", []int{32, 64}, 100), false); err == nil {
		t.Error("points without counterparts are compared")
	}
	if _, err := Results(made("a", nil), made("b", []int{32}, 100), false); err == nil || !strings.Contains(err.Error(), "a has 0 measured points") {
		t.Errorf("%v", err)
	}
	other := made("b", []int{32}, 100)
	other.Environment.Chip, other.Finished = "another chip", nil
	other.Points = append(other.Points, results.Point{Error: "it broke"})
	text := strings.Join(compare(t, made("a", []int{32}, 100), other, false).Warnings, "\n")
	for _, word := range []string{`"another chip"`, "b was interrupted", "it broke"} {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in %s", word, text)
		}
	}
}

// benchstat can read the lines.
func TestBenchstat(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for _, r := range []*results.Result{made("old", []int{16, 32}, 100, 101, 99, 100, 102, 100), made("new", []int{16, 32}, 120, 121, 119, 122, 120, 118)} {
		path := filepath.Join(dir, r.Name+".txt")
		if err := os.WriteFile(path, []byte(Benchmarks(r)), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	out, err := exec.Command("go", append([]string{"tool", "benchstat", "-ignore", "experiment"}, files...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	for _, word := range []string{"Score/batch=16/concurrency=1", "Score/batch=32/concurrency=1", "pairs/s", "p95-ms", "+20.", "n=6", "goos: linux", "cpu: a chip"} {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in\n%s", word, text)
		}
	}
	// Both in one file, as compare prints them, make a column per experiment.
	out, err = exec.Command("bash", "-c", "cat \"$@\" | go tool benchstat -col experiment -", "-", files[0], files[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "+20.") {
		t.Errorf("%v\n%s", err, out)
	}
}
