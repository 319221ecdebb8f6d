package bench

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/workload"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/weights"
)

// A target is an engine of this process or a server.
type target interface {
	// do sends request i, waits for the answer and fills in everything except the
	// times on the load's clock.
	do(ctx context.Context, i int) (results.Request, error)
	read() gauge            // reads the gauges
	about() *results.Engine // describes what runs
	// watch begins a run. The function that it returns completes the run with what
	// only the target knows.
	watch() (func(r *results.Run) error, error)
	close(ctx context.Context) error
}

// An engineTarget is an engine with the settings of a point. Only this file uses
// the engine.
type engineTarget struct {
	settings experiment.Settings
	workload *workload.Workload
	engine   *engine.Engine
	tokens   []engine.Tokens // of the pairs used, in mode inference-only
	facts    results.Engine
	profiled bool
	slow     *slowGauges
	log      zerolog.Logger
}

// openTarget opens an engine. base has the settings that no experiment has.
func openTarget(ctx context.Context, base engine.Config, s experiment.Settings, w *workload.Workload) (*engineTarget, error) {
	config := base
	config.Model, config.Adapter = s.Model, s.Adapter
	config.Device, config.DType, config.MaxLength = engine.Device(s.Device), engine.DType(s.DType), s.MaxLength
	config.MaxBatch, config.MaxBatchTokens = s.MaxBatch, s.MaxBatchTokens
	config.Threads, config.TokenizerWorkers = s.Threads, s.TokenizerWorkers
	var options lab.Options
	if base.Lab != nil {
		options = *base.Lab
	}
	config.BatchTimeout, options.InOrder = time.Duration(s.BatchTimeoutMS*float64(time.Millisecond)), !s.LengthAware
	config.Lab = &options
	e, err := engine.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	t := &engineTarget{settings: s, workload: w, engine: e, profiled: options.Profile, log: base.Logger}
	if err := t.prepare(ctx); err != nil {
		return nil, errors.Join(err, t.close(ctx))
	}
	return t, nil
}

// prepare tokenises the pairs used: for the histogram of lengths, and for mode
// inference-only.
func (t *engineTarget) prepare(ctx context.Context) (err error) {
	used := len(t.workload.Pairs)
	if n := t.settings.Requests; n > 0 {
		used = min(used, max(n, t.settings.Warmup)*t.settings.Batch)
	}
	if t.tokens, err = t.engine.Tokenize(ctx, t.workload.Pairs[:used]); err != nil {
		return err
	}
	if err := t.engine.Ready(ctx); err != nil {
		return err
	}
	if err := t.describe(); err != nil {
		return err
	}
	if t.settings.Mode != experiment.InferenceOnly {
		t.tokens = nil
	}
	t.slow, err = newSlowGauges(t.engine, t.log)
	return err
}

// describe records what runs.
func (t *engineTarget) describe() (err error) {
	info := t.engine.Info()
	t.facts = results.Engine{
		Info: info.Summary(), MLXC: info.Library.MLXC, Shim: info.Library.ABI, BLAS: info.Library.BLAS, Packed: info.Unpadded,
		Workload: t.workload.Name, WorkloadPairs: len(t.tokens), WorkloadSHA256: t.workload.SHA256,
	}
	for _, tokens := range t.tokens {
		for len(t.facts.TokenLengths) <= len(tokens.IDs) {
			t.facts.TokenLengths = append(t.facts.TokenLengths, 0)
		}
		t.facts.TokenLengths[len(tokens.IDs)]++
		if tokens.Truncated {
			t.facts.Truncated++
		}
	}
	adapter := info.Adapter
	if adapter == weights.Builtin {
		adapter = "" // a name and not a folder
	}
	t.facts.ModelSHA256, err = weightsHash(info.Dir, adapter)
	return err
}

// do sends request i in the way of the mode.
func (t *engineTarget) do(ctx context.Context, i int) (results.Request, error) {
	batch := t.settings.Batch
	switch t.settings.Mode {
	case experiment.TokenizationOnly:
		start := time.Now()
		tokens, err := t.engine.Tokenize(ctx, t.workload.At(i, batch))
		r := results.Request{Pairs: batch, TokenizationMS: telemetry.Milliseconds(time.Since(start))}
		for _, pair := range tokens {
			r.Tokens += len(pair.IDs)
			if pair.Truncated {
				r.Truncated++
			}
		}
		return r, err
	case experiment.InferenceOnly:
		pairs := make([]engine.Tokens, batch)
		for k := range pairs {
			pairs[k] = t.tokens[(i*batch+k)%len(t.tokens)]
		}
		return request(t.engine.ScoreTokens(ctx, lab.Key{}, pairs))
	}
	return request(t.engine.Score(ctx, t.workload.At(i, batch)))
}

// request records what the engine reports of a request. Identical pairs are
// executed once and count once.
func request(r *engine.Result, err error) (results.Request, error) {
	if err != nil {
		return results.Request{}, err
	}
	return results.Request{
		InferenceMS:    telemetry.Milliseconds(r.Timings.Inference),
		TokenizationMS: telemetry.Milliseconds(r.Timings.Tokenization),
		QueueWaitMS:    telemetry.Milliseconds(r.Timings.QueueWait),
		Pairs:          r.Distinct,
		Tokens:         r.Tokens,
		ComputedTokens: r.ComputedTokens,
		Truncated:      r.Truncated,
	}, nil
}

// read reads the gauges.
func (t *engineTarget) read() gauge {
	g := gauge{cpu: cpuTime(), machine: t.slow.last()}
	stats := t.engine.Stats()
	g.engine = &telemetry.Snapshot{Elapsed: stats.Elapsed, Busy: stats.Busy}
	if err := g.machine.ReadMemory(t.engine.Memory); err != nil {
		t.log.Debug().Err(err).Msg("MLX's memory counters")
	}
	return g
}

func (t *engineTarget) about() *results.Engine { return &t.facts }

// watch reads the engine's counters before and after a run.
func (t *engineTarget) watch() (func(*results.Run) error, error) {
	before, err := t.reading()
	return func(run *results.Run) error {
		after, err := t.reading()
		if err != nil {
			return err
		}
		run.Profile = t.profile(before, after)
		if t.settings.Mode == experiment.TokenizationOnly {
			for i := range run.Samples { // not measured in this mode
				row := &run.Samples[i]
				row.InferenceMS, row.QueueWaitMS, row.DeviceBusyPct = nil, nil, nil
			}
			return nil
		}
		run.DeviceBusyPct = telemetry.Between(&before.stats, &after.stats).DeviceBusyPct
		run.Workers = workers(&before.stats, &after.stats)
		return nil
	}, err
}

// workers returns what the workers did between two readings.
func workers(before, after *telemetry.Snapshot) []results.Worker {
	var workers []results.Worker
	for _, w := range telemetry.WorkersBetween(before, after) {
		if w.Microbatches == 0 {
			continue
		}
		workers = append(workers, results.Worker{
			ID: w.ID, Microbatches: w.Microbatches, Pairs: w.Pairs, Tokens: w.Tokens,
			BusyMS: telemetry.Milliseconds(w.Busy), MeanMS: *w.MicrobatchMS, BusyPct: *w.BusyPct,
		})
	}
	return workers
}

// close frees the engine. After an interrupt it does not wait for running
// batches.
func (t *engineTarget) close(ctx context.Context) error {
	if t.slow != nil {
		t.slow.close()
	}
	if ctx.Err() == nil {
		return t.engine.Close()
	}
	go func() {
		if err := t.engine.Close(); err != nil {
			t.log.Warn().Err(err).Msg("close after an interrupt")
		}
	}()
	return nil
}
