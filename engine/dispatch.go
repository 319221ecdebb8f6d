package engine

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
)

// A batch is a schedule's batch on its way through the session.
type batch struct {
	*schedule.Batch
	owners   []*request // of the items
	requests []*request // each once
	probe    bool       // holds only the pair of a probe

	input  mlx.Batch
	ticket mlx.Ticket
	logits []float32
}

// dispatch makes batches and submits them, until the pipeline stops. Its
// goroutine alone submits, opens sessions and closes them.
func (p *pipeline) dispatch() {
	defer close(p.collecting)
	for step := p.nextStep(); step != nil; step = p.nextStep() {
		step()
	}
}

// nextStep returns what the dispatcher does now, nil at the end.
func (p *pipeline) nextStep() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	switch {
	case p.stopping:
		return nil
	case p.choosing != nil && !p.choosing.started && !p.closed:
		return p.chooseVariant
	case p.shouldWarmUp():
		return p.warmUp
	case p.device.shouldReopen(p.schedule.Waiting()) && p.schedule.InFlight() == 0:
		return p.reopenSession
	case p.shouldLoad():
		return p.loadSession
	case p.shouldMeasure():
		m := p.measuring
		return func() { p.measure(m) }
	}
	if p.shouldRecompute() {
		if p.schedule.InFlight() > 0 {
			return func() { p.sleep(0) }
		}
		return p.recompute
	}
	rest := p.untilUnload(at)
	if rest == 0 {
		return p.unloadSession
	}
	b, wait := p.nextBatch(at)
	if b != nil {
		return func() { p.submit(b) }
	}
	if wait == 0 {
		wait = rest
	}
	return func() { p.sleep(wait) }
}

// sleep waits for a change, or up to wait if that is positive.
func (p *pipeline) sleep(wait time.Duration) {
	if wait <= 0 {
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

// nextBatch takes a batch if one is due. Otherwise it returns how long to wait for
// one, 0 if that is unknown.
func (p *pipeline) nextBatch(at time.Time) (*batch, time.Duration) {
	p.giveUpHopeless(at)
	p.cutShort(at)
	if !p.device.usable() {
		return nil, 0
	}
	b := new(batch)
	var wait time.Duration
	err := guard("planning", func() error {
		b.Batch, wait = p.events.Next(at, p.closed)
		return nil
	})
	if err != nil {
		p.endWaiting(err, at)
		return nil, 0
	}
	if b.Batch == nil {
		return nil, wait
	}
	b.own(p.live)
	for _, r := range b.requests {
		p.changed(r, at)
	}
	p.tokenizers.resume(b.requests)
	return b, 0
}

// own finds the requests of the batch's items.
func (b *batch) own(live map[*schedule.Request]*request) {
	b.probe = true
	seen := make(map[*request]bool)
	for _, it := range b.Items {
		r := live[it.Request]
		b.owners = append(b.owners, r)
		b.probe = b.probe && r.First
		if !seen[r] {
			seen[r] = true
			b.requests = append(b.requests, r)
		}
	}
}

// endWaiting answers every request that has pairs in the queue.
func (p *pipeline) endWaiting(err error, at time.Time) {
	for r := p.schedule.WaitingRequest(); r != nil; r = p.schedule.WaitingRequest() {
		p.end(p.live[r], err, at)
	}
}

func (p *pipeline) submit(b *batch) {
	b.fill(p.labels)
	p.mu.Lock()
	at := time.Now()
	p.executing++
	p.stats.busy(p.executing, at)
	p.events.Submitted(b.Batch, at)
	p.watchDevice(at)
	for _, r := range b.requests {
		if !r.ended {
			r.batches++
		}
		p.changed(r, at)
	}
	p.mu.Unlock()
	err := guard("submitting", func() (err error) {
		b.ticket, err = p.device.session.Submit(b.input)
		return err
	})
	if err != nil {
		p.settle(b, mlx.Stats{}, err)
		return
	}
	p.collecting <- b
}

// fill puts the batch's tokens one after another.
func (b *batch) fill(labels int) {
	input := &b.input
	tokens := 0
	for _, it := range b.Items {
		tokens += it.Length
	}
	input.IDs, input.TypeIDs = make([]int32, 0, tokens), make([]int32, 0, tokens)
	input.Lengths = make([]int32, len(b.Items))
	for i, it := range b.Items {
		pair := &b.owners[i].inputs[it.Index]
		input.IDs = append(input.IDs, pair.IDs...)
		input.TypeIDs = append(input.TypeIDs, pair.TypeIDs...)
		input.Lengths[i] = int32(it.Length)
		pair.IDs, pair.TypeIDs = nil, nil
	}
	for _, m := range b.Microbatches {
		input.Microbatches = append(input.Microbatches, int32(m.Pairs))
	}
	b.logits = make([]float32, len(b.Items)*labels)
}

// collect waits for the batches in the order of their submission.
func (p *pipeline) collect() {
	for b := range p.collecting {
		var stats mlx.Stats
		err := guard("collecting", func() (err error) {
			stats, err = p.device.session.Collect(b.ticket, b.logits)
			return err
		})
		p.settle(b, stats, err)
	}
}

// guard turns a panic into an error.
func guard(doing string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("engine: panic while %s: %v\n%s", doing, v, debug.Stack())
		}
	}()
	return f()
}

// settle passes a batch's logits, or its failure, to its requests.
func (p *pipeline) settle(b *batch, stats mlx.Stats, err error) {
	again := errors.Is(err, mlx.ErrNotFinite)
	p.mu.Lock()
	at := time.Now()
	p.executing--
	p.stats.busy(p.executing, at)
	p.events.Collected(b.Batch, timings(stats), at)
	if err == nil {
		p.scatter(b)
		p.stats.batch(b, p.schedule.Layout(), stats, at)
	}
	if again {
		p.recomputeLater(b, at)
	} else {
		p.noteOutcome(err, at)
	}
	for _, r := range b.requests {
		switch {
		case again:
		case err != nil:
			p.end(r, fmt.Errorf("engine: %s failed: %w", batchOf(len(b.Items)), err), at)
		case r.isAnswered():
			p.end(r, nil, at)
		default:
			p.changed(r, at)
			r.advance()
		}
	}
	p.watchDevice(at)
	p.noteReturn()
	if p.schedule.InFlight() == 0 {
		p.drained.Broadcast()
	}
	p.poke()
	p.mu.Unlock()
	p.logBatch(b, stats, at, err)
}

func timings(stats mlx.Stats) []schedule.Timing {
	var all []schedule.Timing
	for _, m := range stats.Microbatches {
		all = append(all, schedule.Timing{Worker: m.Worker, Start: time.Duration(m.StartNs), Finish: time.Duration(m.FinishNs)})
	}
	return all
}

// scatter copies the logits to their requests. The caller of a request that has ended
// may read it already.
func (p *pipeline) scatter(b *batch) {
	at := 0
	unpadded := p.schedule.Layout().Unpadded
	for _, m := range b.Microbatches {
		for _, it := range b.Items[at : at+m.Pairs] {
			r := b.owners[at]
			if r.ended {
				at++
				continue
			}
			copy(r.logits[it.Index*p.labels:], b.logits[at*p.labels:(at+1)*p.labels])
			r.left--
			r.tokens += it.Length
			if unpadded {
				r.computed += it.Length
			} else {
				r.computed += m.Computed / m.Pairs
			}
			p.refund(r, it.Length)
			at++
		}
	}
}
