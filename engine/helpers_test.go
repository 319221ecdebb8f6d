package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// A nativeBatch is a batch made without the planner.
type nativeBatch struct {
	rows  []int // indexes of its pairs
	input mlx.Batch
	open  int // tokens of its last microbatch
}

// makeBatches puts tokens into batches in their order, without the planner.
func makeBatches(tokens []Tokens, l schedule.Limits) []nativeBatch {
	var batches []nativeBatch
	for at, t := range tokens {
		last := len(batches) - 1
		if last < 0 || len(batches[last].rows) == l.Pairs || len(batches[last].input.IDs)+len(t.IDs) > l.Tokens {
			batches = append(batches, nativeBatch{})
			last++
		}
		b := &batches[last]
		b.rows = append(b.rows, at)
		b.input.IDs = append(b.input.IDs, t.IDs...)
		b.input.TypeIDs = append(b.input.TypeIDs, t.TypeIDs...)
		b.input.Lengths = append(b.input.Lengths, int32(len(t.IDs)))
		if b.open += len(t.IDs); len(b.input.Microbatches) == 0 || b.open > 512 {
			b.input.Microbatches, b.open = append(b.input.Microbatches, 0), len(t.IDs)
		}
		b.input.Microbatches[len(b.input.Microbatches)-1]++
	}
	return batches
}

// bertFrame returns the frame [CLS] A [SEP] B [SEP].
func bertFrame(cls, sep int) frame {
	return newFrame([]weights.Piece{
		{ID: cls}, {Sequence: weights.SequenceA}, {ID: sep}, {Sequence: weights.SequenceB, TypeID: 1}, {ID: sep, TypeID: 1},
	})
}

// pairs tokenises pairs as an engine does, in a pipeline without a session.
func (t *tokenizer) pairs(ctx context.Context, pairs []Pair) (tokens []Tokens, err error) {
	p := newPipeline(settings{
		texts:   pairEncoder{maxLength: t.maxLength, beyond: t.beyond, frame: t.frame, encode: t.encodePart},
		workers: 2,
		log:     zerolog.Nop(),
	}, noBackend{})
	defer func() { err = errors.Join(err, p.close()) }()
	return p.tokens(ctx, pairs)
}

// tokenise tokenises a pair as an engine does.
func (t *tokenizer) tokenise(pair Pair, opts ScoreOptions) (Tokens, error) {
	return t.tokeniseWith(pair, opts, t.encodePart)
}

func (t *tokenizer) tokeniseWith(pair Pair, opts ScoreOptions, encode encodeFunc) (tokens Tokens, err error) {
	p := newPipeline(settings{texts: pairEncoder{maxLength: t.maxLength, frame: t.frame, encode: encode}, workers: 1, log: zerolog.Nop()}, noBackend{})
	defer func() { err = errors.Join(err, p.close()) }()
	r := newRequest([]Pair{pair})
	r.keep, r.options = true, opts
	if err := p.run(context.Background(), r); err != nil {
		return Tokens{}, err
	}
	return r.inputs[0], nil
}

type noBackend struct{}

func (noBackend) Submit(mlx.Batch) (mlx.Ticket, error)             { return 0, errors.New("no backend") }
func (noBackend) Collect(mlx.Ticket, []float32) (mlx.Stats, error) { return mlx.Stats{}, nil }
func (noBackend) Close() error                                     { return nil }

func closeModel(t *testing.T, m *mlx.Model) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
