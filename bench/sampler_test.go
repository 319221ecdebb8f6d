package bench

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// sample runs a sampler for a time and returns its rows.
func sample(d time.Duration, requests []results.Request) (*sampler, []telemetry.Sample) {
	var busy, clock time.Duration
	memory := 7.0
	s := startSampler(func() gauge {
		busy += time.Microsecond // half the time by a clock of its own
		clock += 2 * time.Microsecond
		return gauge{cpu: cpuTime(), engine: &telemetry.Snapshot{Busy: busy, Elapsed: clock}, machine: telemetry.Machine{GPUMemoryMB: &memory}}
	})
	time.Sleep(d)
	return s, s.finish(requests)
}

func TestRows(t *testing.T) {
	for _, d := range []time.Duration{30 * time.Millisecond, 300 * time.Millisecond, 1300 * time.Millisecond} {
		var s *sampler
		var rows []telemetry.Sample
		synctest.Test(t, func(*testing.T) { s, rows = sample(d, nil) })
		if len(rows) < fewestRows || len(rows) > 3*fewestRows {
			t.Errorf("%d rows of %v", len(rows), d)
		}
		for i, row := range rows {
			if i > 0 && row.FromMS != rows[i-1].ToMS || row.ToMS <= row.FromMS {
				t.Errorf("%v: row %d is from %v to %v", d, i, row.FromMS, row.ToMS)
			}
			if row.CPUUsagePct == nil || *row.CPUUsagePct < 0 || row.GPUMemoryMB == nil || row.GPUUtilizationPct != nil || row.LatencyMS != nil ||
				row.DeviceBusyPct == nil || math.Abs(*row.DeviceBusyPct-50) > 1e-9 {
				t.Errorf("%v: row %d: %+v", d, i, row)
			}
		}
		if first, end := rows[0].FromMS, rows[len(rows)-1].ToMS; first > 1 || end < telemetry.Milliseconds(d) {
			t.Errorf("%v: rows are from %v to %v", d, first, end)
		}
		if s.every >= sampleEvery {
			t.Errorf("%v: every %v", d, s.every)
		}
	}
}

// After 5 s all ticks are 500 ms apart, also the earlier ones.
func TestClockSlowsDown(t *testing.T) {
	s := &sampler{every: firstEvery}
	for now := time.Duration(0); now < 30*time.Second; now += s.every {
		s.ticks = append(s.ticks, tick{k: int(now / s.every), at: now})
		s.slowDown()
		if rows := len(s.ticks) - 1; now > 20*firstEvery && rows < fewestRows {
			t.Fatalf("%d rows at %v", rows, now)
		}
		if now > 5*time.Second && s.every != sampleEvery {
			t.Fatalf("every %v at %v", s.every, now)
		}
	}
	for i, tick := range s.ticks {
		if tick.at != time.Duration(i)*sampleEvery {
			t.Errorf("tick %d at %v", i, tick.at)
		}
	}
}

// With ticks every 100 ms and a request every 250 ms, each row has a request, and
// the last row reaches the end.
func TestEachRowHasARequest(t *testing.T) {
	var ticks []tick
	for k := range 21 {
		ticks = append(ticks, tick{k: k, at: time.Duration(k) * 100 * time.Millisecond})
	}
	var requests []results.Request
	for i := range 7 {
		requests = append(requests, results.Request{StartMS: 250 * float64(i), LatencyMS: 250, Pairs: 1})
	}
	at := func(ticks []tick) (ms []float64) {
		for _, t := range ticks {
			ms = append(ms, telemetry.Milliseconds(t.at))
		}
		return ms
	}
	for name, test := range map[string]struct {
		requests []results.Request
		want     []float64
	}{
		"even":            {requests, []float64{0, 300, 500, 800, 1000, 1300, 1500, 2000}},
		"one":             {requests[2:3], []float64{0, 2000}},
		"after the clock": {[]results.Request{{LatencyMS: 150}, {LatencyMS: 2100}}, []float64{0, 200, 2000}},
	} {
		if got := at(withRequests(slices.Clone(ticks), test.requests)); !slices.Equal(got, test.want) {
			t.Errorf("%s: ticks at %v, want %v", name, got, test.want)
		}
	}
	if got := withRequests(ticks, nil); len(got) != len(ticks) {
		t.Errorf("without requests %d ticks are left of %d", len(got), len(ticks))
	}
}

func TestRowsOfRequests(t *testing.T) {
	var ticks []tick
	for k := range 4 {
		ticks = append(ticks, tick{k: k, at: time.Duration(k) * 500 * time.Millisecond})
	}
	rows := rows(ticks, []results.Request{
		{StartMS: 0, LatencyMS: 200, InferenceMS: 100, TokenizationMS: 50, QueueWaitMS: 30, Pairs: 32, Tokens: 90, ComputedTokens: 100},
		{StartMS: 200, LatencyMS: 300, InferenceMS: 200, TokenizationMS: 70, QueueWaitMS: 10, Pairs: 32, Tokens: 80, ComputedTokens: 100},
		{StartMS: 500, LatencyMS: 1000.5, Pairs: 16},
	})
	if *rows[0].ThroughputPairsS != 128 || *rows[0].LatencyMS != 250 || *rows[0].InferenceMS != 150 || *rows[0].TokenizationMS != 60 ||
		*rows[0].QueueWaitMS != 20 || *rows[0].OtherMS != 20 || math.Abs(*rows[0].PaddingWastePct-15) > 1e-9 {
		t.Errorf("%+v", rows[0])
	}
	if *rows[1].ThroughputPairsS != 0 || rows[1].LatencyMS != nil || rows[1].PaddingWastePct != nil {
		t.Errorf("a row in which nothing ended: %+v", rows[1])
	}
	if *rows[2].ThroughputPairsS != 32 || *rows[2].LatencyMS != 1000.5 || rows[2].PaddingWastePct != nil {
		t.Errorf("%+v", rows[2])
	}
}
