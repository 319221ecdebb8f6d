package dashboard

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/engine/system"
)

// sampleTime bounds how long the machine may take to tell its figures.
const sampleTime = 5 * time.Second

// A Row is a second of the engine's life. Names and meanings are those of the
// event "second" that engines log; figures of requests are means over those that
// ended in it, and null is what was not measured.
type Row struct {
	TimeMS     int64   `json:"time_ms"` // Unix time of its end
	IntervalMS float64 `json:"interval_ms"`

	Requests     int64 `json:"requests"`
	Pairs        int64 `json:"pairs"`
	Failed       int64 `json:"failed"`
	Cancelled    int64 `json:"cancelled"`
	Refused      int64 `json:"refused"`
	WaitingPairs int   `json:"waiting_pairs"`

	ThroughputPairsS *float64 `json:"throughput_pairs_s"`
	LatencyMS        *float64 `json:"latency_ms"`
	QueueWaitMS      *float64 `json:"queue_wait_ms"`
	TokenizationMS   *float64 `json:"tokenization_ms"`
	InferenceMS      *float64 `json:"inference_ms"`
	OtherMS          *float64 `json:"other_ms"`
	PaddingWastePct  *float64 `json:"padding_waste_pct"`
	MeanTokens       *float64 `json:"mean_tokens"` // of a pair
	MaxTokens        *int     `json:"max_tokens"`

	DeviceBusyPct     *float64 `json:"device_busy_pct"`
	CPUUsagePct       *float64 `json:"cpu_usage_pct"`
	ProcessMemoryMB   *float64 `json:"process_memory_mb"`
	GPUMemoryMB       *float64 `json:"gpu_memory_mb"`
	GPUMemoryPeakMB   *float64 `json:"gpu_memory_peak_mb"`
	GPUUtilizationPct *float64 `json:"gpu_utilization_pct"`
}

// A sampler makes rows of an engine's counters, which only go up.
type sampler struct {
	engine  Engine
	machine *system.Sampler
	log     zerolog.Logger

	start  time.Time // its wall clock and the monotonic one make all times of rows
	at     time.Duration
	before engine.Stats
}

func newSampler(e Engine, machine *system.Sampler, log zerolog.Logger) *sampler {
	return &sampler{engine: e, machine: machine, log: log}
}

func (s *sampler) begin(ctx context.Context, start time.Time) {
	s.start = start
	s.before = s.engine.Stats()
	s.measure(ctx, false) // CPU time counts from here
}

// sample is the second since the sample before.
func (s *sampler) sample(ctx context.Context) entry {
	before, after := s.before, s.engine.Stats()
	began, at := s.at, time.Since(s.start)
	s.before, s.at = after, at
	e := entry{before: before, after: after}
	e.row = Row{
		TimeMS:       s.start.UnixMilli() + at.Milliseconds(),
		IntervalMS:   rounded(milliseconds(at - began)),
		Requests:     after.Requests - before.Requests,
		Pairs:        after.Pairs - before.Pairs,
		Failed:       after.Failed - before.Failed,
		Cancelled:    after.Cancelled - before.Cancelled,
		Refused:      refused(&after) - refused(&before),
		WaitingPairs: after.Waiting,
	}
	e.fill()
	s.machineFigures(ctx, &e.row, e.active())
	return e
}

func refused(s *engine.Stats) int64 { return s.Overloaded + s.Late + s.TooLarge + s.Dropped }

// machineFigures are read after the engine's, since they take longer.
func (s *sampler) machineFigures(ctx context.Context, r *Row, active bool) {
	sample := s.measure(ctx, active)
	r.CPUUsagePct, r.ProcessMemoryMB, r.GPUUtilizationPct = known(sample.CPUUsagePct), known(sample.FootprintMB), known(sample.GPUUtilizationPct)
	memory, err := s.engine.Memory()
	if err != nil {
		s.log.Debug().Err(err).Msg("MLX's memory figures")
		return
	}
	r.GPUMemoryMB, r.GPUMemoryPeakMB = figure(megabytes(memory.Active+memory.Cache)), figure(megabytes(memory.Peak))
}

// measure reads the machine's figures. The GPU's, for which macOS runs a
// program, are left out while the engine is at rest: a server that nobody uses
// should not wake the machine up.
func (s *sampler) measure(ctx context.Context, gpu bool) system.Sample {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	read := s.machine.SampleProcess
	if gpu {
		read = s.machine.Sample
	}
	sample, err := read(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Debug().Err(err).Msg("figures of the machine")
	}
	return sample
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }
