package schedule

import "time"

// A Priority selects the queue of a request. A batch has pairs of one priority.
type Priority int

// The priorities, best first.
const (
	PriorityInteractive Priority = iota // goes first
	PriorityBatch                       // has what interactive requests leave, and a least share
	priorities                          // their number
)

const (
	// For so long after an interactive request the next one is expected.
	interactiveMemory = time.Minute

	// While an interactive request is expected, a batch of PriorityBatch has at most
	// this share of the tokens of a usual interactive request, and no other one of
	// that priority is in flight. So the interactive request waits at most this share
	// of its own time for it, unless a single pair takes longer.
	shortBatch = 0.25

	// PriorityBatch has this share of the tokens while interactive pairs always wait.
	leastShare = 1. / 8

	// The usual request grows by at most this factor a request, and shrinks at once:
	// the smaller requests decide.
	usualGrowth = 1.125
)

// sharing divides the device between the priorities.
type sharing struct {
	interactive time.Time // when the last interactive request arrived
	usual       float64   // tokens of a usual interactive request
	credit      float64   // tokens of PriorityBatch that go before waiting interactive pairs
}

// expected reports whether an interactive request may arrive at any time.
func (s *sharing) expected(at time.Time) bool {
	return !s.interactive.IsZero() && at.Sub(s.interactive) < interactiveMemory
}

// arrives records an interactive request of so many tokens, an estimate.
func (s *sharing) arrives(tokens int, at time.Time) {
	if !s.expected(at) {
		s.usual = float64(tokens)
	}
	s.interactive = at
}

// released records the tokens of an interactive request.
func (s *sharing) released(tokens int) {
	s.usual = min(float64(tokens), usualGrowth*s.usual)
}

// turns lists the priorities in the order in which they may have the next batch.
func (s *Scheduler) turns() [priorities]Priority {
	if other := s.queues[PriorityBatch].waiting; len(other) > 0 && s.credit >= float64(other[0].width) {
		return [...]Priority{PriorityBatch, PriorityInteractive}
	}
	return [...]Priority{PriorityInteractive, PriorityBatch}
}

// room returns the limits of a batch of the priority; ok is false if there may be
// none now.
func (s *Scheduler) room(p Priority, at time.Time) (l Limits, ok bool) {
	l = s.limits
	if p == PriorityInteractive || !s.expected(at) {
		return l, true
	}
	for _, b := range s.flying {
		if b.Priority == PriorityBatch {
			return l, false
		}
	}
	tokens := shortBatch * s.usual
	if len(s.queues[PriorityInteractive].waiting) > 0 {
		tokens = min(tokens, s.credit)
	}
	l.Tokens = max(1, min(l.Tokens, int(tokens)))
	return l, true
}

// pay keeps the credit of PriorityBatch after a batch.
func (s *Scheduler) pay(b *Batch) {
	tokens := 0
	for _, it := range b.Items {
		tokens += it.width
	}
	contended := len(s.queues[PriorityInteractive].waiting) > 0
	switch {
	case b.Priority == PriorityInteractive && len(s.queues[PriorityBatch].waiting) > 0:
		s.credit += leastShare / (1 - leastShare) * float64(tokens)
	case b.Priority == PriorityBatch && contended:
		s.credit -= float64(tokens)
	default:
		s.credit = 0
	}
}
