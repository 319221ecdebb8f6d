// Package telemetry holds the figures of an engine and of the machine. A
// Snapshot counts since the engine was opened. A Row is the difference of two
// snapshots. The log, the dashboard, Prometheus, benchmarks and the C API are
// views of both and share their JSON names.
package telemetry

import (
	"slices"
	"time"
)

// A Snapshot holds an engine's figures since it was opened. Histograms of times
// are in milliseconds. Probes and calibration count nowhere.
type Snapshot struct {
	Elapsed time.Duration // since Open

	Requests   int64 // answered with scores
	Failed     int64 // answered with an error of the engine
	Cancelled  int64 // given up by their callers
	Overloaded int64 // refused with ErrOverloaded for lack of room
	Late       int64 // refused with ErrOverloaded because of their deadline
	TooLarge   int64 // refused with ErrTooLarge

	Dropped      int64 // admitted, then given up because the deadline could not be met
	DroppedPairs int64 // of dropped requests, not executed

	Pairs      int64 // executed; identical pairs of a request are executed once
	Duplicates int64 // answered without being executed
	Truncated  int64 // cut to the maximum length
	Batches    int64

	Tokens         int64 // without padding
	GridTokens     int64 // with each pair rounded up to the grid of widths
	ComputedTokens int64 // with all padding

	PairsByTokens []int64 // [n] counts the executed pairs of n tokens

	Live     int // admitted requests without an answer
	Waiting  int // tokenised pairs without a batch
	Reserved int // tokens of the queue's capacity that are taken
	InFlight int // batches

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

// A Worker is one of the CPU threads that compute microbatches.
type Worker struct {
	Microbatches   int64
	Pairs          int64
	Tokens         int64
	ComputedTokens int64
	Busy           time.Duration
}

// Memory holds MLX's memory counters in bytes. They count the whole process.
type Memory struct {
	Active int64 `json:"active_bytes"` // buffers in use
	Cache  int64 `json:"cache_bytes"`  // freed buffers kept for reuse
	Peak   int64 `json:"peak_bytes"`   // the most in use so far
	Limit  int64 `json:"limit_bytes"`  // above it, new work waits for running work
}

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

// Info names what an engine runs, as logs, results, the dashboard and the C API
// print it.
type Info struct {
	Model      string  `json:"model"`
	Adapter    string  `json:"adapter"`
	Label      string  `json:"label"`
	Device     string  `json:"device"`
	DeviceName string  `json:"device_name"`
	DType      string  `json:"dtype"`
	Kernels    string  `json:"kernels"`
	MLX        string  `json:"mlx"`
	MaxLength  int     `json:"max_length"`
	MaxBatch   int     `json:"max_batch"`
	Activation string  `json:"activation"`
	StartupMS  float64 `json:"startup_ms"`
}
