// Package system samples how much of the machine this process uses. A figure that
// the machine does not report is absent, not 0.
package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/process"
)

// A Sample holds the figures at one time; nil is absent.
type Sample struct {
	// CPUUsagePct is this process's CPU time, all threads, over wall time since
	// the sample before: 100 is one core. The first sample has none.
	CPUUsagePct *float64
	// FootprintMB is the memory of this process in units of 2^20 bytes: on macOS
	// phys_footprint, which includes the GPU's buffers, elsewhere the resident set.
	FootprintMB *float64
	// GPUUtilizationPct is macOS's "Device Utilization %" of the whole GPU, all
	// processes. Elsewhere it is absent.
	GPUUtilizationPct *float64
}

// A Sampler takes samples. It is safe for any number of goroutines. CPU usage counts
// since the last sample of the same Sampler.
type Sampler struct {
	process *process.Process

	mu   sync.Mutex
	last time.Time
	cpu  float64 // seconds used by then
}

// New makes a sampler of this process.
func New() (*Sampler, error) {
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("system: this process: %w", err)
	}
	return &Sampler{process: p}, nil
}

// Sample takes a sample. It can take tens of milliseconds, so call it on a separate
// goroutine. If a figure fails, it is absent and the error has the reason; the other
// figures are valid.
func (s *Sampler) Sample(ctx context.Context) (Sample, error) {
	out, err := s.SampleProcess(ctx)
	gpu, gpuErr := gpuUtilization(ctx)
	out.GPUUtilizationPct = gpu
	return out, errors.Join(err, gpuErr)
}

// SampleProcess takes a sample without the GPU, whose figure takes longest.
func (s *Sampler) SampleProcess(ctx context.Context) (Sample, error) {
	var out Sample
	var errs []error
	usage, err := s.cpuUsage(ctx)
	errs = append(errs, err)
	out.CPUUsagePct = usage
	bytes, err := footprint(ctx, s.process)
	errs = append(errs, err)
	if err == nil {
		mb := float64(bytes) / (1 << 20)
		out.FootprintMB = &mb
	}
	return out, errors.Join(errs...)
}

func (s *Sampler) cpuUsage(ctx context.Context) (*float64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	times, err := s.process.TimesWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("system: CPU time: %w", err)
	}
	now, used := time.Now(), times.User+times.System
	since, before := now.Sub(s.last).Seconds(), s.cpu
	first := s.last.IsZero()
	s.last, s.cpu = now, used
	if first || since <= 0 {
		return nil, nil
	}
	pct := 100 * (used - before) / since
	return &pct, nil
}
