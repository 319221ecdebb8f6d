package scored

import (
	"context"
	"slices"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/engine"
)

// Score scores pairs. A pair that cannot be tokenised gets the reason in its result. If
// there is one, the other pairs are scored only if skip is set.
func Score(ctx context.Context, e *engine.Engine, long engine.Long, pairs []engine.Pair, o engine.ScoreOptions, skip bool) ([]Result, *engine.Result, error) {
	score := e.ScoreWith
	if long == engine.Passages {
		score = e.ScorePassages
	}
	results := make([]Result, len(pairs))
	scored, err := score(ctx, pairs, o)
	if err != nil && ctx.Err() == nil && markBad(ctx, e, pairs, results) {
		if !skip {
			return results, nil, nil
		}
		scored, err = score(ctx, without(pairs, results), o)
	}
	if err != nil {
		return nil, nil, err
	}
	next := 0 // index into scored, which has no pairs with errors
	for i := range results {
		if results[i].Err == nil {
			results[i].Score, results[i].Logit = scored.Scores[next], scored.Logits[next]
			next++
		}
	}
	return results, scored, nil
}

// markBad sets the error of each pair that cannot be tokenised, and reports whether
// there is one.
func markBad(ctx context.Context, e *engine.Engine, pairs []engine.Pair, results []Result) bool {
	found := false
	for i := range pairs {
		_, err := e.Tokenize(ctx, pairs[i:i+1])
		if err != nil && ctx.Err() == nil {
			results[i].Err, found = input.TextReason(err), true
		}
	}
	return found
}

// without returns the pairs whose result is no error.
func without(pairs []engine.Pair, results []Result) []engine.Pair {
	good := slices.Clone(pairs)[:0]
	for i, p := range pairs {
		if results[i].Err == nil {
			good = append(good, p)
		}
	}
	return good
}
