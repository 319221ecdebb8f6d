package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/mlxrank/mlxrank/internal/system"
)

// sampleTime bounds how long the machine may take to return its figures.
const sampleTime = 5 * time.Second

// A Machine holds the figures of the machine at one time; nil was not measured.
type Machine struct {
	CPUUsagePct       *float64 `json:"cpu_usage_pct"` // of this process, since the reading before
	ProcessMemoryMB   *float64 `json:"process_memory_mb"`
	GPUMemoryMB       *float64 `json:"gpu_memory_mb"` // of MLX
	GPUMemoryPeakMB   *float64 `json:"gpu_memory_peak_mb"`
	GPUUtilizationPct *float64 `json:"gpu_utilization_pct"`
}

// A MachineReader reads the machine's figures. An error leaves out the figures
// that failed; the others stand. Reading the GPU runs a program on macOS.
type MachineReader func(ctx context.Context, gpu bool) (Machine, error)

// NewMachineReader makes a reader of this process and of MLX's memory. CPU usage
// counts from one reading to the next, so each user needs its own reader.
func NewMachineReader(memory func() (Memory, error)) (MachineReader, error) {
	process, err := system.New()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, gpu bool) (Machine, error) {
		ctx, cancel := context.WithTimeout(ctx, sampleTime)
		defer cancel()
		read := process.SampleProcess
		if gpu {
			read = process.Sample
		}
		sample, err := read(ctx)
		m := Machine{CPUUsagePct: sample.CPUUsagePct, ProcessMemoryMB: sample.FootprintMB, GPUUtilizationPct: sample.GPUUtilizationPct}
		return m, errors.Join(err, m.ReadMemory(memory))
	}, nil
}

// ReadMemory sets the figures of MLX's memory.
func (m *Machine) ReadMemory(read func() (Memory, error)) error {
	memory, err := read()
	if err != nil {
		return err
	}
	used, peak := float64(memory.Active+memory.Cache)/(1<<20), float64(memory.Peak)/(1<<20)
	m.GPUMemoryMB, m.GPUMemoryPeakMB = &used, &peak
	return nil
}

// A Sampler reads an engine and the machine again and again.
type Sampler struct {
	stats   func() Snapshot
	machine MachineReader
	start   time.Time // one wall clock reading and the monotonic clock give all times of rows
	at      time.Duration
	before  Snapshot
}

// An Interval is a row with the snapshots that it is the difference of.
type Interval struct {
	Row
	Before, After Snapshot
}

// Active reports whether the engine did anything in the interval.
func (i *Interval) Active() bool { return i.After.ActiveSince(&i.Before) }

// NewSampler takes the first reading, from which the first interval counts.
func NewSampler(ctx context.Context, stats func() Snapshot, machine MachineReader) (*Sampler, error) {
	s := &Sampler{stats: stats, machine: machine, start: time.Now(), before: stats()}
	_, err := machine(ctx, false)
	return s, err
}

// Next returns the interval since the reading before. The machine is read after
// the engine, since that takes longer. The GPU is left out while the engine is
// idle, so that an idle process starts no programs. An error leaves out the
// machine's figures that failed; the rest of the interval stands.
func (s *Sampler) Next(ctx context.Context) (Interval, error) {
	i := Interval{Before: s.before, After: s.stats()}
	began := s.at
	s.before, s.at = i.After, time.Since(s.start)
	i.Row = Between(&i.Before, &i.After)
	i.TimeMS, i.IntervalMS = s.start.UnixMilli()+s.at.Milliseconds(), Milliseconds(s.at-began)
	var err error
	i.Machine, err = s.machine(ctx, i.Active())
	return i, err
}

// SleepUntil waits for a time and reports whether ctx still runs.
func SleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
