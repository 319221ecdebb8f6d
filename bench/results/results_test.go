package results

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTypical(t *testing.T) {
	run := func(wall float64) Run { return Run{WallMS: wall, Requests: []Request{{Pairs: 100}}} }
	for _, test := range []struct {
		walls []float64
		want  int
	}{{[]float64{5}, 0}, {[]float64{5, 4}, 0}, {[]float64{4, 5}, 1}, {[]float64{3, 5, 4}, 2}, {[]float64{4, 4, 4}, 1}, {[]float64{1, 2, 3, 4}, 2}} {
		var p Point
		for _, wall := range test.walls {
			p.Runs = append(p.Runs, run(wall))
		}
		if p.Typical() != &p.Runs[test.want] {
			t.Errorf("%v: want run %d", test.walls, test.want)
		}
	}
	if new(Point).Typical() != nil {
		t.Error("a run of none")
	}
}

func TestWriteKeepsWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	r := &Result{Schema: Schema, Name: `a "name" with {"settings":`, Points: []Point{{Runs: []Run{{Requests: []Request{{Pairs: 1}, {Pairs: 2}}}}}}}
	if err := Write(path, r); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil || got.Name != r.Name || len(got.Points[0].Runs[0].Requests) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	data, err := os.ReadFile(path)
	if err != nil || strings.Count(string(data), "\n") < 5 {
		t.Errorf("requests are not on lines of their own: %v\n%s", err, data)
	}
	nan := 0.0
	r.Points[0].Runs[0].WallMS = nan / nan
	if err := Write(path, r); err == nil {
		t.Error("NaN is written")
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(data) {
		t.Errorf("a failed write has changed the file: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// A file of a version that could not measure servers reads as one of an engine. The
// results of an engine are written as before.
func TestFormerFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	former := `{"schema_version":1,"name":"x","environment":{"program":"0.1.0"},"points":[{"settings":{"batch":2,"duration":"0s","timeout":"0s"},"engine":{"device":"cpu"},"runs":[{"wall_ms":5,"requests":[{"start_ms":0,"latency_ms":3,"inference_ms":2,"pairs":2}]}]}]}`
	if err := os.WriteFile(path, []byte(former), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	run := &r.Points[0].Runs[0]
	if r.Environment.Server != nil || !run.Known().All() || run.Requests[0].InferenceMS != 2 {
		t.Errorf("%+v", r)
	}
	data, err := encode(r)
	if err != nil || strings.Contains(string(data), `"server"`) || strings.Contains(string(data), `"failed"`) {
		t.Errorf("%v, %s", err, data)
	}
}

// The rows of a profile add up to the whole, also if helpers took more time than the
// workers had.
func TestProfileRows(t *testing.T) {
	p := Profile{Workers: 2, BusyMS: 100, PassMS: 150, HelpedMS: 20, TokenizingMS: 7, Phases: []Phase{{Name: "a", MS: 90}, {Name: "b", MS: 60}}}
	sum := func() (sum float64) {
		for _, row := range p.Rows() {
			if row.MS < 0 {
				t.Errorf("%s took %v ms", row.Name, row.MS)
			}
			sum += row.MS
		}
		return sum
	}
	if got := sum(); got != 207 {
		t.Errorf("rows of %v ms, want 2 workers x 100 ms and 7 ms", got)
	}
	if rows := p.Rows(); rows[2].MS != 20 || rows[4].MS != 30 {
		t.Errorf("the rest is %v ms, want 20; waiting %v, want 30", rows[2].MS, rows[4].MS)
	}
	p.HelpedMS = 70
	if got := sum(); got != 227 {
		t.Errorf("rows of %v ms, want the passes' 150, the helpers' 70 and 7", got)
	}
}

func TestResultsWithoutProfileAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	before := `{"schema_version":1,"name":"n","points":[{"runs":[{"wall_ms":1,"requests":[]}]}]}`
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil || r.Points[0].Runs[0].Profile != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := Write(path, r); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), "profile") {
		t.Errorf("%s, %v", data, err)
	}
}
