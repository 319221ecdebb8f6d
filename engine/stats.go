package engine

import (
	"errors"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// Stats holds an engine's figures since it was opened. Histograms of times are in
// milliseconds. Probes and measurements of costs count nowhere.
type Stats struct {
	Elapsed time.Duration // since Open

	Requests   int64 // answered with scores
	Failed     int64 // answered with an error of the engine
	Cancelled  int64 // given up by their callers, or not answered by their deadlines
	Overloaded int64 // refused with ErrOverloaded for lack of room
	Late       int64 // refused with ErrOverloaded because of their deadline
	TooLarge   int64 // refused with ErrTooLarge

	Dropped      int64 // admitted, then given up because the deadline could not be met
	DroppedPairs int64 // of dropped requests and partial answers, not executed

	BatchPriority   int64 // Requests of PriorityBatch
	Partial         int64 // Requests answered without the scores of all pairs
	Unscored        int64 // pairs of partial answers without a score
	DeadlinesMissed int64 // Cancelled requests whose deadlines had passed

	Pairs      int64 // executed; identical pairs of a request are executed once
	Duplicates int64 // answered without being executed
	Truncated  int64 // cut to the maximum length
	Batches    int64

	CacheHits   int64 // pairs not executed, because their logits were in the cache or computed by another request
	CacheMisses int64 // pairs looked up in the cache and executed
	// Cache describes Config.Cache, which several engines may share.
	Cache CacheUsage

	Tokens         int64 // without padding
	GridTokens     int64 // with each pair rounded up to the grid of widths
	ComputedTokens int64 // with all padding

	PairsByTokens []int64 // [n] counts the executed pairs of n tokens

	Live         int // admitted requests without an answer
	Waiting      int // tokenised pairs without a batch
	WaitingBatch int // of Waiting, the pairs of PriorityBatch
	Reserved     int // tokens of the queue's capacity that are taken
	InFlight     int // batches

	Busy       time.Duration // at least one batch was executing
	Tokenizing time.Duration // sum over all tokenizer workers

	Latency, Inference, Tokenization, QueueWait, Other Histogram // of requests

	BatchTime  Histogram // of batches, from submission to results
	BatchPairs Histogram
	// PredictionError is the difference between a batch's predicted and actual
	// time, in percent of the actual time, without a sign.
	PredictionError Histogram

	Workers []Worker

	Loaded    bool  // a session is open; otherwise the next request opens one
	Unloads   int   // sessions closed since there were no requests
	Reopened  int   // sessions opened after a failure
	Unhealthy error // nil while the device works
}

// Worker holds the figures of one of the CPU threads that compute microbatches.
type Worker = struct {
	Microbatches   int64
	Pairs          int64
	Tokens         int64 // without padding
	ComputedTokens int64 // with padding
	Busy           time.Duration
}

// Memory holds MLX's memory counters in bytes. They count the whole process.
type Memory = struct {
	Active int64 `json:"active_bytes"` // buffers in use
	Cache  int64 `json:"cache_bytes"`  // freed buffers kept for reuse
	Peak   int64 `json:"peak_bytes"`   // the most in use so far
	Limit  int64 `json:"limit_bytes"`  // above it, new work waits for running work
}

// Histogram is the distribution of a figure. Its fields Count (an int64), Sum, Min
// and Max (float64) describe all values. Mean() returns the mean, Percentile(p) the
// p-th percentile, from 0 to 100, and AtMost(v) how many values are at most v.
// Percentiles of up to 4096 values are exact; percentiles of more are within 1 %.
type Histogram = telemetry.Histogram

// PaddingWaste returns the share of computed tokens that is padding, in percent:
// all padding, and its parts by rounding to the grid and by batching.
func (s *Stats) PaddingWaste() (all, grid, batching float64) {
	return (*telemetry.Snapshot)(s).PaddingWaste()
}

// Refused counts requests without an answer for lack of room or of time.
func (s *Stats) Refused() int64 { return (*telemetry.Snapshot)(s).Refused() }

// Ended counts requests that ended in any way.
func (s *Stats) Ended() int64 { return (*telemetry.Snapshot)(s).Ended() }

// counters collect Stats. The lock of the pipeline guards them.
type counters struct {
	telemetry.Snapshot
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
	if r.Priority == schedule.PriorityBatch {
		c.BatchPriority++
	}
	if r.left > 0 {
		c.Partial++
		c.Unscored += int64(r.left)
		c.DroppedPairs += int64(r.dropped())
	}
	c.CacheHits += int64(r.hits)
	c.CacheMisses += int64(r.misses)
	c.Latency.Add(telemetry.Milliseconds(t.Latency))
	c.Inference.Add(telemetry.Milliseconds(t.Inference))
	c.Tokenization.Add(telemetry.Milliseconds(t.Tokenization))
	c.QueueWait.Add(telemetry.Milliseconds(t.QueueWait))
	c.Other.Add(telemetry.Milliseconds(t.Other))
}

// snapshot copies the figures.
func (p *pipeline) snapshot() telemetry.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	s := p.stats.Clone()
	s.Elapsed = at.Sub(p.stats.start)
	if !p.stats.busySince.IsZero() {
		s.Busy += at.Sub(p.stats.busySince)
	}
	s.Live, s.Waiting, s.Reserved, s.InFlight = len(p.live), p.schedule.Waiting(), p.reserved, p.schedule.InFlight()
	s.WaitingBatch = p.schedule.WaitingOf(schedule.PriorityBatch)
	s.Loaded = p.device.session != nil
	s.Reopened, s.Unhealthy = p.device.reopened, p.device.unhealthy
	return s
}

// Stats returns the engine's figures. It does not wait for inference.
func (e *Engine) Stats() Stats {
	s := Stats(e.pipeline.snapshot())
	if e.caching != nil {
		s.Cache = e.caching.cache.Usage()
	}
	return s
}

// Memory reads MLX's memory counters. It does not wait for inference.
func (e *Engine) Memory() (Memory, error) {
	m, err := e.library.Memory()
	return Memory{Active: m.Active, Cache: m.Cache, Peak: m.Peak, Limit: m.Limit}, err
}

// Profile returns where the time of the native pass went since the engine was
// opened, or since its session was reopened (Stats counts that). It needs
// lab.Options.Profile.
func (e *Engine) Profile(lab.Key) (lab.Profile, error) {
	e.pipeline.mu.Lock()
	session, ok := e.pipeline.device.session.(*mlx.Session)
	e.pipeline.mu.Unlock()
	if !ok || !e.profiled {
		return lab.Profile{}, errors.New("engine: opened without a profile; set lab.Options.Profile")
	}
	return session.Profile()
}

// Summary returns what logs, results and reports print of the engine.
func (i *Info) Summary() telemetry.Info {
	var calibration *telemetry.Calibration
	if i.Calibration != nil {
		calibration = &telemetry.Calibration{Temperature: i.Calibration.Temperature, Shift: i.Calibration.Shift}
	}
	return telemetry.Info{
		Model: i.Model, Adapter: i.Adapter, Label: i.Label, Device: string(i.Device), DeviceName: i.DeviceName, DType: string(i.DType),
		Kernels: i.Kernels, Variant: i.Choice.Variant, Build: i.Library.Build, NAX: i.Library.NAX, MLX: i.Library.MLX, MaxLength: i.MaxLength, MaxBatch: i.MaxBatch, Activation: string(i.Activation), Calibration: calibration,
		StartupMS: telemetry.Milliseconds(i.Startup.Total),
	}
}
