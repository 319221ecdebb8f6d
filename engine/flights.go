package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
)

// flights are the pairs that calls compute now, so that identical pairs of several
// calls are computed once.
//
// A call follows the computation of another one only if that will not be later than its
// own would be: the other call is no larger, or small, and neither its deadline nor its
// priority lets it wait longer. A call computes its own pairs before it waits for others, so calls never wait for each
// other in a circle.
type flights struct {
	running  sync.WaitGroup // computations that their callers have left
	finished atomic.Int64   // calls that have ended; their pairs are in the cache

	mu    sync.Mutex
	byKey map[[32]byte]flight
}

// A flight is a pair of a call.
type flight struct {
	call  *call
	index int // in the call's values
	pair  int // in the request that follows
}

// A call is the computation of some pairs of a request.
type call struct {
	deadline time.Time // zero for none
	priority schedule.Priority
	tokens   int // at most
	keys     [][32]byte
	request  *request // that computes the pairs; set once

	followers int // pairs that other calls wait for
	left      bool

	done   chan struct{}
	values []string // set before done is closed, nil if the call has failed
}

func newCall(deadline time.Time, priority schedule.Priority) *call {
	return &call{deadline: deadline, priority: priority, done: make(chan struct{})}
}

// join divides pairs into those that the call computes itself, which others may then
// follow, and those that it follows.
func (f *flights) join(c *call, l *lookup, pairs []int) (own []int, followed []flight) {
	for _, pair := range pairs {
		c.tokens += l.p.texts.reserve(l.whole.pairs[pair])
	}
	small := 4 * l.p.batching.Limits.Tokens // a turn in the queue
	// A request that allows no truncation must be refused before anything executes, and a
	// partial one ends before its deadline.
	follows := !l.whole.Whole && !l.whole.options.Partial
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey == nil {
		f.byKey = make(map[[32]byte]flight)
	}
	for _, pair := range pairs {
		other, ok := f.byKey[l.keys[pair]]
		if ok && follows && other.call.isBefore(c, small) {
			other.call.followers++
			other.pair = pair
			followed = append(followed, other)
			continue
		}
		if !ok {
			f.byKey[l.keys[pair]] = flight{call: c, index: len(own)}
		}
		own = append(own, pair)
	}
	c.keys = l.keysOf(own)
	return own, followed
}

// isBefore reports whether a call that has begun will be finished before a new one
// would be.
func (c *call) isBefore(next *call, small int) bool {
	if c.tokens > max(next.tokens, small) || c.priority > next.priority {
		return false
	}
	return next.deadline.IsZero() || !c.deadline.IsZero() && !c.deadline.After(next.deadline)
}

// finish ends a call. values are nil if it has failed: who follows it computes the pairs
// then.
func (f *flights) finish(c *call, values []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range c.keys {
		if f.byKey[key].call == c {
			delete(f.byKey, key)
		}
	}
	f.finished.Add(1)
	c.values = values
	close(c.done)
}

// abandon is called when the caller leaves. It reports whether the computation goes on,
// because other calls wait for its pairs.
func (l *lookup) abandon(c *call, pairs []int) bool {
	f := &l.flights
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.followers == 0 {
		return false
	}
	c.left = true
	f.running.Go(func() {
		<-c.request.done
		if c.request.err != nil {
			f.finish(c, nil)
			return
		}
		l.keep(c, pairs)
	})
	return true
}

// unfollow ends the wait for pairs. A computation that no call waits for any more ends.
func (l *lookup) unfollow(followed []flight) {
	var needless []*request
	l.flights.mu.Lock()
	for _, f := range followed {
		if f.call.followers--; f.call.followers == 0 && f.call.left {
			needless = append(needless, f.call.request)
		}
	}
	l.flights.mu.Unlock()
	if len(needless) == 0 {
		return
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	for _, r := range needless {
		l.p.end(r, context.Canceled, time.Now())
	}
}
