package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Score scores the pairs, in their order. What does not fit is cut off at the
// end. The error is one of this package's, such as ErrOverloaded, or that of ctx;
// there are no scores then.
func (e *Engine) Score(ctx context.Context, pairs []Pair) (*Result, error) {
	return e.ScoreWith(ctx, pairs, ScoreOptions{})
}

// ScoreWith is Score with a choice of how pairs are made to fit.
func (e *Engine) ScoreWith(ctx context.Context, pairs []Pair, opts ScoreOptions) (*Result, error) {
	if err := e.checkOptions(opts); err != nil {
		return nil, err
	}
	result, _, err := e.score(ctx, pairs, opts, nil)
	return result, err
}

// Tokenize gives what the model sees of each pair. It takes no room in the
// queue.
func (e *Engine) Tokenize(ctx context.Context, pairs []Pair) ([]Tokens, error) {
	return e.pipeline.tokens(ctx, pairs)
}

func (p *pipeline) tokens(ctx context.Context, pairs []Pair) ([]Tokens, error) {
	r := newRequest(pairs)
	r.keep = true
	if err := p.run(ctx, r); err != nil {
		return nil, err
	}
	tokens := make([]Tokens, len(pairs))
	for i := range tokens {
		it := &r.items[r.distinct(i)]
		tokens[i] = Tokens{IDs: it.ids, TypeIDs: it.types, Truncated: it.cut}
		if r.places != nil { // each pair its own
			tokens[i].IDs, tokens[i].TypeIDs = slices.Clone(it.ids), slices.Clone(it.types)
		}
	}
	return tokens, nil
}

// run takes a request in and waits for it.
func (p *pipeline) run(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !r.keep {
		r.deadline, _ = ctx.Deadline()
	}
	if err := p.admit(r); err != nil {
		return err
	}
	return p.wait(ctx, r)
}

// score takes a request through all its stages. What finish does with the
// scores counts into its time.
func (e *Engine) score(ctx context.Context, pairs []Pair, opts ScoreOptions, finish func(*request, *Result)) (*Result, *request, error) {
	start := time.Now()
	r := newRequest(pairs)
	r.options = opts
	before := time.Since(start)
	err := e.pipeline.run(ctx, r)
	if r.done == nil { // refused
		return nil, nil, err
	}
	var result *Result
	if err == nil {
		woken := time.Now()
		if result, err = e.result(r); err == nil {
			if finish != nil {
				finish(r, result)
			}
			result.Timings = r.watch.timings()
			result.Timings.add(before + time.Since(woken))
		}
	}
	e.pipeline.record(r, result, err)
	return result, r, err
}

// result makes scores of the logits, for the pairs as they were given.
func (e *Engine) result(r *request) (*Result, error) {
	s, err := e.scorerFor(r.options)
	if err != nil {
		return nil, err
	}
	n := r.givenPairs()
	result := &Result{
		Logits:         make([]float32, n),
		Scores:         make([]float32, n),
		Distinct:       len(r.pairs),
		Tokens:         r.tokens,
		ComputedTokens: r.computed,
		Batches:        r.batches,
	}
	for i := range n {
		at := r.distinct(i)
		logits := r.logits[at*e.pipeline.labels : (at+1)*e.pipeline.labels]
		score, logit := s.score(logits)
		if !finite(logit) {
			return nil, fmt.Errorf("%w: pair %d has %v in %s", ErrNotFinite, i, logit, e.info.DType)
		}
		result.Scores[i], result.Logits[i] = score, logit
		if r.options.AllLabels {
			all, err := s.scoreAll(logits)
			if err != nil {
				return nil, fmt.Errorf("%w: pair %d in %s", err, i, e.info.DType)
			}
			result.ByLabel = append(result.ByLabel, all)
		}
		if r.items[at].cut {
			result.Truncated++
		}
	}
	return result, nil
}

// record counts and logs a request that has ended.
func (p *pipeline) record(r *request, result *Result, err error) {
	p.mu.Lock()
	t := r.watch.timings()
	switch {
	case err == nil:
		t = result.Timings
		p.stats.request(r, t)
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		p.stats.Cancelled++
	case errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge): // counted when it was given up
	default:
		p.stats.Failed++
	}
	p.mu.Unlock()
	p.logRequest(r, t, err)
}
