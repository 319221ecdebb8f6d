package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/internal/system"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// Open loads the library and the model. It downloads a model of the hub that is
// not in the cache. If ctx ends first, Open returns ctx's error and frees what was
// loaded.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	type outcome struct {
		engine *Engine
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		e, err := open(ctx, cfg)
		done <- outcome{e, err}
	}()
	select {
	case o := <-done:
		return o.engine, o.err
	case <-ctx.Done():
		go func() {
			if o := <-done; o.engine != nil {
				if err := o.engine.Close(); err != nil {
					cfg.Logger.Warn().Err(err).Msg("closing an engine after its context ended")
				}
			}
		}()
		return nil, ctx.Err()
	}
}

// check rejects settings that no model accepts.
func (cfg *Config) check() error {
	if err := errors.Join(
		checkChoice("device", cfg.Device, DeviceAuto, GPU, CPU),
		checkChoice("dtype", cfg.DType, DTypeAuto, Float32, Float16, BFloat16, Int8, Int8W, Int4W),
		checkChoice("activation", cfg.Activation, append([]Activation{ActivationAuto}, activations...)...),
	); err != nil {
		return err
	}
	if err := cfg.checkCalibration(); err != nil {
		return err
	}
	if min(cfg.MaxLength, cfg.MaxBatch, cfg.MaxBatchTokens, cfg.MicrobatchTokens, cfg.QueueTokens, cfg.Threads, cfg.TokenizerWorkers) < 0 || min(cfg.BatchTimeout, cfg.IdleUnload) < 0 || cfg.MemoryLimit < 0 {
		return errors.New("engine: limits, threads and times must not be negative")
	}
	if max(cfg.Threads, cfg.TokenizerWorkers) > maxThreads {
		return fmt.Errorf("engine: %d threads and %d tokenizer workers, the limit is %d of each", cfg.Threads, cfg.TokenizerWorkers, maxThreads)
	}
	return nil
}

func checkChoice[T ~string](name string, value T, allowed ...T) error {
	if value != "" && !slices.Contains(allowed, value) {
		return fmt.Errorf("engine: %s %q is not one of %v", name, value, allowed)
	}
	return nil
}

// lab returns the settings for benchmarks.
func (cfg *Config) lab() lab.Options {
	if cfg.Lab == nil {
		return lab.Options{}
	}
	return *cfg.Lab
}

func open(ctx context.Context, cfg Config) (*Engine, error) {
	start := time.Now()
	e := &Engine{log: cfg.Logger, profiled: cfg.lab().Profile, microbatchTokens: cfg.MicrobatchTokens}
	model, err := e.load(ctx, cfg)
	if err != nil {
		return nil, err
	}
	o, err := e.build(cfg, model)
	var s settings
	if err == nil {
		s, err = e.settings(cfg, model, o)
	}
	if err == nil {
		err = e.useCache(cfg, model)
	}
	if err = errors.Join(err, model.Close()); err != nil {
		return nil, errors.Join(err, e.discard(o))
	}
	e.pipeline = newPipeline(s, o.session)
	e.close = e.closeOnce()
	e.info.Startup.Total = time.Since(start)
	return e, nil
}

// load opens the library and the model's files at the same time.
func (e *Engine) load(ctx context.Context, cfg Config) (*weights.Model, error) {
	loaded := make(chan error, 1)
	go func() {
		start := time.Now()
		var err error
		e.library, err = mlx.Load(cfg.Library)
		e.info.Startup.Library = time.Since(start)
		loaded <- err
	}()
	start := time.Now()
	model, err := openWeights(ctx, cfg)
	e.info.Startup.Weights = time.Since(start)
	if err = errors.Join(<-loaded, err); err != nil {
		if model != nil {
			err = errors.Join(err, model.Close())
		}
		return nil, err
	}
	return model, nil
}

func openWeights(ctx context.Context, cfg Config) (*weights.Model, error) {
	var progress func(weights.Progress)
	if cfg.Progress != nil {
		progress = func(p weights.Progress) { cfg.Progress(Download(p)) }
	}
	return weights.Open(ctx, cfg.Model, weights.Options{
		Adapter: cfg.Adapter, BuiltinDir: cfg.BuiltinDir, Progress: progress, Weights: weightFormat(cfg.DType),
		Warn: func(text string) { cfg.Logger.Warn().Msg(text) },
	})
}

// weightFormat returns the format of the weights that a number format is computed from.
// auto takes small weights as they are stored.
func weightFormat(dtype DType) weights.WeightFormat {
	switch dtype {
	case "", DTypeAuto:
		return weights.StoredWeights
	case Int8W:
		return weights.Int8Weights
	case Int4W:
		return weights.Int4Weights
	}
	return weights.FloatWeights
}

// A loaded is a model on its device, and a session of it.
type loaded struct {
	model    *mlx.Model // open until the variant is settled
	session  *mlx.Session
	variants []string // that can compute the model
	forced   string   // one of them, "" for none
}

func (o *loaded) close() error {
	if o == nil {
		return nil
	}
	var err error
	if o.session != nil {
		err = o.session.Close()
	}
	return errors.Join(err, o.model.Close())
}

// reopen replaces the session by one of another variant.
func (o *loaded) reopen(cfg Config, variant string) error {
	session, err := o.model.Open(mlx.Options{Threads: cfg.threads(), Variant: variant})
	if err != nil {
		return err
	}
	err = o.session.Close()
	o.session = session
	return err
}

// build makes the tokenizer and the session at the same time.
func (e *Engine) build(cfg Config, model *weights.Model) (*loaded, error) {
	var err error
	if e.scorer.label, err = resolveLabel(cfg.Label, model); err != nil {
		return nil, err
	}
	if cfg.Calibration != nil {
		cfg.Activation = SigmoidScores // check allows no other
	}
	if e.scorer.function, err = resolveScoring(cfg.Activation, model); err != nil {
		return nil, err
	}
	maxLength, err := resolveMaxLength(cfg.MaxLength, model)
	if err != nil {
		return nil, err
	}
	if err := e.useCalibration(cfg.Calibration, model, maxLength); err != nil {
		return nil, err
	}
	if special := newFrame(model.Tokenizer.Pair).special; maxLength < special {
		return nil, fmt.Errorf("engine: a maximum length of %d holds no pair: the model's special tokens are %d", maxLength, special)
	}
	tokenized := make(chan error, 1)
	go func() {
		start := time.Now()
		var err error
		e.tokenizer, err = newTokenizer(model.Tokenizer, maxLength)
		e.info.Startup.Tokenizer = time.Since(start)
		tokenized <- err
	}()
	for _, warning := range model.Warnings {
		e.log.Warn().Str("model", model.Ref).Msg(warning)
	}
	start := time.Now()
	o, err := e.openFirst(cfg, model)
	e.info.Startup.Session = time.Since(start)
	if errors.Is(err, mlx.ErrNoDevice) {
		err = fmt.Errorf("%w; ask for device cpu, or auto, which takes a GPU only where there is one", err)
	}
	if errors.Is(err, mlx.ErrDType) {
		err = fmt.Errorf("%w; this is a mistake of libmlxrank: report it with the output of mlxrank doctor, and use another dtype", err)
	}
	if err = errors.Join(err, <-tokenized); err != nil {
		return o, err
	}
	e.describe(model, o.session, maxLength)
	return o, e.nameDevice()
}

// openFirst opens the model and a session of the variant that is forced, or of the
// default.
func (e *Engine) openFirst(cfg Config, model *weights.Model) (_ *loaded, err error) {
	if err := e.limit(cfg); err != nil {
		return nil, err
	}
	config := graphConfig(model)
	if cfg.lab().LastLayer {
		config.Head = config.Head[len(config.Head)-1:]
	}
	native, err := e.library.OpenModel(config, tensors(model.Tensors), mlx.Options{Device: mlx.Device(cfg.Device), DType: mlx.DType(cfg.DType)})
	if err != nil {
		return nil, err
	}
	o := &loaded{model: native}
	if o.variants, err = native.Variants(); err == nil && len(o.variants) > 0 {
		o.forced = os.Getenv(VariantEnv)
		err = checkForced(o.forced, o.variants)
	}
	if err == nil {
		o.session, err = native.Open(mlx.Options{Threads: cfg.threads(), Variant: o.forced})
	}
	if err == nil {
		err = startProfile(cfg, o.session)
	}
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

func (e *Engine) openSession(cfg Config, model *weights.Model, variant string) (*mlx.Session, error) {
	if err := e.limit(cfg); err != nil {
		return nil, err
	}
	session, err := e.library.Open(graphConfig(model), tensors(model.Tensors), mlx.Options{
		Device: mlx.Device(cfg.Device), DType: mlx.DType(cfg.DType), Threads: cfg.threads(), Variant: variant,
	})
	if err != nil {
		return nil, err
	}
	if err := startProfile(cfg, session); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return session, nil
}

func startProfile(cfg Config, session *mlx.Session) error {
	if !cfg.lab().Profile {
		return nil
	}
	return session.StartProfile()
}

// WriteActivations opens cfg's model, computes the pair, and writes its
// activations layer by layer to file, whose name must end in .safetensors. It is
// for debugging, to compare a new architecture with PyTorch step by step.
// mlx.Session.WriteActivations lists the names.
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
	session, err := e.openSession(cfg, model, e.Info().Choice.Variant)
	if err = errors.Join(err, model.Close()); err != nil {
		return err
	}
	err = session.WriteActivations(file, tokens[0].IDs, tokens[0].TypeIDs)
	return errors.Join(err, session.Close())
}

// threads returns how many threads compute on the CPU.
func (cfg *Config) threads() int { return cmp.Or(cfg.Threads, system.Processors()) }

// limit sets MLX's limits before there is anything to limit.
func (e *Engine) limit(cfg Config) error {
	cache, memory := cfg.limits(e.library.Info().GPUs)
	return e.library.SetLimits(cache, memory)
}

// limits returns the limits for mlx: negative ones keep MLX's own.
func (cfg *Config) limits(gpus int) (cache, memory int64) {
	cache, memory = cfg.CacheLimit, cfg.MemoryLimit
	if cache == 0 {
		cache = cpuCacheLimit
		if mlx.Device(cfg.Device) != mlx.CPU && gpus > 0 {
			cache = gpuCacheLimit
		}
	}
	if memory == 0 {
		memory = -1
	}
	return cache, memory
}

// describe fills Info.
func (e *Engine) describe(model *weights.Model, session *mlx.Session, maxLength int) {
	e.info.Model, e.info.Dir, e.info.Adapter = model.Ref, model.Dir, model.Adapter
	e.info.Device, e.info.DType = Device(session.Device()), DType(session.DType())
	for _, m := range session.Matmuls() {
		e.info.Matmuls = append(e.info.Matmuls, fmt.Sprintf("%d %s (%s)", m.Count, m, m.Part))
	}
	e.info.MaxLength, e.info.Prompt = maxLength, model.Prompt
	e.info.TruncationSide = Truncation(model.Tokenizer.TruncationSide)
	if len(model.LabelNames) > 1 {
		e.info.Labels, e.info.Label = model.LabelNames, model.LabelNames[e.scorer.label]
	}
	e.info.Activation = Activation(e.scorer.function)
	e.info.WeightBytes = weightBytes(model.Tensors, e.info.DType)
	l := e.library.Info()
	e.info.Library = Library{
		Path: l.Path, ABI: l.ABI, MLX: l.MLXFound, MLXC: l.MLXC, MLXPath: l.MLXPath, BLAS: l.BLAS, Metallib: l.Metallib,
		Build: string(l.Build), NAX: l.NAX,
	}
}

// weightBytes returns the memory that weights take on the device. Weights that are
// stored small stay so; others have the number format of the computation.
func weightBytes(tensors []weights.Tensor, dtype DType) int64 {
	size := 4
	if dtype == Float16 || dtype == BFloat16 {
		size = 2
	}
	var sum int64
	for _, t := range tensors {
		n := size
		switch {
		case t.DType == weights.U32:
			n = 4
		case dtype == Int8 && len(t.Shape) == 2 && strings.HasPrefix(t.Name, "encoder."):
			n = 1
		}
		for _, d := range t.Shape {
			n *= d
		}
		sum += int64(n)
	}
	return sum
}

func (e *Engine) nameDevice() error {
	device, err := e.library.Device(mlx.Device(e.info.Device))
	e.info.DeviceName, e.architecture = device.Name, device.Architecture
	return err
}

// discard frees what a failed open had made.
func (e *Engine) discard(o *loaded) error {
	errs := []error{o.close()}
	if e.tokenizer != nil {
		errs = append(errs, e.tokenizer.close())
	}
	return errors.Join(errs...)
}

// resolveLabel returns the index of the label that makes the score. asked is its
// name or zero-based index; for a model with one label it may be "".
func resolveLabel(asked string, model *weights.Model) (int, error) {
	names := model.LabelNames
	if asked == "" && len(names) == 1 {
		return 0, nil
	}
	if i := slices.Index(names, asked); i >= 0 {
		return i, nil
	}
	if i, err := strconv.Atoi(asked); err == nil && i >= 0 && i < len(names) {
		return i, nil
	}
	list := strings.Join(names[:min(len(names), 20)], ", ")
	if asked == "" {
		return 0, fmt.Errorf("engine: model %q has %d labels, so one must be named to score by (--label): %s, or its number from 0", model.Ref, len(names), list)
	}
	return 0, fmt.Errorf("engine: model %q has no label %q; it has %s", model.Ref, asked, list)
}

func resolveMaxLength(asked int, model *weights.Model) (int, error) {
	if asked == 0 {
		return model.MaxLength, nil
	}
	if asked > model.Config.MaxPositions {
		return 0, fmt.Errorf("engine: maximum length %d is more than the %d positions of model %q", asked, model.Config.MaxPositions, model.Ref)
	}
	return asked, nil
}

// graphConfig describes the graph of a model with the weights that it was opened with.
func graphConfig(m *weights.Model) mlx.ModelConfig {
	c := modelConfig(m.Config)
	c.WeightBits, c.WeightGroup = m.Quantization.Bits, m.Quantization.GroupSize
	return c
}

func modelConfig(c weights.Config) mlx.ModelConfig {
	var head []mlx.HeadStep
	for _, s := range c.Head {
		head = append(head, mlx.HeadStep{
			Name: s.Name, LayerNorm: s.LayerNorm, Epsilon: s.Epsilon,
			Out: s.Out, Activation: mlx.Activation(s.Activation), Residual: s.Residual,
		})
	}
	return mlx.ModelConfig{
		VocabSize:        c.VocabSize,
		HiddenSize:       c.HiddenSize,
		Layers:           c.Layers,
		Heads:            c.Heads,
		IntermediateSize: c.IntermediateSize,
		MaxPositions:     c.MaxPositions,
		TypeVocabSize:    c.TypeVocabSize,
		Labels:           c.Labels,
		LayerNormEps:     c.LayerNormEps,
		Activation:       mlx.Activation(c.Activation),
		EmbeddingSize:    c.EmbeddingSize,
		FirstPosition:    c.FirstPosition,
		PreNorm:          c.PreNorm,
		Gated:            c.Gated,
		Window:           c.Window,
		GlobalEvery:      c.GlobalEvery,
		RopeBase:         c.RopeBase,
		LocalRopeBase:    c.LocalRopeBase,
		Pooling:          mlx.Pooling(c.Pooling),
		Head:             head,
	}
}

var dtypes = map[weights.DType]mlx.DType{
	weights.F32:  mlx.Float32,
	weights.F16:  mlx.Float16,
	weights.BF16: mlx.BFloat16,
	weights.U32:  mlx.PackedUint32,
}

func tensors(from []weights.Tensor) []mlx.Tensor {
	to := make([]mlx.Tensor, len(from))
	for i, t := range from {
		to[i] = mlx.Tensor{Name: t.Name, DType: dtypes[t.DType], Shape: t.Shape, Data: t.Data}
	}
	return to
}
