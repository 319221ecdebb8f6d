package engine

import (
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// Stats are an engine's figures since it was opened. Histograms of times are
// in milliseconds. Probes and calibration are in none of them.
type Stats struct {
	Elapsed time.Duration // since Open

	Requests   int64 // answered with scores
	Failed     int64 // answered with an error of the engine's
	Cancelled  int64 // given up by their callers
	Overloaded int64 // refused with ErrOverloaded for lack of room
	Late       int64 // refused with ErrOverloaded for their deadline
	TooLarge   int64 // refused with ErrTooLarge

	Dropped      int64 // taken in and given up, since their deadline could not be met
	DroppedPairs int64 // of these, not executed

	Pairs      int64 // executed; identical ones of a request are executed once
	Duplicates int64 // answered without being executed
	Truncated  int64 // cut to the maximum length
	Batches    int64

	Tokens         int64 // real
	GridTokens     int64 // with each pair rounded up to the grid of widths
	ComputedTokens int64 // with all padding

	PairsByTokens []int64 // [n] is how many of the executed pairs have n real tokens

	Live     int // requests at work
	Waiting  int // tokenised pairs without a batch
	Reserved int // tokens of the queue's capacity that are taken
	InFlight int // batches

	Busy time.Duration // at least one batch was executing
	// Tokenizing is the time of all tokenizer workers.
	Tokenizing time.Duration

	Latency, Inference, Tokenization, QueueWait, Other Histogram // of requests

	BatchTime  Histogram // of batches, from submit to collected
	BatchPairs Histogram
	// PredictionError is by how many percent of it the planner was off a batch's
	// time, whichever way.
	PredictionError Histogram

	Lanes []Lane

	Loaded    bool  // there is a session; else the next request opens one
	Unloads   int   // sessions closed since nobody used them
	Reopened  int   // sessions opened after a failure
	Unhealthy error // nil while all is well
}

// A Lane is one of the threads that work on shards.
type Lane struct {
	Shards         int64
	Pairs          int64
	Tokens         int64
	ComputedTokens int64
	Busy           time.Duration

	until time.Time
}

// PaddingWaste is the share of computed tokens that is padding, in percent: all
// of it, what rounding to the grid takes, and what batching takes.
func (s *Stats) PaddingWaste() (all, grid, batching float64) {
	if s.ComputedTokens == 0 {
		return 0, 0, 0
	}
	of := func(n int64) float64 { return 100 * float64(n) / float64(s.ComputedTokens) }
	return of(s.ComputedTokens - s.Tokens), of(s.GridTokens - s.Tokens), of(s.ComputedTokens - s.GridTokens)
}

// counters are Stats in the making, under the pipeline's lock.
type counters struct {
	Stats
	start     time.Time
	busySince time.Time // while a batch executes
}

// busy is told how many batches execute from now on.
func (c *counters) busy(executing int, at time.Time) {
	switch {
	case executing > 0 && c.busySince.IsZero():
		c.busySince = at
	case executing == 0 && !c.busySince.IsZero():
		c.Busy += at.Sub(c.busySince)
		c.busySince = time.Time{}
	}
}

// batch counts a batch that was executed.
func (c *counters) batch(b *batch, l layout, stats mlx.Stats, at time.Time) {
	if b.probe {
		return
	}
	c.Batches++
	c.Pairs += int64(len(b.items))
	c.Tokens += int64(stats.Tokens)
	c.ComputedTokens += int64(stats.ComputedTokens)
	for _, it := range b.items {
		c.GridTokens += int64(l.width(it.length))
		for len(c.PairsByTokens) <= it.length {
			c.PairsByTokens = append(c.PairsByTokens, 0)
		}
		c.PairsByTokens[it.length]++
	}
	c.BatchTime.add(milliseconds(at.Sub(b.submitted)))
	c.BatchPairs.add(float64(len(b.items)))
	if took := at.Sub(b.alone); took > 0 && b.predicted > 0 {
		c.PredictionError.add(100 * (b.predicted - took).Abs().Seconds() / took.Seconds())
	}
	for _, s := range stats.Microbatches {
		c.lane(b, s)
	}
}

func (c *counters) lane(b *batch, s mlx.Microbatch) {
	for len(c.Lanes) <= s.Worker {
		c.Lanes = append(c.Lanes, Lane{})
	}
	lane := &c.Lanes[s.Worker]
	lane.Shards++
	lane.Pairs += int64(s.Pairs)
	lane.Tokens += int64(s.Tokens)
	lane.ComputedTokens += int64(s.ComputedTokens)
	// With two shards in flight the second is taken before the first is done.
	from, to := b.submitted.Add(time.Duration(s.StartNs)), b.submitted.Add(time.Duration(s.FinishNs))
	if lane.until.After(from) {
		from = lane.until
	}
	if to.After(from) {
		lane.Busy += to.Sub(from)
		lane.until = to
	}
}

// request counts a request that was answered with scores.
func (c *counters) request(r *request, t Timings) {
	c.Requests++
	c.Duplicates += int64(r.givenPairs() - len(r.pairs))
	c.Truncated += int64(r.truncated)
	c.Latency.add(milliseconds(t.Latency))
	c.Inference.add(milliseconds(t.Inference))
	c.Tokenization.add(milliseconds(t.Tokenization))
	c.QueueWait.add(milliseconds(t.QueueWait))
	c.Other.add(milliseconds(t.Other))
}

// snapshot copies the figures.
func (p *pipeline) snapshot() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	s := p.stats.Stats
	for _, h := range []*Histogram{&s.Latency, &s.Inference, &s.Tokenization, &s.QueueWait, &s.Other,
		&s.BatchTime, &s.BatchPairs, &s.PredictionError} {
		*h = h.clone()
	}
	s.Lanes, s.PairsByTokens = slices.Clone(s.Lanes), slices.Clone(s.PairsByTokens)
	s.Elapsed = at.Sub(p.stats.start)
	if !p.stats.busySince.IsZero() {
		s.Busy += at.Sub(p.stats.busySince)
	}
	s.Live, s.Waiting, s.Reserved, s.InFlight = len(p.live), len(p.queue.waiting), p.reserved, p.inFlight
	s.Loaded = p.session != nil
	s.Reopened, s.Unhealthy = p.device.reopened, p.device.unhealthy
	return s
}

// Stats reads the figures. It does not wait for inference.
func (e *Engine) Stats() Stats { return e.pipeline.snapshot() }
