package measures

import (
	"math"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	c, err := Compare([]float64{0.5, 0.5, 0.5, 0.5}, []float64{0.7, 0.4, 0.5, 0.9})
	if err != nil || c.Won != 2 || c.Lost != 1 || c.Equal != 1 || math.Abs(c.Difference-0.125) > 1e-15 {
		t.Errorf("%+v, %v", c, err)
	}
	if c.Randomization != 0.5 { // sums of ±.2 ±.1 ±.4: 4 of 8 are at least .5 from 0
		t.Errorf("randomization: p %v, want 0.5", c.Randomization)
	}
	again, err := Compare([]float64{0.5, 0.5, 0.5, 0.5}, []float64{0.7, 0.4, 0.5, 0.9})
	if err != nil {
		t.Fatal(err)
	}
	if *again.Interval != *c.Interval {
		t.Errorf("intervals %v and %v of the same values", again.Interval, c.Interval)
	}
	same, err := Compare([]float64{1, 0}, []float64{1, 0})
	if err != nil || same.Randomization != 1 || same.TTest != 1 || *same.Interval != (Interval{}) || same.Equal != 2 {
		t.Errorf("equal rankings: %+v, %v", same, err)
	}
	one, err := Compare([]float64{0.25}, []float64{1})
	if err != nil || one.Interval != nil || one.Randomization != 1 || one.TTest != 1 {
		t.Errorf("one query: %+v, %v", one, err)
	}
}

func TestCompareErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after []float64
		want          string
	}{
		"lengths": {[]float64{1}, []float64{1, 2}, "1 values with 2"},
		"none":    {nil, nil, "0 values"},
		"NaN":     {[]float64{1}, []float64{math.NaN()}, "finite"},
	} {
		if got, err := Compare(c.before, c.after); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, got, err, c.want)
		}
	}
}

func TestSeparate(t *testing.T) {
	t.Parallel()
	s, err := Separate([]Labelled{{1, false}, {3, true}, {2, false}, {2, true}, {0, false}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{{3, 1, 0.5, 1, 1}, {2, 2.0 / 3, 1, 3, 2}, {1, 0.5, 1, 4, 2}, {0, 0.4, 1, 5, 2}}
	for i, p := range want {
		if len(s.Curve) != len(want) || s.Curve[i] != p {
			t.Fatalf("curve %+v, want %+v", s.Curve, want)
		}
	}
	for precision, logit := range map[float64]float64{0.9: 3, 0.6: 2, 0.4: 0} {
		if got, ok := s.ForPrecision(precision); !ok || got.Logit != logit {
			t.Errorf("for precision %v: %+v, %v; want threshold %v", precision, got, ok, logit)
		}
	}
	mixed, err := Separate([]Labelled{{1, true}, {1, false}})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := mixed.ForPrecision(0.9); ok {
		t.Errorf("threshold %+v of pairs that no threshold separates", got)
	}
	bins := s.Histogram(3)
	for i, want := range []Bin{{0, 1, 0, 1}, {1, 2, 0, 1}, {2, 3, 2, 1}} {
		if len(bins) != 3 || bins[i] != want {
			t.Errorf("bins %+v; want %+v at %d", bins, want, i)
		}
	}
	if bins := mixed.Histogram(10); len(bins) != 1 || bins[0] != (Bin{1, 1, 1, 1}) {
		t.Errorf("equal logits: %+v", bins)
	}
}

func TestFitSigmoidErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pairs []Labelled
		want  string
	}{
		"none":             {nil, "0 pairs are relevant and 0 are not"},
		"one class":        {[]Labelled{{1, true}, {2, true}}, "2 pairs are relevant and 0 are not"},
		"NaN":              {[]Labelled{{1, true}, {math.NaN(), false}}, "logit 2 of 2 is NaN"},
		"infinite":         {[]Labelled{{math.Inf(1), true}, {0, false}}, "logit 1 of 2 is +Inf"},
		"equal":            {[]Labelled{{1, true}, {1, false}}, "all logits are equal"},
		"reversed":         {[]Labelled{{1, true}, {2, false}, {3, false}, {2.5, true}}, "higher logits"},
		"reversed, parted": {[]Labelled{{1, true}, {2, false}}, "higher logits"},
		"too large":        {[]Labelled{{1e300, true}, {0, false}}, "logit 1 of 2 is 1e+300"},
	} {
		if got, err := FitSigmoid(c.pairs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, got, err, c.want)
		}
	}
}
