package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

const (
	maxThreads         = 1024     // the native library's limit too
	defaultQueueTokens = 16 << 20 // room for 32,768 pairs of 512 tokens
	// On a GPU MLX would keep all that was ever freed.
	gpuCacheLimit = 512 << 20
)

// settings makes the pipeline's settings from the configuration and completes
// Info.
func (e *Engine) settings(cfg Config, model *weights.Model, session *mlx.Session) (settings, error) {
	device := session.Device()
	laid, err := session.Layout()
	if err != nil {
		return settings{}, err
	}
	e.info.Kernels, e.info.Unpadded = laid.Kernels, laid.Unpadded
	if device == mlx.CPU {
		e.info.Threads = laid.Workers
	}
	gpu := device == mlx.GPU
	limits := schedule.DefaultLimits(gpu)
	s := settings{
		batching: schedule.Config{
			Layout:       newLayout(laid, model.Config.MaxPositions),
			Limits:       schedule.Limits{Pairs: cmp.Or(cfg.MaxBatch, limits.Pairs), Tokens: cmp.Or(cfg.MaxBatchTokens, limits.Tokens)},
			Costs:        schedule.AssumedCosts(gpu),
			InOrder:      cfg.lab().InOrder,
			BatchTimeout: cfg.lab().BatchTimeout,
			LoadTime:     e.info.Startup.Weights + e.info.Startup.Session,
		},
		texts: pairEncoder{
			maxLength: e.info.MaxLength,
			beyond:    e.tokenizer.beyond,
			frame:     e.tokenizer.frame,
			prompt:    model.Prompt,
			encode:    e.tokenizer.encodePart,
		},
		idle:            cfg.IdleUnload,
		trim:            e.Trim,
		capacity:        cmp.Or(cfg.QueueTokens, defaultQueueTokens),
		side:            Truncation(model.Tokenizer.TruncationSide),
		labels:          model.Config.Labels,
		workers:         cmp.Or(cfg.TokenizerWorkers, cfg.threads()),
		log:             e.log,
		noRequestEvents: cfg.OmitRequestEvents,
	}
	if widest := s.batching.Layout.Width(e.info.MaxLength); s.batching.Limits.Tokens < widest {
		return s, fmt.Errorf("engine: a batch of at most %d tokens has no room for a pair of the maximum length, which takes %d", s.batching.Limits.Tokens, widest)
	}
	files := model.Files
	s.reopen = func() (backend, error) { return e.reopen(cfg, files) }
	s.calibration = Calibration{
		Source: AssumedCosts, Model: e.info.Model, Device: string(e.info.Device) + " " + e.info.DeviceName, DType: string(e.info.DType),
		Library: fmt.Sprintf("MLX %s, ABI %d, kernels %s", e.info.Library.MLX, e.info.Library.ABI, laid.Kernels), Workers: s.batching.Layout.Workers,
		Costs: Costs(s.batching.Costs),
	}
	s.keptCalibration()
	e.info.MaxBatch, e.info.MaxBatchTokens, e.info.QueueTokens = s.batching.Limits.Pairs, s.batching.Limits.Tokens, s.capacity
	e.warnOfSlowDType(laid.Kernels)
	s.machine, err = telemetry.NewMachineReader(e.Memory)
	return s, err
}

// warnOfSlowDType warns where half precision is slower than float32: on processors
// without half-precision instructions, MLX converts number by number.
func (e *Engine) warnOfSlowDType(kernels string) {
	if e.info.Device == CPU && e.info.DType != Float32 && kernels == "MLX" {
		e.log.Warn().Str("dtype", string(e.info.DType)).Msg("float32 is faster on this processor")
	}
}

// newLayout describes how a session lays out microbatches of a model with
// maxWidth positions.
func newLayout(l mlx.Layout, maxWidth int) schedule.Layout {
	return schedule.Layout{Unpadded: l.Unpadded, Grid: l.Grid, MaxWidth: maxWidth, Workers: l.Workers, Tokens: l.MicrobatchTokens}
}

// keptCalibration uses the calibration that an earlier engine has kept.
func (s *settings) keptCalibration() {
	path, err := calibrationPath(s.calibration)
	if err != nil { // without a home folder nothing is kept
		s.log.Debug().Err(err).Msg("calibration is not kept")
		s.batching.Assumed = true
		return
	}
	s.calibrationFile = path
	kept, ok := readCalibration(path, s.calibration)
	if ok {
		s.calibration, s.batching.Costs = kept, schedule.Costs(kept.Costs)
	}
	s.batching.Known, s.batching.Assumed = ok, !ok
}

// reopen opens a session of the same model again. It reads the weights again,
// because keeping them would always take the memory of a second model. The
// tokenizer stays, so a model whose files have changed is rejected.
func (e *Engine) reopen(cfg Config, files weights.Fingerprint) (_ backend, err error) {
	model, err := openWeights(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	if path := files.Difference(model.Files); path != "" {
		return nil, fmt.Errorf("%s has changed since the model was opened; restart, or open the engine again, to use the new model", path)
	}
	cfg.Device, cfg.DType = e.info.Device, e.info.DType
	session, err := e.openSession(cfg, model)
	if err != nil {
		return nil, err // not a nil session in a backend
	}
	return session, nil
}
