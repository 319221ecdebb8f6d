package bench

import (
	"math"
	"testing"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/lab"
)

func TestProfile(t *testing.T) {
	for _, graph := range []string{"0", "1"} {
		t.Setenv("MLXRANK_UNFUSED_GRAPH", graph)
		o := options(t)
		o.Engine.Lab = &lab.Options{Profile: true}
		r := runExperiment(t, open(t, map[string]string{"requests": "20", "runs": "2", "batch": "8"}), o)
		plain := r.Points[0].Engine.Kernels == results.UnfusedGraph
		for i := range r.Points[0].Runs {
			run := &r.Points[0].Runs[i]
			checkProfile(t, run, plain)
		}
		stored, err := results.Read(results.Files{Dir: o.Folder, Name: "bench"}.JSON())
		if err != nil {
			t.Fatal(err)
		}
		if p := stored.Points[0].Runs[1].Profile; p == nil || len(p.Phases) != len(r.Points[0].Runs[1].Profile.Phases) {
			t.Errorf("stored: %+v", p)
		}
	}
}

func checkProfile(t *testing.T, run *results.Run, plain bool) {
	t.Helper()
	p := run.Profile
	if p == nil || p.Pairs != int64(run.Pairs()) || p.TokenizingMS <= 0 || p.Workers < 1 {
		t.Fatalf("profile %+v of %d pairs", p, run.Pairs())
	}
	if want := map[bool]int{false: 6, true: 7}[plain]; len(p.Phases) != want {
		t.Errorf("%d phases, want %d: %+v", len(p.Phases), want, p.Phases)
	}
	total := 0.0
	for _, row := range p.Rows() {
		total += row.MS
	}
	if whole := float64(p.Workers)*p.BusyMS + p.TokenizingMS; total < 0.999*whole || total > whole+p.HelpedMS+0.001*whole || math.IsNaN(total) {
		t.Errorf("rows of %v ms, want %v and at most the helpers' %v more", total, whole, p.HelpedMS)
	}
	if p.BusyMS > run.WallMS {
		t.Errorf("busy for %v ms of %v", p.BusyMS, run.WallMS)
	}
	if p.Matmul.Needed == 0 || p.Matmul.FLOPs < p.Matmul.Needed || p.Attend.Needed == 0 || p.Attend.FLOPs < p.Attend.Needed {
		t.Errorf("products %+v, attention %+v", p.Matmul, p.Attend)
	}
}

func TestNoProfileUnasked(t *testing.T) {
	r := runExperiment(t, open(t, map[string]string{"requests": "5", "batch": "8"}), options(t))
	if p := r.Points[0].Runs[0].Profile; p != nil {
		t.Errorf("%+v", p)
	}
}

// Without passes the profile has the tokenizer's time alone.
func TestProfileOfTokenization(t *testing.T) {
	o := options(t)
	o.Engine.Lab = &lab.Options{Profile: true}
	r := runExperiment(t, open(t, map[string]string{"mode": experiment.TokenizationOnly, "requests": "5", "batch": "8"}), o)
	if p := r.Points[0].Runs[0].Profile; p == nil || p.TokenizingMS <= 0 || p.BusyMS != 0 || p.Matmul.FLOPs != 0 {
		t.Errorf("%+v", p)
	}
}
