package engine

import (
	"math"
	"math/rand/v2"
	"testing"
)

// What Since gives is what was added, whether the snapshots hold values as they
// are or counts of buckets.
func TestHistogramSince(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, sizes := range [][2]int{{0, 0}, {0, 5}, {100, 0}, {100, 50}, {keptSamples - 10, 30}, {keptSamples, 1}, {keptSamples + 5, 500}, {0, 2 * keptSamples}} {
		var h Histogram
		for range sizes[0] {
			h.add(math.Exp(r.NormFloat64() * 3))
		}
		before := h.clone()
		want := make(map[int]int64)
		for range sizes[1] {
			v := math.Exp(r.NormFloat64() * 3)
			h.add(v)
			want[bucket(v)]++
		}
		last := -1
		for _, b := range h.Since(&before) {
			if b.Index <= last || b.Count != want[b.Index] || bucket(b.Value) != b.Index {
				t.Fatalf("%v: %+v, want %d values", sizes, b, want[b.Index])
			}
			last = b.Index
			delete(want, b.Index)
		}
		if len(want) > 0 {
			t.Errorf("%v: %d buckets are missing", sizes, len(want))
		}
	}
}

func TestPairsByTokens(t *testing.T) {
	e := builtin(t)
	before := e.Stats()
	result, err := e.Score(t.Context(), []Pair{{"a query", "a document"}, {"a query", "another document, of more tokens than the first"}})
	if err != nil {
		t.Fatal(err)
	}
	after := e.Stats()
	pairs, tokens := int64(0), int64(0)
	for n, count := range after.PairsByTokens {
		if n < len(before.PairsByTokens) {
			count -= before.PairsByTokens[n]
		}
		pairs += count
		tokens += count * int64(n)
	}
	if pairs != 2 || tokens != int64(result.Tokens) {
		t.Errorf("%d pairs of %d tokens, want 2 of %d", pairs, tokens, result.Tokens)
	}
}
