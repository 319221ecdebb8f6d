package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/fleet"
)

// opener opens the models of jobs.
type opener struct {
	base engine.Config // with the worker's own device, threads and limits
	dir  string        // with copies of models that jobs name by a folder, "" for none
}

// open opens the model of a job.
func (o opener) open(ctx context.Context, s fleet.Settings) (fleet.Backend, error) {
	config := o.base
	config.Model, config.Adapter = o.find(s.Model), o.find(s.Adapter)
	config.DType, config.MaxLength = s.DType, s.MaxLength
	config.Activation, config.Label, config.Calibration = s.Activation, s.Label, s.Calibration
	e, err := engine.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	err = e.Ready(ctx)
	var b *backend
	if err == nil {
		b, err = newBackend(e, s.Long)
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return b, nil
}

// find returns the place of a model on this machine: a folder of the submitter's machine
// may have another parent here.
func (o opener) find(model string) string {
	if o.dir == "" || !filepath.IsAbs(model) {
		return model
	}
	if _, err := os.Stat(model); err == nil {
		return model
	}
	return filepath.Join(o.dir, filepath.Base(model))
}

// backend scores with an engine.
type backend struct {
	engine   *engine.Engine
	long     engine.Long
	identity fleet.Identity
}

func newBackend(e *engine.Engine, long engine.Long) (*backend, error) {
	hash, err := e.ModelHash()
	if err != nil {
		return nil, err
	}
	info := e.Info()
	class := fmt.Sprintf("%s, %s kernels", info.Device, info.Kernels)
	if info.Choice.Variant != "" {
		class += ", variant " + info.Choice.Variant
	}
	return &backend{e, long, fleet.Identity{Program: command.Version, Model: hash, DType: info.DType, Class: class}}, nil
}

func (b *backend) Identity() fleet.Identity { return b.identity }

func (b *backend) Close() error { return b.engine.Close() }

// Score scores pairs. A pair that cannot be tokenised gets the reason.
func (b *backend) Score(ctx context.Context, pairs []engine.Pair) ([]fleet.Score, error) {
	results, _, err := scored.Score(ctx, b.engine, b.long, pairs, engine.ScoreOptions{}, true)
	if err != nil {
		return nil, err
	}
	scores := make([]fleet.Score, len(results))
	for i, r := range results {
		scores[i] = fleet.Score{Score: r.Score, Logit: r.Logit}
		if r.Err != nil {
			scores[i].Err = r.Err.Error()
		}
	}
	return scores, nil
}
