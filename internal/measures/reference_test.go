package measures

import (
	"math"
	"strconv"
	"testing"
)

// A comparisonGolden has results of SciPy and scikit-learn.
type comparisonGolden struct {
	Pairs []struct {
		Name                      string
		Before, After             []float64
		Difference, Randomization float64
		TTest                     float64 `json:"t_test"`
		Interval                  [2]float64
	}
	Labelled []struct {
		Name                              string
		Logits                            []float64
		Labels                            []int
		Quantiles                         [2][7]float64
		Curve                             [][3]float64 // threshold, precision, recall
		Thresholds                        map[string]*goldenThreshold
		Temperature, Shift, Before, After float64
		Separable                         bool
	}
}

type goldenThreshold struct {
	Logit, Precision float64
	Interval         [2]float64
}

func isNear(got, want, relative float64) bool {
	return math.Abs(got-want) <= relative*max(1, math.Abs(want))
}

// TestCompareReference compares tests over queries with SciPy's. Random draws differ, so
// that bootstrap intervals may differ by a part of their width, and p-values of random
// exchanges by five of their deviations.
func TestCompareReference(t *testing.T) {
	t.Parallel()
	var golden comparisonGolden
	readGolden(t, "comparisons.json.gz", &golden)
	if len(golden.Pairs) < 8 {
		t.Fatalf("%d pairs", len(golden.Pairs))
	}
	for _, want := range golden.Pairs {
		got, err := Compare(want.Before, want.After)
		if err != nil {
			t.Fatal(err)
		}
		if !isNear(got.Difference, want.Difference, 1e-12) || !isNear(got.TTest, want.TTest, 1e-10) {
			t.Errorf("%s: difference %v, p %v; SciPy has %v, %v", want.Name, got.Difference, got.TTest, want.Difference, want.TTest)
		}
		most := 1e-12
		if len(want.Before) > maxExact {
			most = 5*math.Sqrt(want.Randomization*(1-want.Randomization)/flips) + 1e-4
		}
		if math.Abs(got.Randomization-want.Randomization) > most {
			t.Errorf("%s: p %v by randomization; SciPy has %v, and %v is allowed", want.Name, got.Randomization, want.Randomization, most)
		}
		width := want.Interval[1] - want.Interval[0]
		if off := max(math.Abs(got.Interval.Low-want.Interval[0]), math.Abs(got.Interval.High-want.Interval[1])); off > 0.03*width {
			t.Errorf("%s: interval %v; SciPy has %v", want.Name, *got.Interval, want.Interval)
		}
	}
}

// TestSeparateReference compares precision and recall with scikit-learn's, quantiles
// with NumPy's and Wilson's intervals with SciPy's.
func TestSeparateReference(t *testing.T) {
	t.Parallel()
	var golden comparisonGolden
	readGolden(t, "comparisons.json.gz", &golden)
	none := 0
	for _, want := range golden.Labelled {
		s, err := Separate(toLabelled(want.Logits, want.Labels))
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Curve) != len(want.Curve) {
			t.Fatalf("%s: %d points, scikit-learn has %d", want.Name, len(s.Curve), len(want.Curve))
		}
		for i, p := range s.Curve {
			w := want.Curve[len(want.Curve)-1-i]
			if p.Logit != w[0] || !isNear(p.Precision, w[1], 1e-12) || !isNear(p.Recall, w[2], 1e-12) {
				t.Errorf("%s: %+v, scikit-learn has %v", want.Name, p, w)
			}
		}
		for i, d := range []Distribution{s.Relevant, s.Other} {
			for j, got := range []float64{d.Min, d.P5, d.P25, d.P50, d.P75, d.P95, d.Max} {
				if !isNear(got, want.Quantiles[i][j], 1e-12) {
					t.Errorf("%s: quantile %d is %v, NumPy has %v", want.Name, j, got, want.Quantiles[i][j])
				}
			}
		}
		for precision, w := range want.Thresholds {
			p, err := strconv.ParseFloat(precision, 64)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := s.ForPrecision(p)
			if ok != (w != nil) {
				t.Errorf("%s: threshold for precision %v: %+v, %v; want %+v", want.Name, p, got, ok, w)
				continue
			}
			if !ok {
				none++
				continue
			}
			if got.Logit != w.Logit || !isNear(got.Precision, w.Precision, 1e-12) || !isNear(got.Interval.Low, w.Interval[0], 1e-12) || !isNear(got.Interval.High, w.Interval[1], 1e-12) {
				t.Errorf("%s: threshold for precision %v: %+v, want %+v", want.Name, p, got, *w)
			}
		}
	}
	if none == 0 || len(golden.Labelled) < 10 {
		t.Errorf("%d samples, %d precisions that none reaches", len(golden.Labelled), none)
	}
}

// TestFitSigmoidReference compares fits with SciPy's, whose gradients vanish and with
// which scikit-learn agrees. Neighbours of each fit must have a larger loss.
func TestFitSigmoidReference(t *testing.T) {
	t.Parallel()
	var golden comparisonGolden
	readGolden(t, "comparisons.json.gz", &golden)
	separable := 0
	for _, want := range golden.Labelled {
		pairs := toLabelled(want.Logits, want.Labels)
		got, err := FitSigmoid(pairs)
		if err != nil {
			t.Errorf("%s: %v", want.Name, err)
			continue
		}
		if !isNear(got.Temperature, want.Temperature, 1e-8) || !isNear(got.Shift, want.Shift, 1e-8) || got.Separable != want.Separable {
			t.Errorf("%s: %+v, want temperature %v, shift %v, separable %v", want.Name, got, want.Temperature, want.Shift, want.Separable)
		}
		if !isNear(got.Before, want.Before, 1e-12) || !isNear(got.After, want.After, 1e-10) {
			t.Errorf("%s: log loss %v before and %v after, want %v and %v", want.Name, got.Before, got.After, want.Before, want.After)
		}
		if got.Separable {
			separable++
			continue
		}
		for _, other := range [][2]float64{{1.01, 0}, {0.99, 0}, {1, 0.01}, {1, -0.01}} {
			if loss := LogLoss(pairs, got.Temperature*other[0], got.Shift+other[1]*got.Temperature); !(loss > got.After) {
				t.Errorf("%s: log loss %v at temperature * %v, shift + %v is not above %v", want.Name, loss, other[0], other[1], got.After)
			}
		}
	}
	if separable < 3 {
		t.Errorf("%d separable samples", separable)
	}
}

func toLabelled(logits []float64, labels []int) []Labelled {
	pairs := make([]Labelled, len(logits))
	for i, logit := range logits {
		pairs[i] = Labelled{logit, labels[i] == 1}
	}
	return pairs
}
