package engine

import (
	"context"
	"slices"
	"time"
)

// A request is the distinct pairs of one call on their way through the engine.
// The pipeline's lock guards all of it but what is said to be set once.
type request struct {
	pairs   []Pair          // distinct; set once
	places  []int           // of the given pairs among them, nil if all are distinct; set once
	keep    bool            // Tokenize: the tokens are the result, and nothing is executed
	options ScoreOptions    // set once
	probe   bool            // Healthy: in no figure, and first in the queue
	ctx     context.Context // ends with the request; set once
	cancel  context.CancelFunc
	queries map[string]encoded

	items    []item
	logits   []float32 // [pairs, labels]
	next     int       // first pair that no tokenizer worker has taken
	chunks   []*chunk  // that workers have, and those done behind such a one, in order
	aside    []*chunk  // of these, begun and put aside
	working  int       // chunks that workers have, or that are put aside
	ready    int       // pairs tokenised without a gap before them
	queued   int       // of these, handed to the queue
	unqueued int       // tokens of those not handed to it
	taken    int       // of these, taken into batches
	running  int       // batches executing
	left     int       // pairs whose logits are not there yet

	deadline time.Time // of the caller's context, zero if it has none; set once
	number   int64     // counts the requests that were taken in
	todo     load      // of the pairs not taken into batches
	windows  int       // of documents yet to be cut; 0 otherwise
	waiting  int       // tokens computed for the pairs in the queue

	reserved int   // tokens held of the admission's capacity
	turn     int64 // its turn in the queue
	used     int   // tokens of that turn that its pairs have taken up

	batches, tokens, computed, truncated int

	watch stopwatch
	err   error
	done  chan struct{} // closed once err or all logits are there
	// advanced has something once logits have come since it was last read; nil
	// where nobody asks for progress.
	advanced chan struct{}
	ended    bool
}

// An item is a pair between its tokenising and its logits.
type item struct {
	request *request
	place   int // of the pair in the request
	ids     []int32
	types   []int32
	length  int // of ids and types, which are let go once they are submitted
	width   int // tokens computed for it, estimated until it is tokenised
	cut     bool
	arrival int64
	turn    int64 // the queue's order is by this, then by arrival
	passed  int   // batches that took another request's pair from behind it
	since   time.Time
}

// newRequest is of the given pairs.
func newRequest(pairs []Pair) *request {
	r := new(request)
	r.pairs, r.places = distinct(pairs)
	return r
}

// whole says whether a pair that does not fit refuses the request, which then
// executes nothing.
func (r *request) whole() bool { return r.options.Truncation == TruncateNot }

// advance tells the caller, if that asks for it, that logits have come.
func (r *request) advance() {
	select {
	case r.advanced <- struct{}{}:
	default:
	}
}

// givenPairs is how many pairs the caller gave.
func (r *request) givenPairs() int {
	if r.places == nil {
		return len(r.pairs)
	}
	return len(r.places)
}

// distinct is the place, among the distinct pairs, of one the caller gave.
func (r *request) distinct(given int) int {
	if r.places == nil {
		return given
	}
	return r.places[given]
}

// begin makes a request of n distinct pairs that was accepted just now.
func (r *request) begin(n int, at time.Time) {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.queries = make(map[string]encoded)
	r.watch = startStopwatch(at)
	r.done = make(chan struct{})
	if r.options.Progress != nil {
		r.advanced = make(chan struct{}, 1)
	}
	r.left = n
}

// given is the first place, among the pairs the caller gave, of a distinct one.
func (r *request) given(at int) int {
	if r.places == nil {
		return at
	}
	return slices.Index(r.places, at)
}

// stage is what the request is at, by the precedence of Timings.
func (r *request) stage(workable bool) stage {
	switch {
	case r.running > 0:
		return inference
	case r.working > 0 || workable:
		return tokenization
	case r.queued > r.taken:
		return queueWait
	}
	return other
}

// distinct lists each pair once, and for each pair given its place in the list:
// nil if no two were the same.
func distinct(pairs []Pair) (list []Pair, places []int) {
	seen := make(map[Pair]int, len(pairs))
	for _, p := range pairs {
		if _, ok := seen[p]; !ok {
			seen[p] = len(seen)
		}
	}
	if len(seen) == len(pairs) {
		return pairs, nil
	}
	list, places = make([]Pair, len(seen)), make([]int, len(pairs))
	for i, p := range pairs {
		places[i] = seen[p]
		list[seen[p]] = p
	}
	return list, places
}
