package measures

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// unjudged is the relevance of a document without judgement. It sorts below all others.
const unjudged = math.MinInt

// Rank returns a copy of the documents in trec_eval's order: by descending score, equal
// scores by descending id.
func Rank(documents []Retrieved) []Retrieved {
	ranked := slices.Clone(documents)
	slices.SortFunc(ranked, func(a, b Retrieved) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.ID, a.ID))
	})
	return ranked
}

// A ranking has the relevance of one query's documents in the order of their ranks.
type ranking []int

// rankings are orders of the same documents.
type rankings struct {
	actual ranking // trec_eval's order
	low    ranking // within equal scores, the worst order
	high   ranking // within equal scores, the best order
	best   ranking // the best order of all
}

// newRankings orders one query's documents. In a tie, every measure is highest when more
// relevant documents come first, and lowest when they come last, because exchanging two
// neighbours in favour of the more relevant one lowers no measure.
func newRankings(judged map[string]int, ranked []Retrieved) rankings {
	actual := make(ranking, len(ranked))
	for i, d := range ranked {
		actual[i] = unjudged
		if rel, ok := judged[d.ID]; ok {
			actual[i] = rel
		}
	}
	r := rankings{actual, slices.Clone(actual), slices.Clone(actual), slices.Clone(actual)}
	for start := 0; start < len(ranked); {
		end := start + 1
		for end < len(ranked) && ranked[end].Score == ranked[start].Score {
			end++
		}
		slices.Sort(r.low[start:end])
		sortDescending(r.high[start:end])
		start = end
	}
	sortDescending(r.best)
	return r
}

func sortDescending(x []int) {
	slices.SortFunc(x, func(a, b int) int { return cmp.Compare(b, a) })
}

// checkRun rejects what has no ranking: NaN scores and documents that occur twice.
func checkRun(run Run, queries []string) error {
	for _, query := range queries {
		seen := make(map[string]bool, len(run[query]))
		for _, d := range run[query] {
			if math.IsNaN(d.Score) {
				return fmt.Errorf("query %q, document %q: score is NaN; every score must be a number", query, d.ID)
			}
			if seen[d.ID] {
				return fmt.Errorf("query %q: document %q is in the run twice; remove one", query, d.ID)
			}
			seen[d.ID] = true
		}
	}
	return nil
}
