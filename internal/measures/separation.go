package measures

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A Labelled is the logit of a pair of which a judge said whether it is relevant.
type Labelled struct {
	Logit    float64
	Relevant bool
}

// A Separation says how well logits separate relevant pairs from others.
type Separation struct {
	Relevant Distribution `json:"relevant"`
	Other    Distribution `json:"other"`
	Curve    []Point      `json:"curve"` // one point for each distinct logit, descending

	sorted []Labelled // by descending logit
}

// A Distribution summarizes logits.
type Distribution struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
	Min  float64 `json:"min"`
	P5   float64 `json:"p5"`
	P25  float64 `json:"p25"`
	P50  float64 `json:"p50"`
	P75  float64 `json:"p75"`
	P95  float64 `json:"p95"`
	Max  float64 `json:"max"`
}

// A Point has what a threshold keeps: the pairs with at least its logit.
type Point struct {
	Logit     float64 `json:"logit"`
	Precision float64 `json:"precision"` // share of the kept pairs that are relevant
	Recall    float64 `json:"recall"`    // share of the relevant pairs that are kept
	Kept      int     `json:"kept"`
	Relevant  int     `json:"relevant"` // among the kept pairs
}

// A Threshold is a point with the interval of its precision.
type Threshold struct {
	Point
	Interval Interval `json:"precision_interval"`
}

// A Bin counts the pairs with a logit of at least Low and less than High. The last bin
// includes High.
type Bin struct {
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Relevant int     `json:"relevant"`
	Other    int     `json:"other"`
}

// Separate compares the logits of relevant pairs with the logits of others.
func Separate(pairs []Labelled) (*Separation, error) {
	if err := checkLabelled(pairs); err != nil {
		return nil, err
	}
	s := &Separation{sorted: slices.Clone(pairs)}
	slices.SortStableFunc(s.sorted, func(a, b Labelled) int { return cmp.Compare(b.Logit, a.Logit) })
	relevant, other := split(pairs)
	s.Relevant, s.Other = summarize(relevant), summarize(other)
	found := 0
	for i, p := range s.sorted {
		if p.Relevant {
			found++
		}
		if i+1 < len(s.sorted) && s.sorted[i+1].Logit == p.Logit {
			continue
		}
		s.Curve = append(s.Curve, Point{
			Logit: p.Logit, Kept: i + 1, Relevant: found,
			Precision: float64(found) / float64(i+1), Recall: float64(found) / float64(len(relevant)),
		})
	}
	return s, nil
}

// ForPrecision returns the lowest threshold that reaches a precision, which keeps the
// most pairs. The interval is Wilson's, which takes pairs as independent; where many
// pairs share few queries the truth is less certain. It is not ok if no threshold
// reaches the precision.
func (s *Separation) ForPrecision(want float64) (t Threshold, ok bool) {
	for _, p := range slices.Backward(s.Curve) {
		if p.Precision >= want {
			return Threshold{p, wilson(p.Relevant, p.Kept)}, true
		}
	}
	return Threshold{}, false
}

// Histogram counts pairs in bins of the same width.
func (s *Separation) Histogram(bins int) []Bin {
	low, high := s.sorted[len(s.sorted)-1].Logit, s.sorted[0].Logit
	if bins < 1 || low == high {
		bins = 1
	}
	width := high/float64(bins) - low/float64(bins)
	out := make([]Bin, bins)
	for i := range out {
		out[i].Low, out[i].High = low+float64(i)*width, low+float64(i+1)*width
	}
	out[bins-1].High = high
	for _, p := range s.sorted {
		i := 0
		if width > 0 {
			i = min(int((p.Logit-low)/width), bins-1)
		}
		if p.Relevant {
			out[i].Relevant++
		} else {
			out[i].Other++
		}
	}
	return out
}

// checkLabelled rejects pairs that no threshold can separate.
func checkLabelled(pairs []Labelled) error {
	relevant := 0
	for i, p := range pairs {
		if !(math.Abs(p.Logit) <= math.MaxFloat32) {
			return fmt.Errorf("logit %d of %d is %v; logits must be finite float32 numbers", i+1, len(pairs), p.Logit)
		}
		if p.Relevant {
			relevant++
		}
	}
	if other := len(pairs) - relevant; relevant == 0 || other == 0 {
		return fmt.Errorf("%d pairs are relevant and %d are not; both kinds are needed", relevant, other)
	}
	return nil
}

func split(pairs []Labelled) (relevant, other []float64) {
	for _, p := range pairs {
		if p.Relevant {
			relevant = append(relevant, p.Logit)
		} else {
			other = append(other, p.Logit)
		}
	}
	return relevant, other
}

func summarize(x []float64) Distribution {
	d := Distribution{N: len(x), Min: slices.Min(x), Max: slices.Max(x)}
	for _, v := range x {
		d.Mean += v / float64(len(x))
	}
	for p, to := range map[float64]*float64{5: &d.P5, 25: &d.P25, 50: &d.P50, 75: &d.P75, 95: &d.P95} {
		*to = telemetry.Percentile(x, p)
	}
	return d
}

// wilson returns Wilson's score interval of a share.
func wilson(part, all int) Interval {
	z := distuv.UnitNormal.Quantile(0.975)
	n, share := float64(all), float64(part)/float64(all)
	centre := (share + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	return Interval{max(0, centre-half), min(1, centre+half)}
}
