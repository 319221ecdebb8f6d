package tune

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// A quality compares a configuration's ranking with float32's on the same pairs.
type quality struct {
	Queries int `json:"queries"`
	Pairs   int `json:"pairs"`

	Tau     float64 `json:"kendall_tau"`  // mean over queries
	SameTop float64 `json:"same_top_ten"` // share of the first ten documents that are in float32's too
	Worst   float64 `json:"worst_sd"`     // largest difference of logits, in standard deviations of float32's

	NDCG       *float64 `json:"ndcg_10,omitempty"` // with judgements
	Difference *float64 `json:"ndcg_10_difference,omitempty"`
	P          *float64 `json:"p,omitempty"` // of a paired randomization test over queries
}

// The bound that a chosen configuration must be within. Without judgements its ranking
// must be float32's; with judgements nDCG@10 must not be lower.
const (
	leastTau     = 0.99
	leastSameTop = 0.99
	mostWorst    = 0.1
	mostLost     = 0.002 // of nDCG@10
	leastP       = 0.05  // of a loss that chance explains
)

// topTen is how many first documents SameTop compares.
const topTen = 10

// compareLogits compares logits of the same queries with float32's.
func compareLogits(exact, logits [][]float32) quality {
	q := quality{Queries: len(logits), Tau: 1, SameTop: 1}
	var all, taus []float64
	same, tops := 0, 0
	largest := 0.0
	for i := range logits {
		a, b := wide(exact[i][:len(logits[i])]), wide(logits[i])
		q.Pairs += len(b)
		for k := range a {
			all = append(all, a[k])
			largest = max(largest, math.Abs(a[k]-b[k]))
		}
		if tau, ok := measures.KendallTau(a, b); ok {
			taus = append(taus, tau)
		}
		first := top(a)
		tops += len(first)
		for _, at := range top(b) {
			if slices.Contains(first, at) {
				same++
			}
		}
	}
	if len(taus) > 0 {
		q.Tau = stat.Mean(taus, nil)
	}
	if tops > 0 {
		q.SameTop = float64(same) / float64(tops)
	}
	if deviation := stat.PopStdDev(all, nil); deviation > 0 {
		q.Worst = largest / deviation
	}
	return q
}

// top returns the indexes of the first documents.
func top(logits []float64) []int {
	order := make([]int, len(logits))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	return order[:min(topTen, len(order))]
}

func wide(list []float32) []float64 {
	out := make([]float64, len(list))
	for i, x := range list {
		out[i] = float64(x)
	}
	return out
}

// judge adds the measure of both rankings on the first queries of the texts.
func (q *quality) judge(t *texts, exact, logits [][]float32) error {
	same := make([][]float32, len(logits))
	for i := range logits {
		same[i] = exact[i][:len(logits[i])]
	}
	before, err := t.judged.Values(t.list[:len(logits)], same)
	if err != nil {
		return err
	}
	after, err := t.judged.Values(t.list[:len(logits)], logits)
	if err != nil {
		return err
	}
	c, err := measures.Compare(before, after)
	if err != nil {
		return err
	}
	mean := stat.Mean(after, nil)
	q.NDCG, q.Difference, q.P = &mean, &c.Difference, &c.Randomization
	return nil
}

// isWithinBound reports whether a configuration loses nothing that can be measured.
func (q *quality) isWithinBound() bool {
	if q.NDCG != nil {
		return *q.Difference >= 0 || *q.Difference >= -mostLost && *q.P >= leastP
	}
	return q.Tau >= leastTau && q.SameTop >= leastSameTop && q.Worst <= mostWorst
}
