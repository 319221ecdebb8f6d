package tune

import (
	"math"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

func TestCompareLogits(t *testing.T) {
	exact := [][]float32{{5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6}, {1, 2}}
	for _, test := range []struct {
		name     string
		logits   [][]float32
		tau, top float64
		worst    float64
		sound    bool
	}{
		{"the same", exact, 1, 1, 0, true},
		{"a swap above the tenth", [][]float32{{4, 5, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6}, {1, 2}}, (64.0/66 + 1) / 2, 1, 0.305, false},
		{"a swap at the tenth", [][]float32{{5, 4, 3, 2, 1, 0, -1, -2, -3, -5, -4, -6}, {1, 2}}, (64.0/66 + 1) / 2, 11.0 / 12, 0.305, false},
		{"a small shift", [][]float32{{5.1, 4.1, 3.1, 2.1, 1.1, 0.1, -0.9, -1.9, -2.9, -3.9, -4.9, -5.9}, {1.1, 2.1}}, 1, 1, 0.0305, true},
		{"a large shift", [][]float32{{6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5}, {2, 3}}, 1, 1, 0.305, false},
		{"the first query alone", exact[:1], 1, 1, 0, true},
	} {
		q := compareLogits(exact[:len(test.logits)], test.logits)
		if math.Abs(q.Tau-test.tau) > 1e-9 || math.Abs(q.SameTop-test.top) > 1e-9 || math.Abs(q.Worst-test.worst) > 2e-3 || q.isWithinBound() != test.sound {
			t.Errorf("%s: %+v, within the bound %v; want tau %v, top %v, worst %v, %v", test.name, q, q.isWithinBound(), test.tau, test.top, test.worst, test.sound)
		}
		if (q.loss() == "") != test.sound {
			t.Errorf("%s: loss %q", test.name, q.loss())
		}
	}
}

func TestBoundOfJudgements(t *testing.T) {
	value := 0.5
	for _, test := range []struct {
		difference, p float64
		sound         bool
	}{{0, 1, true}, {0.1, 0, true}, {-0.001, 0.5, true}, {-0.001, 0.01, false}, {-0.003, 0.5, false}, {-0.002, 0.05, true}} {
		q := quality{Tau: 0.5, NDCG: &value, Difference: &test.difference, P: &test.p}
		if q.isWithinBound() != test.sound {
			t.Errorf("difference %v with p %v: within the bound %v", test.difference, test.p, q.isWithinBound())
		}
	}
}

// configured returns a configuration with speeds by round and the quality of a dtype.
func configured(dtype engine.DType, worst float64, speeds ...float64) *configuration {
	return &configuration{settings: settings{DType: dtype}, speeds: speeds, standard: true, quality: quality{Tau: 1, SameTop: 1, Worst: worst}}
}

func TestPickDType(t *testing.T) {
	baseline := configured(engine.Float32, 0, 100, 50, 100) // another program took half of round 1
	baseline.baseline = true
	for _, test := range []struct {
		name  string
		other *configuration
		want  bool // other is chosen
	}{
		{"faster", configured("int8", 0.05, 190, 95, 190), true},
		{"faster in each round, not in the median", configured("int8", 0.05, 104, 65, 104), true},
		{"faster in two rounds of three", configured("int8", 0.05, 130, 65, 90), false},
		{"hardly faster", configured("int8", 0.05, 102, 51, 102), false},
		{"slower", configured("int8", 0.05, 80, 40, 80), false},
		{"faster and wrong", configured("int8", 0.2, 190, 95, 190), false},
		{"one round and slower", configured("float16", 0.01, 10), false},
		{"no round", configured("int8", 0), false},
	} {
		got := pickDType([]*configuration{baseline, test.other}, baseline)
		if (got == test.other) != test.want || got == nil {
			t.Errorf("%s: chosen %+v", test.name, got)
		}
	}
	fast, exact := configured("int8", 0.09, 200, 100, 200), configured("bfloat16", 0.04, 198, 99, 198)
	if got := pickDType([]*configuration{baseline, fast, exact}, baseline); got != exact {
		t.Errorf("of two equally fast ones %s is chosen, want the more exact", got.settings.DType)
	}
}

// sized returns a configuration with a peak of memory.
func sized(dtype engine.DType, worst float64, megabytes uint64, speeds ...float64) *configuration {
	c := configured(dtype, worst, speeds...)
	c.peak, c.logits = megabytes<<20, [][]float32{{1, 2}}
	return c
}

// Memory decides between configurations that are about as fast.
func TestPickByMemory(t *testing.T) {
	for _, test := range []struct {
		name string
		list []*configuration // the first is the default
		want engine.DType
	}{
		{"3 % faster with 2.4 times the memory", []*configuration{sized(engine.Int8W, 0, 105, 100), sized(engine.Float32, 0, 250, 103.5)}, engine.Int8W},
		{"3 % faster with 1.9 times the memory", []*configuration{sized(engine.Int8W, 0, 105, 100), sized(engine.Float32, 0, 200, 103.5)}, engine.Float32},
		{"2 % faster with less memory", []*configuration{sized(engine.Int8W, 0, 105, 100), sized(engine.Float32, 0, 50, 102)}, engine.Int8W},
		{"25 % faster with 2.4 times the memory", []*configuration{sized(engine.Int8W, 0, 105, 100), sized(engine.Float32, 0, 250, 125)}, engine.Float32},
		{"two equally fast ones", []*configuration{sized(engine.Float32, 0, 200, 100), sized("bfloat16", 0.02, 200, 180), sized("int8", 0.05, 150, 178)}, "int8"},
		{"two equally fast and large ones", []*configuration{sized(engine.Float32, 0, 200, 100), sized("bfloat16", 0.02, 155, 178), sized("int8", 0.05, 150, 180)}, "bfloat16"},
		{"10 % faster than the next, with 3 times its memory", []*configuration{sized(engine.Float32, 0, 200, 100), sized("bfloat16", 0.02, 300, 176), sized("int8", 0.05, 100, 160)}, "int8"},
		{"10 % faster than the next, with 1.5 times its memory", []*configuration{sized(engine.Float32, 0, 200, 100), sized("bfloat16", 0.02, 150, 176), sized("int8", 0.05, 100, 160)}, "bfloat16"},
	} {
		if got := pickDType(test.list, test.list[0]); got.settings.DType != test.want {
			t.Errorf("%s: %s is chosen, want %s", test.name, got.settings.DType, test.want)
		}
	}
}

// Small weights stay as they are stored unless another dtype is clearly faster, and the
// config file gets auto, which is right for other models too.
func TestStoredFormatStays(t *testing.T) {
	float32s, stored := sized(engine.Float32, 0, 250, 103.5), sized(engine.Int8W, 0, 105, 100)
	run := &tuning{stored: engine.Int8W, all: []*configuration{float32s, stored}}
	if run.standard() != stored {
		t.Fatalf("%s must be beaten, want int8w", run.standard().settings.DType)
	}
	if text := run.rule(); !strings.Contains(text, "int8w, the default, stays unless another within the bound is faster in each round and by 3 %, or by 20 %") {
		t.Errorf("rule %q", text)
	}
	if text := run.reason(stored); !strings.Contains(text, "no dtype within the bound is clearly faster than int8w") || !strings.Contains(text, "float32 is 1.03 times as fast but takes 2.4 times the memory") {
		t.Errorf("reason %q", text)
	}
	for _, test := range []struct {
		dtype engine.DType
		want  string
	}{{engine.Int8W, "auto"}, {engine.Float32, "float32"}} {
		if got := (&choice{DType: test.dtype}).settings(engine.Int8W, stored)[0].Value; got != test.want {
			t.Errorf("the config file gets dtype %s for %s, want %s", got, test.dtype, test.want)
		}
	}
	stored.quality.Worst = 1
	if run.standard() != float32s || strings.Contains(run.rule(), "the default") {
		t.Errorf("int8w is out of the bound; the rule is %q", run.rule())
	}
}

// A row that left early has not had its peak of memory.
func TestSmallestHadItsRounds(t *testing.T) {
	r := report{Rows: []row{
		{DType: engine.Float32, PeakMB: 73, WithinBound: true},
		{DType: engine.Float16, PeakMB: 62, WithinBound: true, Left: "left early"},
		{DType: engine.Int8, PeakMB: 50},
		{DType: engine.Int8W, PeakMB: 65, WithinBound: true},
	}}
	if got := r.smallest(); got == nil || got.DType != engine.Int8W {
		t.Errorf("%+v takes the least memory, want int8w", got)
	}
}

func TestPickSizes(t *testing.T) {
	chosen := configured(engine.Float32, 0, 50, 50, 100, 100, 100) // two rounds with other dtypes
	other := func(speed float64, threads int) *configuration {
		c := configured(engine.Float32, 0, speed, speed, speed)
		c.standard, c.settings.Threads = false, threads
		return c
	}
	slower, near, faster := other(90, 1), other(102, 1), other(120, 1)
	if got := pickSizes([]*configuration{chosen, slower, near}, chosen, 2); got != chosen {
		t.Errorf("a configuration that is not clearly faster than the default is chosen: %+v", got)
	}
	if got := pickSizes([]*configuration{chosen, slower, near, faster}, chosen, 2); got != faster {
		t.Errorf("chosen %+v", got)
	}
}

func TestReasonNamesFasterOnesThatLose(t *testing.T) {
	baseline, wrong := configured(engine.Float32, 0, 100), configured("int8", 0.3, 190)
	run := &tuning{all: []*configuration{baseline, wrong}}
	if text := run.reason(baseline); !strings.Contains(text, "int8 is faster but has a score that is off by 0.3 deviations") {
		t.Errorf("reason %q", text)
	}
}

// The default is the device's, or the format of small weights that a model has.
func TestDefaultRow(t *testing.T) {
	c := configured(engine.Float32, 0, 100)
	small := configured(engine.Int8W, 0, 100)
	for _, test := range []struct {
		stored engine.DType
		want   *configuration
	}{{"", c}, {engine.Int8W, small}} {
		run := &tuning{stored: test.stored}
		for _, each := range []*configuration{c, small} {
			if run.newRow(each).Default != (each == test.want) {
				t.Errorf("stored %q: %s is the default: %v", test.stored, each.settings.DType, each != test.want)
			}
		}
	}
}

// A query of which only a part was scored is compared on that part.
func TestCompareAPart(t *testing.T) {
	exact := [][]float32{{3, 2, 1, 0}, {1, 2}}
	q := compareLogits(exact, [][]float32{{3, 2}})
	if q.Queries != 1 || q.Pairs != 2 || q.Tau != 1 || q.Worst != 0 {
		t.Errorf("%+v", q)
	}
	if q = compareLogits(exact, [][]float32{{2, 3}}); q.Tau != -1 {
		t.Errorf("an exchanged part has tau %v", q.Tau)
	}
}

func TestWrappedLines(t *testing.T) {
	var b strings.Builder
	writeWrapped(&b, "name", strings.Repeat("twelve bytes ", 20))
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) < 3 || !strings.HasPrefix(lines[0], "name      twelve") || !strings.HasPrefix(lines[1], "          bytes") && !strings.HasPrefix(lines[1], "          twelve") {
		t.Errorf("%q", lines)
	}
	for _, line := range lines {
		if len(line) > 100 || strings.HasSuffix(line, " ") {
			t.Errorf("line %q has %d bytes", line, len(line))
		}
	}
}
