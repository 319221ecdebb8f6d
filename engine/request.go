package engine

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
)

// A request is the distinct pairs of one call on their way through the engine.
// The pipeline's lock guards all fields that are not set once.
type request struct {
	schedule.Request // Deadline, Partial, Priority, First, Whole
	untokenized

	pairs   []Pair // distinct; set once
	indexes []int  // of the given pairs among them, nil if all are distinct; set once
	keep    bool   // Tokenize: the tokens are the result, and nothing is executed; set once
	options ScoreOptions
	ctx     context.Context // ends with the request; set once
	cancel  context.CancelFunc
	queries queryCache

	inputs []Tokens  // of the pairs; ids are freed once they are submitted
	logits []float32 // [pairs, labels]
	left   int       // pairs whose logits are not there

	passages int // of documents that are not cut yet; 0 otherwise
	reserved int // tokens held of the queue's capacity

	batches, tokens, computed, truncated int
	hits, misses, cachedTokens           int // of pairs that were looked up in the cache
	skipped                              int // pairs that a request with a lookup did not execute
	recomputing                          int // batches that are computed again pair by pair

	watch stopwatch
	err   error
	done  chan struct{} // closed once err or all logits are there
	// advanced receives once logits have come since it was last read; nil where
	// the caller does not ask for progress.
	advanced chan struct{}
	ended    bool

	// abandon reports, when the caller leaves, whether the request goes on because
	// others wait for its pairs; nil for a request that ends. abandoned: it goes on.
	abandon   func() bool
	abandoned bool
}

func newRequest(pairs []Pair) *request {
	r := new(request)
	r.pairs, r.indexes = distinct(pairs)
	return r
}

// advance wakes up a caller that asks for progress.
func (r *request) advance() {
	select {
	case r.advanced <- struct{}{}:
	default:
	}
}

// isAnswered reports whether no further logits are to come.
func (r *request) isAnswered() bool {
	return r.left == 0 || r.IsCut() && r.Taken() == len(r.pairs)-r.left
}

// dropped returns how many pairs of a partial request were not executed.
func (r *request) dropped() int {
	if r.misses > 0 {
		return r.skipped
	}
	return len(r.pairs) - r.Taken()
}

// isScored reports whether the logits of a distinct pair are there. The logits of a
// partial request begin as NaN, which no pair has.
func (r *request) isScored(at int) bool {
	labels := len(r.logits) / len(r.pairs)
	return !math.IsNaN(float64(r.logits[at*labels]))
}

// givenPairs returns how many pairs the caller gave.
func (r *request) givenPairs() int {
	if r.indexes == nil {
		return len(r.pairs)
	}
	return len(r.indexes)
}

// distinct returns the index, among the distinct pairs, of one the caller gave.
func (r *request) distinct(given int) int {
	if r.indexes == nil {
		return given
	}
	return r.indexes[given]
}

// given returns the first index, among the pairs the caller gave, of a distinct
// one.
func (r *request) given(at int) int {
	if r.indexes == nil {
		return at
	}
	return slices.Index(r.indexes, at)
}

// begin starts a request that was admitted just now.
func (r *request) begin(at time.Time) {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.watch = startStopwatch(at)
	r.done = make(chan struct{})
	if r.options.Progress != nil {
		r.advanced = make(chan struct{}, 1)
	}
	r.left = len(r.pairs)
}

// stage returns where the request is, by the precedence of Timings.
func (r *request) stage() stage {
	switch {
	case r.Executes() || r.recomputing > 0:
		return inference
	case r.working > 0 || r.workable():
		return tokenization
	case r.Waits():
		return queueWait
	}
	return other
}

// distinct lists each pair once, and for each pair given its index in the list:
// nil if no two were the same.
func distinct(pairs []Pair) (list []Pair, indexes []int) {
	seen := make(map[Pair]int, len(pairs))
	for _, p := range pairs {
		if _, ok := seen[p]; !ok {
			seen[p] = len(seen)
		}
	}
	if len(seen) == len(pairs) {
		return pairs, nil
	}
	list, indexes = make([]Pair, len(seen)), make([]int, len(pairs))
	for i, p := range pairs {
		indexes[i] = seen[p]
		list[seen[p]] = p
	}
	return list, indexes
}
