package engine

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// A batch is pairs on their way through the session.
type batch struct {
	items     []*item // shard after shard
	requests  []*request
	shards    []shard
	predicted time.Duration
	work      float64 // by the cost model
	probe     bool    // of nothing but a probe

	ticket    mlx.Ticket
	submitted time.Time
	alone     time.Time // when the batch before it was collected, if later
	logits    []float32
}

// submitAll makes batches and submits them, until the pipeline stops. It alone
// submits, and opens the session anew.
func (p *pipeline) submitAll() {
	defer close(p.collecting)
	for step := p.nextStep(); step != nil; step = p.nextStep() {
		step()
	}
}

// nextStep is what the submitter is to do now; nil is the end.
func (p *pipeline) nextStep() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return nil
	}
	if p.mustReopen() {
		return p.reopenSession
	}
	if p.mustUnload(time.Now()) {
		return p.unload
	}
	if p.mustLoad() {
		return p.load
	}
	if j, ok := p.nextJob(); ok {
		return func() { p.runJob(j) }
	}
	b, wait := p.nextBatch(time.Now())
	if b != nil {
		return func() { p.submit(b) }
	}
	if wait == 0 {
		wait = p.untilUnload(time.Now())
	}
	return func() { p.sleep(wait) }
}

// sleep waits for a change, or so long if that is not 0.
func (p *pipeline) sleep(wait time.Duration) {
	if wait == 0 {
		<-p.wake
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.wake:
	case <-timer.C:
	}
}

// nextBatch takes a batch from the queue if it is time for one; else it says
// how long that may be away, 0 if not known.
func (p *pipeline) nextBatch(at time.Time) (*batch, time.Duration) {
	p.dropHopeless(at)
	if !p.usable() || len(p.jobs) > 0 || p.inFlight >= maxInFlight || len(p.queue.waiting) == 0 {
		return nil, 0
	}
	if p.window > 0 && !p.queue.full() && !p.closed {
		oldest := p.queue.waiting[p.queue.oldest()]
		if wait := p.window - at.Sub(oldest.since); wait > 0 && !oldest.request.probe {
			return nil, wait
		}
	}
	b, err := p.takeBatch()
	if err != nil {
		p.endWaiting(err, at)
		return nil, 0
	}
	p.inFlight++
	p.flying = append(p.flying, b)
	for _, it := range b.items {
		p.takeItem(it, at)
	}
	return b, 0
}

// takeBatch turns a panic of the planner's into an error.
func (p *pipeline) takeBatch() (b *batch, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("engine: panic while planning: %v\n%s", v, debug.Stack())
		}
	}()
	b = new(batch)
	b.items, b.shards = p.queue.take()
	b.work = p.queue.planner.costs.batch(b.shards, p.layout().lanes)
	b.predicted = time.Duration(p.drift * b.work)
	return b, nil
}

func (p *pipeline) takeItem(it *item, at time.Time) {
	r := it.request
	throttled := r.next < len(r.pairs) && !p.workable(r)
	r.taken++
	r.todo.remove(it.width)
	r.waiting -= it.width
	p.traced(r, traceTaken, 1, at)
	if throttled && p.workable(r) {
		p.work.Broadcast()
	}
	p.changed(r, at)
}

// endWaiting answers every request that has pairs in the queue.
func (p *pipeline) endWaiting(err error, at time.Time) {
	for len(p.queue.waiting) > 0 {
		p.end(p.queue.waiting[0].request, err, at)
	}
}

func (p *pipeline) submit(b *batch) {
	input := b.fill(p.labels)
	p.mu.Lock()
	at := time.Now()
	b.submitted = at
	p.executing++
	p.stats.busy(p.executing, at)
	for _, r := range b.requests {
		r.running++
		r.batches++
		p.traced(r, traceSubmitted, 0, at)
		p.changed(r, at)
	}
	p.mu.Unlock()
	err := guard(func() (err error) {
		b.ticket, err = p.session.Submit(input)
		return err
	})
	if err != nil {
		p.settle(b, mlx.Stats{}, err)
		return
	}
	p.collecting <- b
}

// fill puts the batch's tokens one after another.
func (b *batch) fill(labels int) mlx.Batch {
	var input mlx.Batch
	tokens := 0
	for _, it := range b.items {
		tokens += it.length
	}
	input.IDs, input.TypeIDs = make([]int32, 0, tokens), make([]int32, 0, tokens)
	input.Lengths = make([]int32, len(b.items))
	seen := make(map[*request]bool)
	b.probe = true
	for i, it := range b.items {
		input.IDs = append(input.IDs, it.ids...)
		input.TypeIDs = append(input.TypeIDs, it.types...)
		input.Lengths[i] = int32(it.length)
		it.ids, it.types = nil, nil
		b.probe = b.probe && it.request.probe
		if !seen[it.request] {
			seen[it.request] = true
			b.requests = append(b.requests, it.request)
		}
	}
	for _, s := range b.shards {
		input.Microbatches = append(input.Microbatches, int32(s.pairs))
	}
	b.logits = make([]float32, len(b.items)*labels)
	return input
}

// collectAll waits for the batches in the order of their submission.
func (p *pipeline) collectAll() {
	for b := range p.collecting {
		var stats mlx.Stats
		err := guard(func() (err error) {
			stats, err = p.session.Collect(b.ticket, b.logits)
			return err
		})
		p.settle(b, stats, err)
	}
}

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("engine: panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// settle gives a batch's logits, or its failure, to its requests.
func (p *pipeline) settle(b *batch, stats mlx.Stats, err error) {
	p.mu.Lock()
	at := time.Now()
	p.inFlight--
	p.executing--
	p.flying = slices.DeleteFunc(p.flying, func(other *batch) bool { return other == b })
	p.stats.busy(p.executing, at)
	b.alone = b.submitted
	if p.lastCollected.After(b.alone) {
		b.alone = p.lastCollected
	}
	p.lastCollected = at
	if err == nil {
		p.scatter(b)
		p.stats.batch(b, p.layout(), stats, at)
		p.learn(b, stats.Microbatches)
		p.measure(b, at.Sub(b.alone), at)
	}
	for _, r := range b.requests {
		r.running--
		p.traced(r, traceCollected, 0, at)
		switch {
		case err != nil:
			p.end(r, fmt.Errorf("engine: a batch of %d pairs failed: %w", len(b.items), err), at)
		case r.left == 0:
			p.end(r, nil, at)
		default:
			p.changed(r, at)
			r.advance()
		}
	}
	p.noteOutcome(err, at)
	if p.inFlight == 0 {
		p.drained.Broadcast()
	}
	p.poke()
	p.mu.Unlock()
	p.logBatch(b, stats, at, err)
}

// learn keeps predictions right when the machine is slower or faster than it
// was in calibration. Plans stay as they are: only how the costs compare matters
// to them.
func (p *pipeline) learn(b *batch, shards []mlx.Microbatch) {
	if len(shards) != len(b.shards) {
		return
	}
	free := make(map[int]int64) // by lane
	for i, s := range shards {
		took := s.FinishNs - max(s.StartNs, free[s.Worker])
		free[s.Worker] = s.FinishNs
		if model := p.queue.planner.costs.of(b.shards[i]); model > 0 && took > 0 {
			p.drift += driftRate * (min(max(float64(took)/model, 0.01), 100) - p.drift)
		}
	}
}

// scatter puts the logits in their places, also those that nobody waits for.
func (p *pipeline) scatter(b *batch) {
	at := 0
	for _, s := range b.shards {
		for _, it := range b.items[at : at+s.pairs] {
			r := it.request
			copy(r.logits[it.place*p.labels:], b.logits[at*p.labels:(at+1)*p.labels])
			r.left--
			r.tokens += it.length
			r.computed += s.computed / s.pairs
			if p.layout().packed {
				r.computed += it.length - s.computed/s.pairs
			}
			if !r.ended {
				p.refund(r, it.length)
			}
			at++
		}
	}
}
