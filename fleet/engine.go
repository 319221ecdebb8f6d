package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/mlxrank/mlxrank/engine"
)

// OpenEngine returns a function for WorkerConfig.Open that opens engines. The fields of
// base that a job's settings have no value for, such as the device and the number of
// threads, are the worker's own.
func OpenEngine(base engine.Config) func(context.Context, Settings) (Backend, error) {
	return func(ctx context.Context, s Settings) (Backend, error) {
		config := base
		config.Model, config.Adapter, config.DType, config.MaxLength = s.Model, s.Adapter, s.DType, s.MaxLength
		config.Activation, config.Label, config.Calibration = s.Activation, s.Label, s.Calibration
		e, err := engine.Open(ctx, config)
		if err != nil {
			return nil, err
		}
		if err := e.Ready(ctx); err != nil {
			return nil, errors.Join(err, e.Close())
		}
		backend, err := NewEngineBackend(e, s.Long)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		return backend, nil
	}
}

// engineBackend scores with an engine.
type engineBackend struct {
	engine   *engine.Engine
	long     engine.Long
	identity Identity
}

// NewEngineBackend returns a backend that scores with an engine, and closes it.
func NewEngineBackend(e *engine.Engine, long engine.Long) (Backend, error) {
	hash, err := e.ModelHash()
	if err != nil {
		return nil, err
	}
	info := e.Info()
	class := fmt.Sprintf("%s, %s kernels", info.Device, info.Kernels)
	if info.Choice.Variant != "" {
		class += ", variant " + info.Choice.Variant
	}
	return &engineBackend{e, long, Identity{Program: engine.Version, Model: hash, DType: info.DType, Class: class}}, nil
}

func (b *engineBackend) Identity() Identity { return b.identity }

func (b *engineBackend) Close() error { return b.engine.Close() }

// Score scores the pairs. Texts that cannot be tokenised get an error each.
func (b *engineBackend) Score(ctx context.Context, pairs []engine.Pair) ([]Score, error) {
	scores := make([]Score, len(pairs))
	good := make([]engine.Pair, 0, len(pairs))
	var places []int
	result, err := b.score(ctx, pairs)
	if err == nil {
		return fill(scores, result, nil), nil
	}
	var text *engine.TextError
	if !errors.As(err, &text) {
		return nil, err
	}
	for i, pair := range pairs {
		if _, err := b.engine.Tokenize(ctx, []engine.Pair{pair}); errors.As(err, &text) {
			scores[i].Err = textReason(text)
			continue
		}
		good, places = append(good, pair), append(places, i)
	}
	if len(good) == len(pairs) {
		return nil, err
	}
	if len(good) == 0 {
		return scores, nil
	}
	if result, err = b.score(ctx, good); err != nil {
		return nil, err
	}
	return fill(scores, result, places), nil
}

func (b *engineBackend) score(ctx context.Context, pairs []engine.Pair) (*engine.Result, error) {
	if b.long == engine.Passages {
		return b.engine.ScorePassages(ctx, pairs, engine.ScoreOptions{})
	}
	return b.engine.ScoreWith(ctx, pairs, engine.ScoreOptions{})
}

// fill copies a result to the scores at places, or to all if places is nil.
func fill(scores []Score, result *engine.Result, places []int) []Score {
	for i := range result.Scores {
		at := i
		if places != nil {
			at = places[i]
		}
		scores[at].Score, scores[at].Logit = result.Scores[i], result.Logits[i]
	}
	return scores
}

// textReason describes a text that cannot be tokenised, without the index of its pair.
func textReason(err *engine.TextError) string {
	if err.Query {
		return fmt.Sprintf("the query: %v: %v", err.Kind, err.Err)
	}
	return fmt.Sprintf("%v: %v", err.Kind, err.Err)
}
