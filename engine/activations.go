package engine

import (
	"context"
	"errors"
)

// WriteActivations opens cfg's model, computes the pair, and writes its
// activations layer by layer to file, whose name must end in .safetensors. It is
// for debugging: comparing a new architecture with PyTorch step by step. The
// names are listed at mlx.Session.WriteActivations.
func WriteActivations(ctx context.Context, cfg Config, pair Pair, file string) (err error) {
	e, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	tokens, err := e.Tokenize(ctx, []Pair{pair})
	if err != nil {
		return err
	}
	model, err := openWeights(ctx, cfg)
	if err != nil {
		return err
	}
	session, err := e.openSession(cfg, model)
	if err = errors.Join(err, model.Close()); err != nil {
		return err
	}
	err = session.WriteActivations(file, tokens[0].IDs, tokens[0].TypeIDs)
	return errors.Join(err, session.Close())
}
