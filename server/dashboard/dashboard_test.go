package dashboard

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// seconds makes a dashboard of a fake engine, takes the first reading, and returns a
// function that lets a second pass.
func seconds(t testing.TB) (*Dashboard, *fakeEngine, func()) {
	t.Helper()
	f := &fakeEngine{}
	d, err := New(f, Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	d.begin(context.Background())
	return d, f, func() {
		t.Helper()
		f.pass(time.Second, 0)
		if err := d.second(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func equal(t *testing.T, what string, got *float64, want float64) {
	t.Helper()
	if got == nil || math.Abs(*got-want) > 1e-3 {
		t.Errorf("%s is %v, want %v", what, text(got), want)
	}
}

func text(x *float64) any {
	if x == nil {
		return "nothing"
	}
	return *x
}

func TestRowOfASecond(t *testing.T) {
	d, f, pass := seconds(t)
	f.answer(100)
	f.answer(200)
	f.set(func(s *engine.Stats) { s.Busy += 250 * time.Millisecond; s.Overloaded++; s.TooLarge++; s.Waiting = 7 })
	pass()
	r := d.ring.entries[0].Row
	for what, pair := range map[string][2]any{
		"latency": {r.LatencyMS, 150.0}, "inference": {r.InferenceMS, 90.0}, "tokenization": {r.TokenizationMS, 37.5},
		"queue wait": {r.QueueWaitMS, 15.0}, "other": {r.OtherMS, 7.5}, "throughput": {r.ThroughputPairsS, 4.0},
		"padding": {r.PaddingWastePct, 20.0}, "mean tokens": {r.MeanTokens, 40.0}, "busy": {r.DeviceBusyPct, 25.0},
		"memory": {r.GPUMemoryMB, 4.0}, "peak": {r.GPUMemoryPeakMB, 5.0},
	} {
		equal(t, what, pair[0].(*float64), pair[1].(float64))
	}
	if r.Requests != 2 || r.Pairs != 4 || r.Refused != 2 || r.WaitingPairs != 7 || r.MaxTokens == nil || *r.MaxTokens != 50 {
		t.Errorf("%+v", r)
	}
}

// A figure that was not measured is null, in JSON too, and never 0.
func TestRowOfNothing(t *testing.T) {
	d, f, pass := seconds(t)
	f.noMemory = true
	pass()
	var row map[string]any
	if err := json.Unmarshal(d.ring.entries[0].encoded, &row); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"latency_ms", "queue_wait_ms", "tokenization_ms", "inference_ms", "other_ms", "padding_waste_pct",
		"mean_tokens", "max_tokens", "gpu_memory_mb", "gpu_utilization_pct"} {
		if v, ok := row[key]; !ok || v != nil {
			t.Errorf("%s is %v (there: %v)", key, v, ok)
		}
	}
	if row["throughput_pairs_s"] != 0.0 || row["device_busy_pct"] != 0.0 {
		t.Errorf("an idle second has %v pairs/s and is busy for %v %%", row["throughput_pairs_s"], row["device_busy_pct"])
	}
	s := d.ring.summary()
	if s.State != "idle" || s.Latency.P50 != nil || s.Stages.Other != nil || s.PaddingWastePct != nil || s.MaxTokens != nil || s.Throughput.P50 != nil {
		t.Errorf("%+v", s)
	}
}

func TestRingKeepsTenMinutes(t *testing.T) {
	d, f, pass := seconds(t)
	f.answer(1000)
	pass()
	for range history - 1 {
		f.answer(10)
		pass()
	}
	s := d.ring.summary()
	equal(t, "mean with the first", s.Latency.Mean, (1000+10*(history-1))/float64(history))
	f.answer(10)
	pass()
	if len(d.ring.entries) != history {
		t.Fatalf("%d rows", len(d.ring.entries))
	}
	s = d.ring.summary()
	equal(t, "mean without it", s.Latency.Mean, 10)
	equal(t, "window", &s.WindowS, history)
	if s.Requests != history+1 {
		t.Errorf("%d requests since the start", s.Requests)
	}
	for timing := range telemetry.Times {
		if d.ring.entries[0].After.Latency.Count != 2 || d.ring.values[timing].Count != 0 {
			t.Errorf("the window's values: %d", d.ring.values[timing].Count) // the fake's histograms have none
		}
	}
}

func TestStagesAddUp(t *testing.T) {
	d, f, pass := seconds(t)
	for i := range 50 {
		f.answer(float64(i) * 1.37)
		pass()
	}
	s := d.ring.summary().Stages
	if sum := *s.QueueWait + *s.Tokenization + *s.Inference + *s.Other; math.Abs(sum-100) > 1e-9 {
		t.Errorf("%v %%", sum)
	}
	equal(t, "inference", s.Inference, 60)
}

func TestWorkers(t *testing.T) {
	d, f, pass := seconds(t)
	f.set(func(s *engine.Stats) {
		s.Workers = []engine.Worker{{Microbatches: 4, Pairs: 20, Tokens: 900, ComputedTokens: 1000, Busy: 500 * time.Millisecond}}
	})
	pass()
	workers := d.ring.summary().Workers
	if len(workers) != 1 || workers[0].Microbatches != 4 || workers[0].Pairs != 20 {
		t.Fatalf("%+v", workers)
	}
	equal(t, "busy", workers[0].BusyPct, 50)
	equal(t, "microbatch", workers[0].MicrobatchMS, 125)
	equal(t, "padding", workers[0].PaddingWastePct, 10)
}

// The figures include a real engine's requests, with percentiles within 1 %.
func TestRealEngine(t *testing.T) {
	e := builtin(t)
	d, err := New(e, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.begin(context.Background())
	var least, most time.Duration = time.Hour, 0
	longest := 0
	for i := range 5 {
		ranking, err := e.Rerank(context.Background(), "rotate log files", []string{strings.Repeat("log files are rotated ", 1+20*i), "an image viewer"}, engine.RerankOptions{})
		if err != nil {
			t.Fatal(err)
		}
		least, most = min(least, ranking.Timings.Latency), max(most, ranking.Timings.Latency)
		longest = max(longest, ranking.Tokens)
	}
	if err := d.second(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := d.ring.summary()
	p50, p95 := *s.Latency.P50, *s.Latency.P95
	if p50 < 0.99*telemetry.Milliseconds(least) || p95 > 1.01*telemetry.Milliseconds(most) || p50 > p95 {
		t.Errorf("P50 %v, P95 %v of latencies from %v to %v", p50, p95, least, most)
	}
	if s.MaxTokens == nil || *s.MaxTokens <= longest/2 || *s.MaxTokens > longest || s.State != "running" || len(s.Workers) == 0 {
		t.Errorf("%+v", s)
	}
}

// The page gets the models of each second, and the facts again when another model is the
// default one.
func TestModels(t *testing.T) {
	f, model := &fakeEngine{}, "fake"
	d, err := New(&renamedEngine{f, &model}, Options{Version: "test", Models: func() any { return []string{model} }})
	if err != nil {
		t.Fatal(err)
	}
	d.begin(context.Background())
	events, _ := d.join()
	next := func() string {
		select {
		case e := <-events:
			return string(e)
		default:
			return ""
		}
	}
	for i, name := range []string{"fake", "other", "other"} {
		model = name
		f.pass(time.Second, 0)
		if err := d.second(context.Background()); err != nil {
			t.Fatal(err)
		}
		if changed := i == 1; changed {
			if e := next(); !strings.HasPrefix(e, "event: facts\n") || !strings.Contains(e, `"model":"other"`) {
				t.Errorf("second %d: %q, want facts", i, e)
			}
		}
		if e := next(); !strings.HasPrefix(e, "event: second\n") || !strings.Contains(e, `"models":["`+name+`"]`) {
			t.Errorf("second %d: %q", i, e)
		}
	}
	if s := string(d.exportJSON()); !strings.Contains(s, `"models":["other"]`) {
		t.Errorf("the export lacks the models: %s", s)
	}
	single, _, pass := seconds(t)
	if pass(); !strings.Contains(string(single.exportJSON()), `"models":null`) {
		t.Error("a program without Models has some")
	}
}

// A renamedEngine reports another model.
type renamedEngine struct {
	*fakeEngine
	model *string
}

func (r *renamedEngine) Info() engine.Info {
	info := r.fakeEngine.Info()
	info.Model = *r.model
	return info
}

// The summary counts cache, deadlines and priorities over the window, and has no cache
// where there is none.
func TestSummaryOfAnswers(t *testing.T) {
	d, f, pass := seconds(t)
	met, late := int64(10), int64(1)
	d.Options.Deadlines = func() (int64, int64) { return met, late }
	f.set(func(s *engine.Stats) { s.CacheHits, s.Late, s.Requests, s.BatchPriority = 1000, 1000, 1000, 500 })
	d.begin(context.Background())
	met, late = 13, 2
	f.set(func(s *engine.Stats) {
		s.Late, s.Dropped, s.DeadlinesMissed, s.Partial = s.Late+4, 1, 2, 3
		s.Requests, s.BatchPriority, s.Waiting, s.WaitingBatch = s.Requests+9, s.BatchPriority+2, 7, 5
	})
	pass()
	s := d.ring.summary()
	if want := (Deadlines{Met: 3, Missed: 3, Partial: 3, Refused: 5}); s.Deadlines != want || s.Cache != nil {
		t.Errorf("deadlines %+v, want %+v; cache %v", s.Deadlines, want, s.Cache)
	}
	if want := (Priorities{Priority{7, 2}, Priority{2, 5}}); s.Priorities != want {
		t.Errorf("priorities %+v, want %+v", s.Priorities, want)
	}
	f.set(func(s *engine.Stats) {
		s.CacheHits, s.CacheMisses, s.Cache = s.CacheHits+30, 10, engine.CacheUsage{Entries: 5, Bytes: 6, Limit: 7, DiskBytes: 8}
	})
	pass()
	c := d.ring.summary().Cache
	if c == nil || c.Hits != 30 || c.Misses != 10 || c.Entries != 5 || c.Bytes != 6 || c.Limit != 7 || c.DiskBytes != 8 {
		t.Fatalf("cache %+v", c)
	}
	equal(t, "hit rate", c.HitPct, 75)
}
