package bench

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

const (
	// Samples are taken every 500 ms. A run may be too short for enough of them,
	// and its length is unknown when it begins. So the clock begins at a 256th of
	// that and halves its pace whenever it has twice the rows needed.
	sampleEvery = 500 * time.Millisecond
	firstEvery  = sampleEvery / 256 // a whole number of nanoseconds
	fewestRows  = 10
)

// A gauge is what can be read at one time. Counters never fall; nil cannot be
// read.
type gauge struct {
	cpu     time.Duration       // of this process, all threads; read first
	engine  *telemetry.Snapshot // Elapsed and Busy alone
	machine telemetry.Machine
}

// A tick is a gauge at the time k intervals after the start.
type tick struct {
	k  int
	at time.Duration // when it was read
	gauge
}

// A sampler reads gauges by the clock, from start to finish.
type sampler struct {
	read  func() gauge
	start time.Time
	every time.Duration
	ticks []tick
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func startSampler(read func() gauge) *sampler {
	ctx, cancel := context.WithCancel(context.Background())
	s := &sampler{read: read, every: firstEvery, start: time.Now(), stop: cancel}
	s.tick(0)
	s.done.Go(func() { s.watch(ctx) })
	return s
}

func (s *sampler) watch(ctx context.Context) {
	for {
		k := int(time.Since(s.start)/s.every) + 1
		if !telemetry.SleepUntil(ctx, s.start.Add(time.Duration(k)*s.every)) {
			return
		}
		s.tick(k)
		s.slowDown()
	}
}

func (s *sampler) tick(k int) {
	at := time.Since(s.start)
	s.ticks = append(s.ticks, tick{k, at, s.read()})
}

// slowDown drops every other tick once there are enough.
func (s *sampler) slowDown() {
	if s.every >= sampleEvery || len(s.ticks) <= 2*fewestRows {
		return
	}
	kept := s.ticks[:0]
	for _, t := range s.ticks {
		if t.k%2 == 0 {
			t.k /= 2
			kept = append(kept, t)
		}
	}
	s.ticks, s.every = kept, 2*s.every
}

// finish takes a last sample and makes the rows.
func (s *sampler) finish(requests []results.Request) []telemetry.Sample {
	s.stop()
	s.done.Wait()
	last := s.ticks[len(s.ticks)-1]
	s.tick(last.k + 1)
	// A rest that is too short for a row of its own joins the row before.
	if end := s.ticks[len(s.ticks)-1]; len(s.ticks) > 2 && end.at-last.at < s.every/2 {
		s.ticks = append(s.ticks[:len(s.ticks)-2], end)
	}
	return rows(withRequests(s.ticks, requests), requests)
}

// withRequests drops ticks until a request ends between any two that follow each
// other. A row without a request would have a throughput of 0, and a series of
// such rows would not show the speed. Without requests all ticks stay.
func withRequests(ticks []tick, requests []results.Request) []tick {
	if len(requests) == 0 {
		return ticks
	}
	ends := make([]float64, len(requests))
	for i, r := range requests {
		ends[i] = r.EndMS()
	}
	slices.Sort(ends)
	kept := ticks[:1:1]
	next := 0 // the first request that ended after the last tick kept
	for _, t := range ticks[1:] {
		at := telemetry.Milliseconds(t.at)
		if next == len(ends) || ends[next] > at {
			continue
		}
		kept = append(kept, t)
		for next < len(ends) && ends[next] <= at {
			next++
		}
	}
	end := ticks[len(ticks)-1]
	if len(kept) == 1 || next < len(ends) { // what ended after the last tick belongs to the last row
		return append(kept, end)
	}
	kept[len(kept)-1] = end
	return kept
}

// rows makes a row between any two ticks that follow each other, of the requests
// that ended in it. The last row has those that ended later, too.
func rows(ticks []tick, requests []results.Request) []telemetry.Sample {
	ended := make([]telemetry.Snapshot, len(ticks)-1)
	for _, r := range requests {
		i := 0
		for i < len(ended)-1 && r.EndMS() > telemetry.Milliseconds(ticks[i+1].at) {
			i++
		}
		s := &ended[i]
		s.Pairs += int64(r.Pairs)
		s.Tokens += int64(r.Tokens)
		s.ComputedTokens += int64(r.ComputedTokens)
		for t, ms := range [telemetry.Times]float64{r.LatencyMS, r.QueueWaitMS, r.TokenizationMS, r.InferenceMS, r.OtherMS()} {
			h := s.Times()[t]
			h.Count, h.Sum = h.Count+1, h.Sum+ms
		}
	}
	rows := make([]telemetry.Sample, len(ended))
	for i := range rows {
		a, b := &ticks[i], &ticks[i+1]
		ended[i].Elapsed = b.at - a.at
		row := telemetry.Between(new(telemetry.Snapshot), &ended[i])
		row.Machine = b.machine
		row.CPUUsagePct = telemetry.Ratio(100*(b.cpu-a.cpu).Seconds(), (b.at - a.at).Seconds())
		row.DeviceBusyPct = nil
		if a.engine != nil && b.engine != nil {
			row.DeviceBusyPct = telemetry.Ratio(100*(b.engine.Busy-a.engine.Busy).Seconds(), (b.engine.Elapsed - a.engine.Elapsed).Seconds())
		}
		rows[i] = telemetry.Sample{FromMS: telemetry.Milliseconds(a.at), ToMS: telemetry.Milliseconds(b.at), Figures: row.Figures}
	}
	return rows
}
