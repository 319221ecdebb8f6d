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
func (e *Engine) settings(cfg Config, model *weights.Model, o *loaded) (settings, error) {
	device := o.session.Device()
	laid, err := o.session.Layout()
	if err != nil {
		return settings{}, err
	}
	if device == mlx.CPU {
		e.info.Threads = laid.Workers
	}
	gpu := device == mlx.GPU
	limits := schedule.DefaultLimits(gpu)
	s := settings{
		batching: schedule.Config{
			Layout:       newLayout(laid, model.Config.MaxPositions),
			Limits:       schedule.Limits{Pairs: cmp.Or(cfg.MaxBatch, limits.Pairs), Tokens: cmp.Or(cfg.MaxBatchTokens, limits.Tokens)},
			Costs:        e.assumedCosts(modelConfig(model.Config)),
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
	s.calibration = Calibration{
		Source: AssumedCosts, Shape: shapeOf(modelConfig(model.Config)), Device: string(e.info.Device) + " " + e.info.DeviceName, DType: string(e.info.DType),
		Library: e.libraryKey(laid.Kernels), Workers: s.batching.Layout.Workers, Costs: Costs(s.batching.Costs),
	}
	s.layout = laid
	s.keptCalibration()
	if err := e.settleVariant(cfg, &s, model, o); err != nil {
		return s, err
	}
	s.keptCosts()
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

// shapeOf describes what of a model its costs and its variants depend on.
func shapeOf(c mlx.ModelConfig) string {
	return fmt.Sprintf("%d layers of %d, %d heads, %d inner, %d positions, %s", c.Layers, c.HiddenSize, c.Heads, c.IntermediateSize, c.MaxPositions, c.Activation)
}

// libraryKey describes what of the libraries costs and variants depend on.
func (e *Engine) libraryKey(kernels string) string {
	key := fmt.Sprintf("MLX %s, ABI %d, kernels %s", e.info.Library.MLX, e.info.Library.ABI, kernels)
	if build := e.info.Library.Build; build != "" {
		key += ", build " + build
	}
	return key
}

// assumedCosts returns the costs to plan by until there are measured ones.
func (e *Engine) assumedCosts(shape mlx.ModelConfig) schedule.Costs {
	if e.info.Device != GPU {
		return schedule.AssumedCosts()
	}
	return schedule.AssumedGPUCosts(e.architecture, 2*tokenWork(shape), 4*float64(shape.Layers*shape.HiddenSize))
}

// keptCalibration reads what an earlier engine has kept.
func (s *settings) keptCalibration() {
	s.kept = s.calibration
	s.kept.Costs = Costs{}
	path, err := calibrationPath(s.calibration)
	if err != nil { // without a home folder nothing is kept
		s.log.Debug().Err(err).Msg("calibration is not kept")
		return
	}
	s.calibrationFile = path
	if kept, ok := readCalibration(path, s.calibration); ok {
		s.kept = kept
	}
}

// keptCosts uses the costs that an earlier engine has kept for the variant.
func (s *settings) keptCosts() {
	ok := s.calibrationFile != "" && s.kept.hasCosts(s.calibration.Variant)
	if ok {
		s.calibration.Source, s.calibration.Costs = CachedCosts, s.kept.Costs
		s.calibration.Took, s.calibration.Points = s.kept.Took, s.kept.Points
		s.batching.Costs = schedule.Costs(s.kept.Costs)
	}
	s.batching.Known, s.batching.Assumed = ok, !ok
}

// settleVariant decides which variant the session has: the one that an earlier engine
// has chosen, or one to be chosen before the first request.
func (e *Engine) settleVariant(cfg Config, s *settings, model *weights.Model, o *loaded) error {
	files, shape := model.Files, modelConfig(model.Config)
	choice := Choice{Variant: s.layout.Variant}
	variants, source := o.variants, "measured"
	measured := len(variants) > 0 && (e.info.Device == GPU || cfg.lab().ChooseOnCPU)
	found := false
	switch {
	case o.forced != "":
		variants, source = []string{o.forced}, "forced"
		choice = Choice{Variant: o.forced, Source: source, Trials: s.kept.Choice.Trials}
		t := s.kept.Choice.trial(o.forced)
		found = t != nil && t.Fault == "" && t.Error >= 0
		measured = true
	case measured:
		if found = s.kept.Choice.isSound(variants); found {
			choice = s.kept.Choice
			choice.Source = "cached"
		}
	case len(variants) > 0:
		choice.Source = "default"
	}
	if choice.Variant != s.layout.Variant {
		if err := o.reopen(cfg, choice.Variant); err != nil {
			return err
		}
		var err error
		if s.layout, err = o.session.Layout(); err != nil {
			return err
		}
		s.batching.Layout = newLayout(s.layout, model.Config.MaxPositions)
	}
	s.calibration.Choice, s.calibration.Variant = choice, choice.Variant
	variant := choice.Variant
	s.reopen = func() (backend, error) { return e.reopen(cfg, files, variant) }
	if !measured || found {
		if e.info.Device == GPU {
			check, err := e.checkBatch()
			if err != nil {
				return err
			}
			s.warm = check
		}
		return o.model.Close()
	}
	s.calibration.Choice = Choice{}
	c, err := e.chooser(cfg, files, o.model, variants, shape)
	if err != nil {
		return err
	}
	if o.forced != "" {
		c.work = mlx.Batch{}
	}
	s.closeModel = o.model.Close
	s.choose = func(ctx context.Context) (chosen, error) {
		found, err := e.choose(ctx, c, source)
		if err != nil {
			return found, err
		}
		variant = found.Variant
		return found, o.model.Close()
	}
	return nil
}

// reopen opens a session of the same model again. It reads the weights again,
// because keeping them would always take the memory of a second model. The
// tokenizer stays, so a model whose files have changed is rejected.
func (e *Engine) reopen(cfg Config, files weights.Fingerprint, variant string) (_ backend, err error) {
	model, err := openSameWeights(cfg, files)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	cfg.Device, cfg.DType = e.info.Device, e.info.DType
	session, err := e.openSession(cfg, model, variant)
	if err != nil {
		return nil, err // not a nil session in a backend
	}
	return session, nil
}

// openSameWeights reads the weights again.
func openSameWeights(cfg Config, files weights.Fingerprint) (*weights.Model, error) {
	model, err := openWeights(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	if path := files.Difference(model.Files); path != "" {
		return nil, errors.Join(fmt.Errorf("%s has changed since the model was opened; restart, or open the engine again, to use the new model", path), model.Close())
	}
	return model, nil
}
