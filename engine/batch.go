package engine

import (
	"context"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// A batch is some pairs of one request on their way through the session. The
// runner owns it from the queue until done is closed.
type batch struct {
	places []int // of its pairs in the request
	input  mlx.Batch
	ctx    context.Context // of the request: a batch nobody waits for is not run

	ticket    mlx.Ticket
	submitted time.Time
	collected time.Time
	logits    []float32
	stats     mlx.Stats
	err       error
	done      chan struct{}
}

func makeBatches(tokens []Tokens, l limits) []*batch {
	lengths := make([]int, len(tokens))
	for i, t := range tokens {
		lengths[i] = len(t.IDs)
	}
	var batches []*batch
	for _, places := range plan(lengths, l) {
		b := &batch{places: places, done: make(chan struct{})}
		for _, at := range places {
			b.input.IDs = append(b.input.IDs, tokens[at].IDs...)
			b.input.TypeIDs = append(b.input.TypeIDs, tokens[at].TypeIDs...)
			b.input.Lengths = append(b.input.Lengths, int32(len(tokens[at].IDs)))
		}
		b.logits = make([]float32, len(places))
		batches = append(batches, b)
	}
	return batches
}

// execute hands the batches to the runner one after another, so that the
// batches of several requests take turns, and waits for them.
func (e *Engine) execute(ctx context.Context, batches []*batch) error {
	queued := 0
	for queued < len(batches) && ctx.Err() == nil {
		b := batches[queued]
		b.ctx = ctx
		select {
		case e.queue <- b:
			queued++
		case <-ctx.Done():
		}
	}
	var err error
	for _, b := range batches[:queued] {
		<-b.done
		if err == nil {
			err = b.err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// serve is the runner: it alone uses the session. While one batch executes the
// next is submitted, so that the device does not wait for Go.
func (e *Engine) serve() {
	defer close(e.ended)
	var running []*batch
	for {
		b, open := next(e.queue, len(running))
		switch {
		case b != nil:
			if e.submit(b) {
				running = append(running, b)
			}
		case len(running) > 0:
			e.collect(running[0])
			running = running[1:]
		case !open:
			return
		}
	}
}

// next takes a batch from the queue: it waits for one if nothing is running,
// takes what is there if one batch is, and none if two are. open is false once
// the queue is closed and empty.
func next(queue <-chan *batch, running int) (b *batch, open bool) {
	switch running {
	case 0:
		b, open = <-queue
		return b, open
	case 1:
		select {
		case b, open = <-queue:
			return b, open
		default:
		}
	}
	return nil, true
}

func (e *Engine) submit(b *batch) bool {
	if b.err = b.ctx.Err(); b.err == nil {
		b.submitted = time.Now()
		b.ticket, b.err = e.session.Submit(b.input)
	}
	if b.err != nil {
		close(b.done)
		return false
	}
	return true
}

func (e *Engine) collect(b *batch) {
	b.stats, b.err = e.session.Collect(b.ticket, b.logits)
	b.collected = time.Now()
	e.log.Trace().
		Int("pairs", len(b.places)).
		Int("tokens", b.stats.Tokens).
		Int("computed_tokens", b.stats.ComputedTokens).
		Int("shards", b.stats.Shards).
		Float64("inference_ms", milliseconds(b.collected.Sub(b.submitted))).
		Err(b.err).
		Msg("batch")
	close(b.done)
}
