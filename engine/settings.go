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
	// On the CPU MLX would keep 32 MiB, though the buffers of a microbatch have a few MiB,
	// and malloc keeps for reuse what MLX frees. A larger cache makes no pass faster.
	cpuCacheLimit = 8 << 20
)

// settings makes the pipeline's settings from the configuration and completes
// Info.
func (e *Engine) settings(cfg Config, model *weights.Model, o *loaded) (settings, error) {
	device := o.session.Device()
	laid, err := e.layout(o.session)
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
			BatchTimeout: cfg.BatchTimeout,
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
	// By default, a pair that is longer than the limit is a batch of its own.
	widest := s.batching.Layout.Width(e.info.MaxLength)
	if cfg.MaxBatchTokens > 0 && cfg.MaxBatchTokens < widest {
		return s, fmt.Errorf("engine: a batch of at most %d tokens has no room for a pair of the maximum length, which takes %d", s.batching.Limits.Tokens, widest)
	}
	s.costs = CostModel{
		Source: AssumedCosts, Shape: shapeOf(modelConfig(model.Config)), Device: string(e.info.Device) + " " + e.info.DeviceName, DType: string(e.info.DType),
		Library: e.libraryKey(laid.Kernels), Workers: s.batching.Layout.Workers, Costs: Costs(s.batching.Costs),
	}
	s.layout = laid
	s.readKeptCosts()
	if err := e.settleVariant(cfg, &s, model, o); err != nil {
		return s, err
	}
	s.keptCosts()
	e.info.MaxBatch, e.info.MaxBatchTokens, e.info.QueueTokens = s.batching.Limits.Pairs, max(s.batching.Limits.Tokens, widest), s.capacity
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

// layout returns a session's layout with the configured size of microbatches.
func (e *Engine) layout(session *mlx.Session) (mlx.Layout, error) {
	l, err := session.Layout()
	l.MicrobatchTokens = cmp.Or(e.microbatchTokens, l.MicrobatchTokens)
	return l, err
}

// newLayout describes how a session lays out microbatches of a model with
// maxWidth positions.
func newLayout(l mlx.Layout, maxWidth int) schedule.Layout {
	return schedule.Layout{Unpadded: l.Unpadded, Grid: l.Grid, MaxWidth: maxWidth, Workers: l.Workers, Tokens: l.MicrobatchTokens}
}

// shapeOf describes what of a model its costs and its variants depend on.
func shapeOf(c mlx.ModelConfig) string {
	text := fmt.Sprintf("%d layers of %d, %d heads, %d inner, %d positions, %s", c.Layers, c.HiddenSize, c.Heads, c.IntermediateSize, c.MaxPositions, c.Activation)
	if c.EmbeddingSize != c.HiddenSize {
		text += fmt.Sprintf(", embeddings of %d", c.EmbeddingSize)
	}
	if c.PreNorm {
		text += ", norms first"
	}
	if c.Gated {
		text += ", gated"
	}
	if c.RopeBase > 0 {
		text += ", rotary"
	}
	if c.Window > 0 {
		text += fmt.Sprintf(", window %d, global every %d", c.Window, c.GlobalEvery)
	}
	return text
}

// globalLayers counts the layers in which each token attends to all others.
func globalLayers(c mlx.ModelConfig) int {
	if c.Window == 0 {
		return c.Layers
	}
	return (c.Layers + c.GlobalEvery - 1) / c.GlobalEvery
}

// libraryKey describes what of the libraries costs and variants depend on.
func (e *Engine) libraryKey(kernels string) string {
	key := fmt.Sprintf("MLX %s, ABI %d, kernels %s", e.info.Library.MLX, e.info.Library.ABI, kernels)
	if build := e.info.Library.Build; build != "" {
		key += ", build " + build
	}
	return key
}

// assumedCosts returns the costs to plan by until there are measured ones. Only in
// global layers does work grow with the square of a row's width.
func (e *Engine) assumedCosts(shape mlx.ModelConfig) schedule.Costs {
	global := float64(globalLayers(shape))
	if e.info.Device != GPU {
		costs := schedule.AssumedCosts()
		costs.Square *= global / float64(shape.Layers)
		return costs
	}
	return schedule.AssumedGPUCosts(e.architecture, 2*tokenWork(shape), 4*global*float64(shape.HiddenSize))
}

// readKeptCosts reads what an earlier engine has kept.
func (s *settings) readKeptCosts() {
	s.kept = s.costs
	s.kept.Costs = Costs{}
	path, err := costsPath(s.costs)
	if err != nil { // without a home folder nothing is kept
		s.log.Debug().Err(err).Msg("costs are not kept")
		return
	}
	s.costsFile = path
	if kept, ok := readCostModel(path, s.costs); ok {
		s.kept = kept
	}
}

// keptCosts uses the costs that an earlier engine has kept for the variant.
func (s *settings) keptCosts() {
	ok := s.costsFile != "" && s.kept.hasCosts(s.costs.Variant)
	if ok {
		s.costs.Source, s.costs.Costs = CachedCosts, s.kept.Costs
		s.costs.Took, s.costs.Points = s.kept.Took, s.kept.Points
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
		if s.layout, err = e.layout(o.session); err != nil {
			return err
		}
		s.batching.Layout = newLayout(s.layout, model.Config.MaxPositions)
	}
	s.costs.Choice, s.costs.Variant = choice, choice.Variant
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
	s.costs.Choice = Choice{}
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
