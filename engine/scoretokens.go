package engine

import (
	"context"
	"fmt"
	"time"
)

// ScoreTokens scores pairs as Tokenize gave them, without tokenising anew: what
// is left of Score is batching and inference. Identical pairs are executed each.
func (e *Engine) ScoreTokens(ctx context.Context, pairs []Tokens) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	start := time.Now()
	r := &request{pairs: make([]Pair, len(pairs))}
	r.deadline, _ = ctx.Deadline()
	if err := e.pipeline.admitTokens(r, pairs); err != nil {
		return nil, err
	}
	before := r.watch.start.Sub(start)
	err := e.pipeline.wait(ctx, r)
	var result *Result
	if err == nil {
		woken := time.Now()
		if result, err = e.result(r); err == nil {
			result.Timings = r.watch.timings()
			result.Timings.add(before + time.Since(woken))
		}
	}
	e.pipeline.record(r, result, err)
	return result, err
}

// admitTokens takes a request in, past the tokenizer workers.
func (p *pipeline) admitTokens(r *request, pairs []Tokens) error {
	items := make([]item, len(pairs))
	need := 0
	for i, t := range pairs {
		if len(t.IDs) < p.frame.special || len(t.IDs) > p.maxLength || len(t.TypeIDs) != len(t.IDs) || !p.frame.allows(t.TypeIDs) {
			return fmt.Errorf("engine: pair %d of %d ids and %d type ids is not as Tokenize gives it for a maximum length of %d", i, len(t.IDs), len(t.TypeIDs), p.maxLength)
		}
		items[i] = item{request: r, place: i, ids: t.IDs, types: t.TypeIDs, length: len(t.IDs), cut: t.Truncated}
		need += len(t.IDs)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	n := len(items)
	r.items = items
	for i := range items {
		items[i].width = p.queue.width(&items[i])
		r.todo.add(items[i].width)
	}
	if err := p.refuse(r, need, at); err != nil {
		return err
	}
	r.begin(n, at)
	p.enlist(r)
	p.traced(r, traceAccepted, n, at)
	if n == 0 {
		p.end(r, nil, at)
		return nil
	}
	r.logits = make([]float32, n*p.labels)
	r.reserved = need
	p.reserved += need
	for _, it := range items {
		if it.cut {
			r.truncated++
		}
	}
	p.watch()
	r.next, r.ready, r.queued = n, n, n
	p.queue.push(r, r.items, at)
	p.traced(r, traceQueued, n, at)
	p.changed(r, at)
	p.poke()
	return nil
}
