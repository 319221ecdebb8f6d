package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/internal/lab"
)

// Score scores the pairs, in their order. Pairs that do not fit are truncated at
// the end. The error is one of this package's, such as ErrOverloaded, or ctx's;
// the result is nil then.
func (e *Engine) Score(ctx context.Context, pairs []Pair) (*Result, error) {
	return e.ScoreWith(ctx, pairs, ScoreOptions{})
}

// ScoreWith scores the pairs as the options say.
func (e *Engine) ScoreWith(ctx context.Context, pairs []Pair, opts ScoreOptions) (*Result, error) {
	if err := e.checkOptions(opts); err != nil {
		return nil, err
	}
	start := time.Now()
	r := newRequest(pairs)
	r.options = opts
	if e.caching != nil && !opts.NoCache {
		return e.scoreCached(ctx, r, start)
	}
	return e.score(ctx, r, start)
}

// ScoreTokens scores pairs as Tokenize returned them: only batching and
// inference are left of Score. Identical pairs are executed each.
func (e *Engine) ScoreTokens(ctx context.Context, _ lab.Key, pairs []Tokens) (*Result, error) {
	start := time.Now()
	p := e.pipeline
	for i, t := range pairs {
		if len(t.IDs) < p.texts.frame.special || len(t.IDs) > p.texts.maxLength || len(t.TypeIDs) != len(t.IDs) || !p.texts.frame.allows(t.TypeIDs) {
			return nil, fmt.Errorf("engine: pair %d of %d ids and %d type ids is not as Tokenize returns it for a maximum length of %d", i, len(t.IDs), len(t.TypeIDs), p.texts.maxLength)
		}
	}
	r := &request{pairs: make([]Pair, len(pairs)), inputs: append([]Tokens{}, pairs...)}
	return e.score(ctx, r, start)
}

// Tokenize returns what the model sees of each pair. It takes no room in the
// queue.
func (e *Engine) Tokenize(ctx context.Context, pairs []Pair) ([]Tokens, error) {
	return e.pipeline.tokens(ctx, pairs)
}

// TokenStrings returns the vocabulary's string of each token id.
func (e *Engine) TokenStrings(ids []int32) ([]string, error) { return e.tokenizer.strings(ids) }

func (p *pipeline) tokens(ctx context.Context, pairs []Pair) ([]Tokens, error) {
	r := newRequest(pairs)
	r.keep = true
	if err := p.run(ctx, r); err != nil {
		return nil, err
	}
	tokens := make([]Tokens, len(pairs))
	for i := range tokens {
		tokens[i] = r.inputs[r.distinct(i)]
		if r.indexes != nil { // each pair its own
			tokens[i].IDs, tokens[i].TypeIDs = slices.Clone(tokens[i].IDs), slices.Clone(tokens[i].TypeIDs)
		}
	}
	return tokens, nil
}

// score takes a request through all its stages. Its time counts from start.
func (e *Engine) score(ctx context.Context, r *request, start time.Time) (*Result, error) {
	err := e.pipeline.run(ctx, r)
	if r.done == nil { // refused
		return nil, err
	}
	var result *Result
	if err == nil {
		woken := time.Now()
		if result, err = e.result(r); err == nil {
			result.Timings = r.watch.timings()
			result.Timings.add(r.watch.start.Sub(start) + time.Since(woken))
		}
	}
	e.pipeline.record(r, result, err)
	return result, err
}

// result makes scores from the logits, for the pairs as they were given.
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
		CacheHits:      r.hits,
		CacheMisses:    r.misses,
		CachedTokens:   r.cachedTokens,
	}
	for i := range n {
		at := r.distinct(i)
		if !r.isScored(at) {
			nan := float32(math.NaN())
			result.Scores[i], result.Logits[i] = nan, nan
			result.Unscored = append(result.Unscored, i)
			if r.options.AllLabels {
				result.ByLabel = append(result.ByLabel, nil)
			}
			continue
		}
		logits := r.logits[at*e.pipeline.labels : (at+1)*e.pipeline.labels]
		score, logit := s.score(logits)
		result.Scores[i], result.Logits[i] = score, logit
		if r.options.AllLabels {
			result.ByLabel = append(result.ByLabel, s.scoreAll(logits))
		}
		if r.inputs[at].Truncated {
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
		if errors.Is(err, context.DeadlineExceeded) {
			p.stats.DeadlinesMissed++
		}
	case errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge): // counted when it was given up
	default:
		p.stats.Failed++
	}
	p.mu.Unlock()
	p.logRequest(r, t, err)
}
