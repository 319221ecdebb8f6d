package engine

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Score scores the pairs, in their order.
func (e *Engine) Score(ctx context.Context, pairs []Pair) (*Result, error) {
	return run(ctx, e, func() (*Result, error) {
		result, _, err := e.score(ctx, pairs)
		return result, err
	})
}

// Tokenize gives what the model sees of each pair.
func (e *Engine) Tokenize(ctx context.Context, pairs []Pair) ([]Tokens, error) {
	return run(ctx, e, func() ([]Tokens, error) { return e.tokenizer.pairs(ctx, pairs) })
}

// score takes a request through all its stages.
func (e *Engine) score(ctx context.Context, pairs []Pair) (*Result, []Tokens, error) {
	var clock timeline
	clock.accepted = time.Now()
	tokens, err := e.tokenizer.pairs(ctx, pairs)
	if err != nil {
		return nil, nil, err
	}
	clock.tokenised = time.Now()
	batches := makeBatches(tokens, e.limits)
	clock.planned = time.Now()
	if err := e.execute(ctx, batches); err != nil {
		return nil, nil, err
	}
	result := &Result{
		Logits:  make([]float32, len(pairs)),
		Scores:  make([]float32, len(pairs)),
		Batches: len(batches),
	}
	for _, b := range batches {
		clock.batches = append(clock.batches, interval{b.submitted, b.collected})
		result.Tokens += b.stats.Tokens
		result.ComputedTokens += b.stats.ComputedTokens
		for i, at := range b.places {
			result.Logits[at] = b.logits[i]
		}
	}
	for i, logit := range result.Logits {
		if math.IsNaN(float64(logit)) || math.IsInf(float64(logit), 0) {
			return nil, nil, fmt.Errorf("engine: pair %d has logit %v in %s: not a number to rank by", i, logit, e.info.DType)
		}
		result.Scores[i] = e.activate(logit)
		if tokens[i].Truncated {
			result.Truncated++
		}
	}
	clock.finished = time.Now()
	result.Timings = clock.timings()
	e.logRequest(result)
	return result, tokens, nil
}

func (e *Engine) activate(logit float32) float32 {
	if !e.sigmoid {
		return logit
	}
	return sigmoid(logit)
}

// sigmoid never takes the exponential of a positive number, which could
// overflow.
func sigmoid(x float32) float32 {
	if x >= 0 {
		return float32(1 / (1 + math.Exp(-float64(x))))
	}
	z := math.Exp(float64(x))
	return float32(z / (1 + z))
}

func (e *Engine) logRequest(r *Result) {
	e.log.Debug().
		Int("pairs", len(r.Scores)).
		Int("tokens", r.Tokens).
		Int("computed_tokens", r.ComputedTokens).
		Int("truncated", r.Truncated).
		Int("batches", r.Batches).
		Float64("latency_ms", milliseconds(r.Timings.Latency)).
		Float64("inference_ms", milliseconds(r.Timings.Inference)).
		Float64("tokenization_ms", milliseconds(r.Timings.Tokenization)).
		Float64("queue_wait_ms", milliseconds(r.Timings.QueueWait)).
		Float64("other_ms", milliseconds(r.Timings.Other)).
		Msg("request")
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
