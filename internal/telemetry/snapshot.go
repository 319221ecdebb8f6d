// Package telemetry holds the figures of an engine and of the machine. A
// Snapshot counts since the engine was opened. A Row is the difference of two
// snapshots. The log, the dashboard, Prometheus, benchmarks and the C API are
// views of both and share their JSON names.
package telemetry

import (
	"slices"
	"time"
)

// A Snapshot holds an engine's figures since it was opened. It has the fields of
// engine.Stats, which documents them and is converted from a Snapshot.
type Snapshot struct {
	Elapsed                                                 time.Duration
	Requests, Failed, Cancelled, Overloaded, Late, TooLarge int64
	Dropped, DroppedPairs                                   int64
	BatchPriority, Partial, Unscored, DeadlinesMissed       int64
	Pairs, Duplicates, Truncated, Batches                   int64
	CacheHits, CacheMisses                                  int64
	Cache                                                   CacheUsage
	Tokens, GridTokens, ComputedTokens                      int64
	PairsByTokens                                           []int64
	Live, Waiting, WaitingBatch, Reserved, InFlight         int
	Busy, Tokenizing                                        time.Duration
	Latency, Inference, Tokenization, QueueWait, Other      Histogram
	BatchTime, BatchPairs, PredictionError                  Histogram
	Workers                                                 []Worker
	Loaded                                                  bool
	Unloads, Reopened                                       int
	Unhealthy                                               error
}

type (
	// Worker is identical to engine.Worker, which documents its fields.
	Worker = struct {
		Microbatches, Pairs, Tokens, ComputedTokens int64
		Busy                                        time.Duration
	}
	// CacheUsage is identical to engine.CacheUsage, which documents its fields.
	CacheUsage = struct {
		Entries, Bytes, Limit, DiskBytes int64
	}
	// Memory is identical to engine.Memory, which documents its fields.
	Memory = struct {
		Active int64 `json:"active_bytes"`
		Cache  int64 `json:"cache_bytes"`
		Peak   int64 `json:"peak_bytes"`
		Limit  int64 `json:"limit_bytes"`
	}
)

// PaddingWaste returns the share of computed tokens that is padding, in percent:
// all padding, and its parts by rounding to the grid and by batching.
func (s *Snapshot) PaddingWaste() (all, grid, batching float64) {
	if s.ComputedTokens == 0 {
		return 0, 0, 0
	}
	share := func(n int64) float64 { return 100 * float64(n) / float64(s.ComputedTokens) }
	return share(s.ComputedTokens - s.Tokens), share(s.GridTokens - s.Tokens), share(s.ComputedTokens - s.GridTokens)
}

// Refused counts requests without an answer for lack of room or of time.
func (s *Snapshot) Refused() int64 { return s.Overloaded + s.Late + s.TooLarge + s.Dropped }

// Ended counts requests that ended in any way.
func (s *Snapshot) Ended() int64 { return s.Requests + s.Failed + s.Cancelled + s.Refused() }

// ActiveSince reports whether the engine did anything after before.
func (s *Snapshot) ActiveSince(before *Snapshot) bool {
	return s.Live > 0 || s.Busy > before.Busy || s.Ended() > before.Ended()
}

// The histograms that Times returns: a request's latency and its stages.
const (
	Latency = iota
	QueueWait
	Tokenization
	Inference
	Other
	Times // their number
)

// Times returns the histograms of a request's times, by the constants above.
func (s *Snapshot) Times() [Times]*Histogram {
	return [Times]*Histogram{&s.Latency, &s.QueueWait, &s.Tokenization, &s.Inference, &s.Other}
}

func (s *Snapshot) histograms() []*Histogram {
	times := s.Times()
	return append(times[:], &s.BatchTime, &s.BatchPairs, &s.PredictionError)
}

// Clone returns a copy that shares nothing with the snapshot.
func (s *Snapshot) Clone() Snapshot {
	c := *s
	for _, h := range c.histograms() {
		*h = h.clone()
	}
	c.Workers, c.PairsByTokens = slices.Clone(s.Workers), slices.Clone(s.PairsByTokens)
	return c
}

// Sums returns a copy without single values, for those who keep many snapshots:
// of histograms it has count and sum alone, and no lengths of pairs.
func (s *Snapshot) Sums() Snapshot {
	c := *s
	for _, h := range c.histograms() {
		*h = h.sums()
	}
	c.PairsByTokens = nil
	return c
}

// Add adds the figures of another engine. The sum has the longest Elapsed and the first
// Unhealthy, and counts workers by their index.
func (s *Snapshot) Add(o *Snapshot) {
	s.Elapsed = max(s.Elapsed, o.Elapsed)
	for _, sum := range []struct {
		to   *int64
		more int64
	}{
		{&s.Requests, o.Requests}, {&s.Failed, o.Failed}, {&s.Cancelled, o.Cancelled}, {&s.Overloaded, o.Overloaded}, {&s.Late, o.Late}, {&s.TooLarge, o.TooLarge},
		{&s.BatchPriority, o.BatchPriority}, {&s.DeadlinesMissed, o.DeadlinesMissed}, {&s.Partial, o.Partial}, {&s.Unscored, o.Unscored},
		{&s.Dropped, o.Dropped}, {&s.DroppedPairs, o.DroppedPairs}, {&s.Pairs, o.Pairs}, {&s.Duplicates, o.Duplicates}, {&s.Truncated, o.Truncated}, {&s.Batches, o.Batches},
		{&s.CacheHits, o.CacheHits}, {&s.CacheMisses, o.CacheMisses},
		{&s.Tokens, o.Tokens}, {&s.GridTokens, o.GridTokens}, {&s.ComputedTokens, o.ComputedTokens},
	} {
		*sum.to += sum.more
	}
	if o.Cache.Limit > 0 { // engines share it
		s.Cache = o.Cache
	}
	s.WaitingBatch += o.WaitingBatch
	s.Live, s.Waiting, s.Reserved, s.InFlight = s.Live+o.Live, s.Waiting+o.Waiting, s.Reserved+o.Reserved, s.InFlight+o.InFlight
	s.Busy, s.Tokenizing = s.Busy+o.Busy, s.Tokenizing+o.Tokenizing
	s.Unloads, s.Reopened, s.Loaded = s.Unloads+o.Unloads, s.Reopened+o.Reopened, s.Loaded || o.Loaded
	if s.Unhealthy == nil {
		s.Unhealthy = o.Unhealthy
	}
	s.PairsByTokens = added(s.PairsByTokens, o.PairsByTokens, func(a, b int64) int64 { return a + b })
	s.Workers = added(s.Workers, o.Workers, func(a, b Worker) Worker {
		return Worker{a.Microbatches + b.Microbatches, a.Pairs + b.Pairs, a.Tokens + b.Tokens, a.ComputedTokens + b.ComputedTokens, a.Busy + b.Busy}
	})
	others := o.histograms()
	for i, h := range s.histograms() {
		h.merge(others[i])
	}
}

// added adds two lists, the shorter of which counts as filled up with zeros.
func added[T any](a, b []T, add func(a, b T) T) []T {
	sum := make([]T, max(len(a), len(b)))
	copy(sum, a)
	for i, v := range b {
		sum[i] = add(sum[i], v)
	}
	return sum
}

// A Calibration makes a score of a logit: sigmoid((logit - Shift) / Temperature).
type Calibration struct {
	Temperature float64 `json:"temperature"`
	Shift       float64 `json:"shift"`
}

// Info names what an engine runs, as logs, results, the dashboard and the C API
// print it.
type Info struct {
	Model      string `json:"model"`
	Adapter    string `json:"adapter"`
	Label      string `json:"label"`
	Device     string `json:"device"`
	DeviceName string `json:"device_name"`
	DType      string `json:"dtype"`
	Kernels    string `json:"kernels"`
	Variant    string `json:"variant,omitempty"`   // of the unfused graph, "" until it is chosen
	Build      string `json:"mlx_build,omitempty"` // of MLX for macOS
	NAX        bool   `json:"nax,omitempty"`       // MLX uses the matrix units of M5's GPU
	MLX        string `json:"mlx"`
	MaxLength  int    `json:"max_length"`
	MaxBatch   int    `json:"max_batch"`
	Activation string `json:"activation"`
	// Calibration is nil if scores are not calibrated.
	Calibration *Calibration `json:"calibration,omitempty"`
	StartupMS   float64      `json:"startup_ms"`
}
