package engine

import (
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// The figures of an engine. Logs, metrics and reports are views of the same
// types, so that all agree.
type (
	// Stats holds an engine's figures since it was opened. Histograms of times are
	// in milliseconds.
	Stats = telemetry.Snapshot
	// Worker is one of the CPU threads that compute microbatches.
	Worker = telemetry.Worker
	// Memory holds MLX's memory counters in bytes, of the whole process.
	Memory = telemetry.Memory
	// Histogram is the distribution of a figure: count, sum, least and greatest
	// value, mean and percentiles.
	Histogram = telemetry.Histogram
	// Bucket counts values of a Histogram that are within 1 % of one another.
	Bucket = telemetry.Bucket
)

// counters collect Stats. The lock of the pipeline guards them.
type counters struct {
	Stats
	start     time.Time
	busySince time.Time   // while a batch executes, else zero
	until     []time.Time // of each worker: the end of its last microbatch
}

// busy records how many batches execute from now on.
func (c *counters) busy(executing int, at time.Time) {
	switch {
	case executing > 0 && c.busySince.IsZero():
		c.busySince = at
	case executing == 0 && !c.busySince.IsZero():
		c.Busy += at.Sub(c.busySince)
		c.busySince = time.Time{}
	}
}

// batch counts a batch that was executed.
func (c *counters) batch(b *batch, l schedule.Layout, stats mlx.Stats, at time.Time) {
	if b.probe {
		return
	}
	c.Batches++
	c.Pairs += int64(len(b.Items))
	c.Tokens += int64(stats.Tokens)
	c.ComputedTokens += int64(stats.ComputedTokens)
	for _, it := range b.Items {
		c.GridTokens += int64(l.Width(it.Length))
		for len(c.PairsByTokens) <= it.Length {
			c.PairsByTokens = append(c.PairsByTokens, 0)
		}
		c.PairsByTokens[it.Length]++
	}
	c.BatchTime.Add(telemetry.Milliseconds(at.Sub(b.Submitted)))
	c.BatchPairs.Add(float64(len(b.Items)))
	if took := at.Sub(b.Alone); took > 0 && b.Predicted > 0 {
		c.PredictionError.Add(100 * (b.Predicted - took).Abs().Seconds() / took.Seconds())
	}
	for _, m := range stats.Microbatches {
		c.worker(b, m)
	}
}

func (c *counters) worker(b *batch, m mlx.Microbatch) {
	for len(c.Workers) <= m.Worker {
		c.Workers, c.until = append(c.Workers, Worker{}), append(c.until, time.Time{})
	}
	w, until := &c.Workers[m.Worker], &c.until[m.Worker]
	w.Microbatches++
	w.Pairs += int64(m.Pairs)
	w.Tokens += int64(m.Tokens)
	w.ComputedTokens += int64(m.ComputedTokens)
	// With two microbatches in flight the second starts before the first ends.
	from, to := b.Submitted.Add(time.Duration(m.StartNs)), b.Submitted.Add(time.Duration(m.FinishNs))
	if until.After(from) {
		from = *until
	}
	if to.After(from) {
		w.Busy += to.Sub(from)
		*until = to
	}
}

// request counts a request that was answered with scores.
func (c *counters) request(r *request, t Timings) {
	c.Requests++
	c.Duplicates += int64(r.givenPairs() - len(r.pairs))
	c.Truncated += int64(r.truncated)
	c.Latency.Add(telemetry.Milliseconds(t.Latency))
	c.Inference.Add(telemetry.Milliseconds(t.Inference))
	c.Tokenization.Add(telemetry.Milliseconds(t.Tokenization))
	c.QueueWait.Add(telemetry.Milliseconds(t.QueueWait))
	c.Other.Add(telemetry.Milliseconds(t.Other))
}

// snapshot copies the figures.
func (p *pipeline) snapshot() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	s := p.stats.Clone()
	s.Elapsed = at.Sub(p.stats.start)
	if !p.stats.busySince.IsZero() {
		s.Busy += at.Sub(p.stats.busySince)
	}
	s.Live, s.Waiting, s.Reserved, s.InFlight = len(p.live), p.schedule.Waiting(), p.reserved, p.schedule.InFlight()
	s.Loaded = p.device.session != nil
	s.Reopened, s.Unhealthy = p.device.reopened, p.device.unhealthy
	return s
}

// Stats returns the engine's figures. It does not wait for inference.
func (e *Engine) Stats() Stats { return e.pipeline.snapshot() }

// Memory reads MLX's memory counters. It does not wait for inference.
func (e *Engine) Memory() (Memory, error) {
	m, err := e.library.Memory()
	return Memory{Active: m.Active, Cache: m.Cache, Peak: m.Peak, Limit: m.Limit}, err
}

// Summary returns what logs, results and reports print of the engine.
func (i *Info) Summary() telemetry.Info {
	return telemetry.Info{
		Model: i.Model, Adapter: i.Adapter, Label: i.Label, Device: string(i.Device), DeviceName: i.DeviceName, DType: string(i.DType),
		Kernels: i.Kernels, MLX: i.Library.MLX, MaxLength: i.MaxLength, MaxBatch: i.MaxBatch, Activation: string(i.Activation),
		StartupMS: telemetry.Milliseconds(i.Startup.Total),
	}
}
