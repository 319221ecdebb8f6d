package report

import (
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/bench/results"
)

// runs makes a result of runs with the given throughputs in pairs per second.
func runs(before float64, rates ...float64) *results.Result {
	r := result(1)
	first := r.Points[0].Runs[0]
	r.Points[0].Runs = nil
	for _, rate := range rates {
		run := first
		run.WallMS = 1000 * float64(run.Pairs()) / rate
		run.LoadBefore, run.LoadAfter = pointer(before), pointer(before+1)
		r.Points[0].Runs = append(r.Points[0].Runs, run)
	}
	return r
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		name  string
		of    *results.Result
		wants []string
	}{
		{"steady", runs(0.1, 100, 102, 101), []string{"**Verdict:** steady. Spread of the runs 2.0 %; load average 0.1 before, up to 1.1 during (2 cores)"}},
		{"apart", runs(0.1, 100, 120), []string{"NOISY: the runs are far apart.", "18.2 %"}},
		{"busy", runs(1.5, 100, 101), []string{"NOISY: the machine was busy"}},
		{"both", runs(1.5, 100, 120), []string{"NOISY: the runs are far apart, and the machine was busy"}},
		{"one run", runs(0.1, 100), []string{"UNKNOWN: one run has no spread", "Spread of the runs -"}},
	} {
		text := string(Markdown(test.of, nil))
		_, line, _ := strings.Cut(text, "**Verdict:**")
		line, _, _ = strings.Cut("**Verdict:**"+line, "\n")
		for _, want := range test.wants {
			if !strings.Contains(line, want) {
				t.Errorf("%s: %q does not say %q", test.name, line, want)
			}
		}
		if strings.Index(text, "**Verdict:**") > strings.Index(text, "**Timestamp:**") {
			t.Errorf("%s: the verdict is not on top", test.name)
		}
	}
	unknown := runs(0, 100, 101)
	for i := range unknown.Points[0].Runs {
		unknown.Points[0].Runs[i].LoadBefore, unknown.Points[0].Runs[i].LoadAfter = nil, nil
	}
	if text := string(Markdown(unknown, nil)); !strings.Contains(text, "steady, but the load of the machine is unknown") {
		t.Error("a load that is not known passes for a low one")
	}
}

// The report shows the mean of two runs, and the median one of three.
func TestMeanOfTwoRuns(t *testing.T) {
	for _, test := range []struct {
		rates []float64
		want  string
		note  bool
	}{{[]float64{100, 120}, "110.0", true}, {[]float64{100, 120, 118}, "118.0", false}} {
		text := Summary(runs(0, test.rates...))
		if !strings.Contains(text, "| "+test.want+" |") || strings.Contains(text, "The mean of two runs") != test.note {
			t.Errorf("%v: want %s:\n%s", test.rates, test.want, text)
		}
	}
}

// The names of settings and memory follow the device.
func TestNamesByDevice(t *testing.T) {
	r := runs(0, 100)
	if text := string(Markdown(r, nil)); !strings.Contains(text, "GPU Memory (MB)") || strings.Contains(text, "MLX Mem") || strings.Contains(text, "(no effect") {
		t.Error("a GPU's report does not have the seed's names")
	}
	r.Points[0].Engine.Device, r.Points[0].Engine.Packed = "cpu", true
	text := string(Markdown(r, nil))
	for _, want := range []string{"MLX Memory (MB)", "MLX Mem (MB)", "**Length-Aware:** on (no effect: tokens are computed without padding)"} {
		if !strings.Contains(text, want) {
			t.Errorf("a CPU's report does not say %q", want)
		}
	}
	if strings.Contains(text, "GPU Mem") {
		t.Error("a CPU's report speaks of a GPU's memory")
	}
}
