package measures

import (
	"math"
	"slices"
)

// A query is what the measures of one query need besides its ranking.
type query struct {
	judged map[string]int
	ideal  ranking // the positive relevances, descending
}

func newQuery(judged map[string]int) query {
	q := query{judged: judged}
	for _, rel := range judged {
		if rel > 0 {
			q.ideal = append(q.ideal, rel)
		}
	}
	sortDescending(q.ideal)
	return q
}

// relevant returns how many documents are relevant at the level rel, retrieved or not.
func (q *query) relevant(rel int) int {
	if i := slices.IndexFunc(q.ideal, func(r int) bool { return r < rel }); i >= 0 {
		return i
	}
	return len(q.ideal)
}

// first returns the documents that count.
func (m Measure) first(r ranking) ranking {
	if m.Cutoff > 0 {
		return r[:min(m.Cutoff, len(r))]
	}
	return r
}

// value returns the measure of a ranking for one query. Where trec_eval divides by 0 it
// leaves the measure at 0.
func (m Measure) value(q *query, r ranking) float64 {
	first := m.first(r)
	switch m.Kind {
	case NDCG:
		return ratio(dcg(first), dcg(m.first(q.ideal)))
	case RR:
		if i := slices.IndexFunc(first, m.counts); i >= 0 {
			return 1 / float64(i+1)
		}
		return 0
	case AP:
		return ratio(m.sumOfPrecisions(first), float64(q.relevant(m.Rel)))
	case R:
		return ratio(m.count(first), float64(q.relevant(m.Rel)))
	case P:
		return ratio(m.count(first), float64(m.Cutoff))
	case Success:
		return min(m.count(first), 1)
	case Judged:
		judged := 0
		for _, rel := range first {
			if rel != unjudged {
				judged++
			}
		}
		return ratio(float64(judged), float64(len(first)))
	}
	return math.NaN() // Parse makes no other kind
}

// counts reports whether a relevance makes a document relevant.
func (m Measure) counts(rel int) bool { return rel >= m.Rel }

func (m Measure) count(r ranking) float64 {
	n := 0
	for _, rel := range r {
		if m.counts(rel) {
			n++
		}
	}
	return float64(n)
}

func (m Measure) sumOfPrecisions(r ranking) float64 {
	found, sum := 0.0, 0.0
	for i, rel := range r {
		if m.counts(rel) {
			found++
			sum += found / float64(i+1)
		}
	}
	return sum
}

// dcg returns the discounted cumulative gain. The gain is the relevance.
func dcg(r ranking) float64 {
	sum := 0.0
	for i, rel := range r {
		if rel > 0 {
			sum += float64(rel) / math.Log2(float64(i+2))
		}
	}
	return sum
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
