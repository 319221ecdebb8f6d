// Package schedule decides which pairs are computed together, and when.
//
// A [Scheduler] is pure: it has no lock, no clock and no goroutine. Its caller
// reports events with their time and asks for the next batch. A pair goes
// through Expect, Admit, Tokenized, Release, Next, Submitted and Collected, in
// this order; End may come at any time after Admit.
package schedule

import (
	"slices"
	"time"
)

const (
	// MaxInFlight is how many batches are taken and not collected: one that
	// executes and one behind it.
	MaxInFlight = 2

	// A request's pairs come to the queue this many at once, so that a batch does
	// not depend on how fast the tokenizer was.
	releasePairs = 1024

	// AheadPairs is how many pairs of a request are tokenised ahead of its batches.
	AheadPairs = 2 * releasePairs

	driftRate = 0.05
)

// Config describes the device and the policy.
type Config struct {
	Layout  Layout
	Limits  Limits
	Costs   Costs // only the first ones, see SetCosts
	Assumed bool  // the costs are guesses
	Known   bool  // the costs were measured by an earlier process
	InOrder bool  // pairs go in the order of their arrival, not by length

	BatchTimeout time.Duration // a batch waits so long for company; 0 never
	LoadTime     time.Duration // that opening a session took
}

// A Request is the scheduler's part of a request. Its fields are set once,
// before Expect.
type Request struct {
	Deadline time.Time // zero for none
	Partial  bool      // what is computed by the deadline is an answer
	Priority Priority
	First    bool // goes ahead of all others
	Whole    bool // is queued only when its last pair is tokenised

	items    []Item
	queued   int   // pairs handed to the queue
	taken    int   // of these, taken into batches
	running  int   // batches that execute
	unqueued int   // tokens of tokenised pairs that are not queued
	todo     load  // of the pairs not taken into batches
	cut      bool  // its other pairs are forgotten
	own      ratio // of its batches' times to the predicted ones; of a partial request

	arrived time.Time
	due     time.Time // orders the requests of a turn
	number  int64     // counts the requests that were admitted
	turn    int64     // its turn in the queue
	used    int       // tokens of that turn that its pairs have used
	waiting int       // tokens computed for its pairs in the queue
}

// Pairs returns how many pairs the request has.
func (r *Request) Pairs() int { return len(r.items) }

// Length returns the tokens of a pair, once it is tokenised.
func (r *Request) Length(index int) int { return r.items[index].Length }

// Taken returns how many pairs were taken into batches.
func (r *Request) Taken() int { return r.taken }

// Waits reports whether pairs of the request wait in the queue.
func (r *Request) Waits() bool { return r.queued > r.taken && !r.cut }

// IsCut reports whether pairs of the request were forgotten for its deadline.
func (r *Request) IsCut() bool { return r.cut }

// Executes reports whether a batch with pairs of the request executes.
func (r *Request) Executes() bool { return r.running > 0 }

// An Item is a pair of a request.
type Item struct {
	Request *Request
	Index   int // of the pair in the request
	Length  int // in tokens, once it is tokenised

	width   int // tokens computed for it, estimated until it is tokenised
	arrival int64
	turn    int64 // the queue is ordered by this, then by arrival
	passed  int   // batches that took another request's pair from behind it
	since   time.Time
}

// A Batch is pairs that go to the device together.
type Batch struct {
	Priority     Priority
	Items        []*Item // microbatch after microbatch
	Microbatches []Microbatch
	Predicted    time.Duration
	Submitted    time.Time
	Alone        time.Time // when it began to execute: Submitted, or when the batch before it was collected

	requests []*Request
	work     float64 // by the cost model
}

// A Timing is when a microbatch executed, counted from the batch's submission.
type Timing struct {
	Worker        int
	Start, Finish time.Duration
}

// Took returns how long each microbatch took by itself. A worker takes its next
// microbatch before it has finished the last one, so starts overlap.
func Took(timings []Timing) []time.Duration {
	free := make(map[int]time.Duration) // when each worker is
	took := make([]time.Duration, len(timings))
	for i, t := range timings {
		took[i] = t.Finish - max(t.Start, free[t.Worker])
		free[t.Worker] = t.Finish
	}
	return took
}

// A Scheduler holds all requests between admission and answer.
type Scheduler struct {
	planner planner
	limits  Limits
	queues  [priorities]queue
	sharing

	assumed      bool
	batchTimeout time.Duration

	live     map[*Request]struct{} // admitted and not ended
	admitted int64                 // requests so far
	timed    int                   // live requests with a deadline that are not partial
	partial  int                   // live partial requests with a deadline
	flying   []*Batch              // taken and not collected, in order

	drift         float64 // of measured times against the cost model
	forecaster            // what it was measured by
	lastCollected time.Time
	mostWork      float64 // of a batch that was measured
	measuring     *Watch  // the microbatches of a measurement of costs, or a pair alone, that execute
}

// New makes a scheduler without requests.
func New(c Config, at time.Time) *Scheduler {
	s := &Scheduler{
		planner:      planner{layout: c.Layout, costs: c.Costs, inOrder: c.InOrder},
		limits:       c.Limits,
		assumed:      c.Assumed,
		batchTimeout: c.BatchTimeout,
		live:         make(map[*Request]struct{}),
		drift:        1,
		forecaster: forecaster{
			padding:  ratio{over: 1, under: 1},
			density:  ratio{over: firstDensity, under: 1},
			measured: at,
			loadTime: c.LoadTime,
		},
	}
	for i := range s.queues {
		s.queues[i] = queue{planner: &s.planner, limits: c.Limits}
	}
	if c.Known {
		s.pace.add(1e9, 1e9, 0)
	}
	return s
}

// Expect gives a request that is not admitted yet its pairs, of lengths that may
// be estimates.
func (s *Scheduler) Expect(r *Request, lengths []int, at time.Time) {
	if !r.First {
		r.arrived, r.due = at, dueTime(r, at)
	}
	r.items = make([]Item, len(lengths))
	for i, n := range lengths {
		r.items[i] = Item{Request: r, Index: i, width: s.planner.layout.Width(n)}
		r.todo.add(r.items[i].width)
	}
}

// Admit takes a request in.
func (s *Scheduler) Admit(r *Request) {
	s.live[r] = struct{}{}
	s.admitted++
	r.number = s.admitted
	s.countDeadline(r, 1)
	if r.Priority == PriorityInteractive && !r.First {
		s.arrives(r.todo.tokens, r.arrived)
	}
}

// countDeadline counts a live request with a deadline.
func (s *Scheduler) countDeadline(r *Request, by int) {
	switch {
	case r.Deadline.IsZero():
	case r.Partial:
		s.partial += by
	default:
		s.timed += by
	}
}

// Tokenized replaces the expected length of a pair.
func (s *Scheduler) Tokenized(r *Request, index, length int) {
	it := &r.items[index]
	if r.cut {
		return
	}
	r.todo.remove(it.width)
	it.Length = length
	it.width = s.planner.layout.Width(length)
	r.todo.add(it.width)
	r.unqueued += length
}

// Release queues a request's tokenised pairs, the first ready ones, when it is
// time: with the last one of the request, when they are many, or when two
// batches are full while the device would have nothing to do. It returns how
// many it has queued.
func (s *Scheduler) Release(r *Request, ready int, at time.Time) int {
	n := ready - r.queued
	last := ready == len(r.items)
	hungry := s.Waiting() == 0 && len(s.flying) < MaxInFlight &&
		(n >= 2*s.limits.Pairs || r.unqueued >= 2*s.limits.Tokens)
	if n == 0 || r.cut || !last && (r.Whole || n < releasePairs && !hungry) {
		return 0
	}
	items := r.items[r.queued:ready]
	for i := range items {
		r.unqueued -= items[i].Length
	}
	r.queued = ready
	s.queues[r.Priority].push(r, items, at)
	if last && r.Priority == PriorityInteractive && !r.First {
		tokens := 0
		for i := range r.items {
			tokens += r.items[i].width
		}
		s.released(tokens)
	}
	return n
}

// Next takes a batch if it is time for one. Otherwise it returns how long that
// may be away, 0 if not known. A batch waits for company up to the batch
// timeout, unless the caller is closing.
func (s *Scheduler) Next(at time.Time, closing bool) (*Batch, time.Duration) {
	var soonest time.Duration
	if len(s.flying) >= MaxInFlight {
		return nil, 0
	}
	for _, p := range s.turns() {
		b, wait := s.nextOf(p, at, closing)
		if b != nil {
			return b, 0
		}
		if soonest == 0 || wait > 0 && wait < soonest {
			soonest = wait
		}
	}
	return nil, soonest
}

// nextOf is Next for one priority.
func (s *Scheduler) nextOf(p Priority, at time.Time, closing bool) (*Batch, time.Duration) {
	q := &s.queues[p]
	held := s.hold(q, at)
	defer func() { q.putBack(held) }()
	if len(q.waiting) == 0 {
		return nil, 0
	}
	limits, ok := s.room(p, at)
	if !ok {
		return nil, 0
	}
	if wait := s.company(q, limits, at); wait > 0 && !closing {
		return nil, wait
	}
	return s.take(p, limits, at), 0
}

// company returns how long a batch of the queue waits for more pairs.
func (s *Scheduler) company(q *queue, l Limits, at time.Time) time.Duration {
	oldest := q.waiting[q.oldest()]
	if s.batchTimeout == 0 || q.full(l) || oldest.Request.First {
		return 0
	}
	return min(s.batchTimeout-at.Sub(oldest.since), s.slack(q, at))
}

// take takes a batch of the priority.
func (s *Scheduler) take(p Priority, l Limits, at time.Time) *Batch {
	b := &Batch{Priority: p}
	q := &s.queues[p]
	d := s.draftForDeadline(q, q.draft(l), l, at)
	q.timed++
	if oldest := q.oldest(); q.waiting[oldest].Request == q.waiting[0].Request || slices.Contains(d.indexes, oldest) {
		q.timed = 0
	}
	b.Items, b.Microbatches = q.pick(d), d.microbatches
	s.pay(b)
	b.work = s.planner.costs.batch(b.Microbatches, s.planner.layout.Workers)
	b.Predicted = time.Duration(s.drift * b.work)
	seen := make(map[*Request]bool)
	for _, it := range b.Items {
		r := it.Request
		r.taken++
		r.todo.remove(it.width)
		r.waiting -= it.width
		if !seen[r] {
			seen[r] = true
			b.requests = append(b.requests, r)
		}
	}
	s.flying = append(s.flying, b)
	return b
}

// Submitted reports that a batch goes to the device.
func (s *Scheduler) Submitted(b *Batch, at time.Time) {
	b.Submitted = at
	for _, r := range b.requests {
		r.running++
	}
}

// Collected reports that a batch is computed, with a timing of each microbatch,
// or that it has failed, without timings.
func (s *Scheduler) Collected(b *Batch, timings []Timing, at time.Time) {
	s.flying = slices.DeleteFunc(s.flying, func(other *Batch) bool { return other == b })
	b.Alone = later(b.Submitted, s.lastCollected)
	s.lastCollected = at
	for _, r := range b.requests {
		r.running--
	}
	if len(timings) == len(b.Microbatches) {
		s.learn(b, timings)
		s.mostWork = max(s.mostWork, b.work)
		s.correct(b, at.Sub(b.Alone))
		s.measure(b, at.Sub(b.Alone), at)
	}
}

// End forgets an admitted request, and its pairs that wait.
func (s *Scheduler) End(r *Request) {
	s.drop(r)
	if _, ok := s.live[r]; ok {
		s.countDeadline(r, -1)
	}
	delete(s.live, r)
}

// drop forgets the pairs of a request that wait.
func (s *Scheduler) drop(r *Request) { s.queues[r.Priority].drop(r) }

// learn keeps predictions right when the machine is slower or faster than when it
// was measured. Plans stay as they are: only how the costs compare matters
// to them.
func (s *Scheduler) learn(b *Batch, timings []Timing) {
	for i, took := range Took(timings) {
		if model := s.planner.costs.Of(b.Microbatches[i]); model > 0 && took > 0 {
			s.drift += driftRate * (min(max(float64(took)/model, 0.01), 100) - s.drift)
		}
	}
}

// SetCosts replaces the costs by measured ones.
func (s *Scheduler) SetCosts(c Costs, at time.Time) {
	s.planner.costs, s.assumed, s.drift = c, false, 1
	s.pace, s.measured, s.warm = ratio{over: 1e9, under: 1e9}, at, true
}

// DecidesByCosts reports whether plans depend on the costs.
func (s *Scheduler) DecidesByCosts() bool { return !s.planner.inOrder && !s.planner.layout.Unpadded }

// Waiting returns how many pairs wait in the queue.
func (s *Scheduler) Waiting() (pairs int) {
	for i := range s.queues {
		pairs += len(s.queues[i].waiting)
	}
	return pairs
}

// WaitingOf returns how many pairs of a priority wait in the queue.
func (s *Scheduler) WaitingOf(p Priority) int { return len(s.queues[p].waiting) }

// WaitingRequest returns a request with pairs in the queue, nil if there is none.
func (s *Scheduler) WaitingRequest() *Request {
	for i := range s.queues {
		if waiting := s.queues[i].waiting; len(waiting) > 0 {
			return waiting[0].Request
		}
	}
	return nil
}

// InFlight returns how many batches are taken and not collected.
func (s *Scheduler) InFlight() int { return len(s.flying) }

// Layout returns the device's layout.
func (s *Scheduler) Layout() Layout { return s.planner.layout }

// TokenTime returns how long the device computes so many tokens in full batches,
// by the costs.
func (s *Scheduler) TokenTime(tokens int) time.Duration {
	return time.Duration(s.planner.costs.Token * float64(tokens) / float64(s.planner.layout.Workers))
}
