package bench

import (
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/bench/results"
)

const (
	// Samples are taken every 500 ms. A run may be too short for enough of them,
	// which nobody knows when it begins: so the clock begins at a 256th of that
	// and slows down to half its pace whenever twice the rows needed are there.
	sampleEvery = 500 * time.Millisecond
	firstEvery  = sampleEvery / 256 // a whole number of nanoseconds
	fewestRows  = 10
)

// A gauge is what can be read at one time. Counters go up for good; nil is what
// cannot be read.
type gauge struct {
	cpu               time.Duration  // of this process, all threads; read first
	busy              *time.Duration // of the device
	busyClock         time.Duration  // when that was
	gpuMemoryMB       *float64
	processMemoryMB   *float64
	gpuUtilizationPct *float64
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
	stop  chan struct{}
	done  chan struct{}
}

func startSampler(read func() gauge) *sampler {
	s := &sampler{read: read, every: firstEvery, start: time.Now(), stop: make(chan struct{}), done: make(chan struct{})}
	s.tick(0)
	go s.watch()
	return s
}

func (s *sampler) watch() {
	defer close(s.done)
	for {
		k := int(time.Since(s.start)/s.every) + 1
		timer := time.NewTimer(time.Until(s.start.Add(time.Duration(k) * s.every)))
		select {
		case <-timer.C:
			s.tick(k)
			s.slowDown()
		case <-s.stop:
			timer.Stop()
			return
		}
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
func (s *sampler) finish(requests []results.Request) []results.Sample {
	close(s.stop)
	<-s.done
	last := s.ticks[len(s.ticks)-1]
	s.tick(last.k + 1)
	// What is left at the end is too short for a row of its own: it goes with
	// the one before.
	if end := s.ticks[len(s.ticks)-1]; len(s.ticks) > 2 && end.at-last.at < s.every/2 {
		s.ticks = append(s.ticks[:len(s.ticks)-2], end)
	}
	s.ticks = withRequests(s.ticks, requests)
	rows := make([]results.Sample, len(s.ticks)-1)
	for i := range rows {
		rows[i] = between(s.ticks[i], s.ticks[i+1])
	}
	fillRows(rows, requests)
	return rows
}

// withRequests drops ticks until a request ends between any two that follow each
// other: a row without one has a throughput of 0, and a series of such rows a
// comb that says nothing of the speed. Without requests all ticks stay.
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
	next := 0 // the first request that ended behind the last tick kept
	for _, t := range ticks[1:] {
		if next == len(ends) || ends[next] > milliseconds(t.at) {
			continue
		}
		kept = append(kept, t)
		for next < len(ends) && ends[next] <= milliseconds(t.at) {
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

// between is the row from one tick to the next.
func between(a, b tick) results.Sample {
	pct := func(d, wall time.Duration) *float64 {
		p := 100 * d.Seconds() / wall.Seconds()
		return &p
	}
	row := results.Sample{
		FromMS: milliseconds(a.at), ToMS: milliseconds(b.at),
		GPUMemoryMB: b.gpuMemoryMB, ProcessMemoryMB: b.processMemoryMB, GPUUtilizationPct: b.gpuUtilizationPct,
		CPUUsagePct: pct(b.cpu-a.cpu, b.at-a.at),
	}
	if a.busy != nil && b.busy != nil && b.busyClock > a.busyClock {
		row.DeviceBusyPct = pct(*b.busy-*a.busy, b.busyClock-a.busyClock)
	}
	return row
}

// sums are of the requests that ended in a row.
type sums struct {
	requests, pairs, tokens, computed                   int
	latency, tokenization, inference, queueWait, others float64
}

// fillRows adds the requests to the rows in which they ended.
func fillRows(rows []results.Sample, requests []results.Request) {
	all := make([]sums, len(rows))
	for _, r := range requests {
		i := 0
		for i < len(rows)-1 && r.EndMS() > rows[i].ToMS {
			i++
		}
		s := &all[i]
		s.requests++
		s.pairs += r.Pairs
		s.tokens += r.Tokens
		s.computed += r.ComputedTokens
		s.latency += r.LatencyMS
		s.tokenization += r.TokenizationMS
		s.inference += r.InferenceMS
		s.queueWait += r.QueueWaitMS
		s.others += r.OtherMS()
	}
	for i := range rows {
		all[i].fill(&rows[i])
	}
}

func (s sums) fill(row *results.Sample) {
	row.ThroughputPairsS = float64(s.pairs) / ((row.ToMS - row.FromMS) / 1000)
	if s.requests == 0 {
		return
	}
	mean := func(sum float64) *float64 {
		m := sum / float64(s.requests)
		return &m
	}
	row.LatencyMS, row.TokenizationMS, row.InferenceMS = mean(s.latency), mean(s.tokenization), mean(s.inference)
	row.QueueWaitMS, row.OtherMS = mean(s.queueWait), mean(s.others)
	if s.computed > 0 {
		waste := 100 * float64(s.computed-s.tokens) / float64(s.computed)
		row.PaddingWastePct = &waste
	}
}
