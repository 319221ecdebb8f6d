package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// Policies of batching.
const (
	continuous = "continuous"
	window     = "window"
)

const (
	maxThreads         = 1024     // the native library's limit too
	defaultQueueTokens = 16 << 20 // room for 32,768 pairs of 512 tokens
	// On a GPU MLX would keep all that was ever freed.
	gpuCacheLimit = 512 << 20
)

// settings makes the pipeline's of the configuration and what was opened, and
// completes Info.
func (e *Engine) settings(cfg Config, model *weights.Model, session *mlx.Session) (settings, error) {
	device := session.Device()
	laid, err := session.Layout()
	if err != nil {
		return settings{}, err
	}
	e.info.Kernels, e.info.Packed = laid.Kernels, laid.Unpadded
	if device == mlx.CPU {
		e.info.Threads = laid.Workers
	}
	s := settings{
		planner: planner{
			layout:      layoutOf(laid, model.Config.MaxPositions),
			costs:       assumedCosts(device),
			lengthAware: cfg.LengthAware != "off",
		},
		limits:          limitsOf(device),
		window:          cfg.Timeout,
		loading:         e.info.Startup.Weights + e.info.Startup.Session,
		idle:            cfg.IdleUnload,
		trim:            e.Trim,
		capacity:        orElse(cfg.QueueTokens, defaultQueueTokens),
		maxLength:       e.info.MaxLength,
		beyond:          e.tokenizer.beyond,
		frame:           e.tokenizer.frame,
		prompt:          model.Prompt,
		side:            Truncation(model.Tokenizer.TruncationSide),
		labels:          model.Config.Labels,
		workers:         orElse(cfg.TokenizerWorkers, cfg.threads()),
		encode:          e.tokenizer.encodePart,
		log:             e.log,
		noRequestEvents: cfg.OmitRequestEvents,
	}
	s.limits.pairs = orElse(cfg.MaxBatch, s.limits.pairs)
	s.limits.tokens = orElse(cfg.MaxBatchTokens, s.limits.tokens)
	if widest := s.planner.layout.width(s.maxLength); s.limits.tokens < widest {
		return s, fmt.Errorf("engine: a batch of at most %d tokens has no room for a pair of the maximum length, which takes %d", s.limits.tokens, widest)
	}
	files := model.Files
	s.reopen = func() (backend, error) { return e.reopen(cfg, files) }
	s.calibration = Calibration{
		Source: "assumed", Model: e.info.Model, Device: e.info.Device + " " + e.info.DeviceName, DType: e.info.DType,
		Library: fmt.Sprintf("MLX %s, ABI %d, kernels %s", e.info.Library.MLXFound, e.info.Library.ABI, laid.Kernels), Lanes: s.planner.layout.lanes,
		Costs: s.planner.costs,
	}
	s.keptCalibration()
	e.describeBatching(cfg, s)
	e.warnOfSlowDType(laid.Kernels)
	s.machine, err = telemetry.NewMachineReader(e.Memory)
	return s, err
}

// warnOfSlowDType says so where half precision is slower than float32: on
// processors without products of it, MLX converts number by number.
func (e *Engine) warnOfSlowDType(kernels string) {
	if e.info.Device == string(mlx.CPU) && e.info.DType != string(mlx.Float32) && kernels == "MLX" {
		e.log.Warn().Str("dtype", e.info.DType).Msg("float32 is faster on this processor")
	}
}

func orElse(n, other int) int {
	if n == 0 {
		return other
	}
	return n
}

// keptCalibration takes up what an earlier engine has kept.
func (s *settings) keptCalibration() {
	path, err := calibrationPath(s.calibration)
	if err != nil { // without a home folder nothing is kept
		s.log.Debug().Err(err).Msg("calibration is not kept")
		return
	}
	s.calibrationFile = path
	if kept, ok := readCalibration(path, s.calibration); ok {
		s.calibration, s.planner.costs = kept, kept.Costs
	}
}

func (e *Engine) describeBatching(cfg Config, s settings) {
	e.info.MaxBatch, e.info.MaxBatchTokens, e.info.QueueTokens = s.limits.pairs, s.limits.tokens, s.capacity
	e.info.Policy, e.info.Timeout, e.info.LengthAware = continuous, cfg.Timeout, "on"
	if cfg.Policy == window {
		e.info.Policy = window
	}
	if !s.planner.lengthAware {
		e.info.LengthAware = "off"
	}
}

// reopen opens a session of the same model again. It reads the weights again, since
// keeping them would take the memory of a second model all the time. The tokenizer
// stays, so a model whose files have changed is refused.
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
