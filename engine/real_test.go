package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// quickDir makes the smallest possible model.
func quickDir(t testing.TB) string {
	return tinyDir(t, func(c map[string]any) {
		c["hidden_size"], c["num_hidden_layers"], c["num_attention_heads"], c["intermediate_size"] = 16, 1, 2, 16
	})
}

// oneAtATime scores each pair in a separate request.
func oneAtATime(t *testing.T, e *Engine, pairs []Pair) []float32 {
	t.Helper()
	logits := make([]float32, len(pairs))
	for i := range pairs {
		logits[i] = scorePairs(t, e, pairs[i:i+1]).Logits[0]
	}
	return logits
}

// Requests of all sizes from 64 goroutines share batches and are split over
// several. Every score must equal the score of its pair alone, and the stages of
// every request must add up to its latency.
func TestEveryScoreFrom64Goroutines(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e := openTinyEngine(t, Config{Model: quickDir(t)})
	pairs := randomPairs(rand.New(rand.NewPCG(1, 2)), 300)
	want := oneAtATime(t, e, pairs)
	// Other programs may hold a request up, so that its Other is longer than the
	// engine's own work: one round of three must be within the bound.
	for round := 1; ; round++ {
		requests, over := scoreFrom64Goroutines(t, e, pairs, want)
		if over <= requests/20 || t.Failed() {
			return
		}
		if round == 3 {
			t.Fatalf("Other exceeds its bound in %d of %d requests", over, requests)
		}
	}
}

// scoreFrom64Goroutines returns the number of requests, and of those whose Other
// exceeds its bound.
func scoreFrom64Goroutines(t *testing.T, e *Engine, pairs []Pair, want []float32) (all, tooLong int64) {
	t.Helper()
	before := e.Stats()
	var requests, scores, over atomic.Int64
	var wg sync.WaitGroup
	for caller := range 64 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(caller)))
			for range 5 {
				n := 1 + r.IntN(60)
				if r.IntN(8) == 0 {
					n = 400
				}
				places := make([]int, n)
				request := make([]Pair, n)
				for i := range request {
					places[i] = r.IntN(len(pairs))
					request[i] = pairs[places[i]]
				}
				result, err := e.Score(context.Background(), request)
				if err != nil {
					t.Error(err)
					return
				}
				for i, at := range places {
					if math.Abs(float64(result.Logits[i]-want[at])) > apart() {
						t.Errorf("pair %d: logit %v, alone %v", at, result.Logits[i], want[at])
						return
					}
				}
				if !stagesAddUp(t, result.Timings) {
					over.Add(1)
				}
				requests.Add(1)
				scores.Add(int64(n))
			}
		})
	}
	wg.Wait()
	after := e.Stats()
	executed, batches := after.Pairs-before.Pairs, after.Batches-before.Batches
	if executed >= scores.Load() || batches >= executed/4 {
		t.Errorf("%d scores, %d pairs executed in %d batches: no batch was shared", scores.Load(), executed, batches)
	}
	waste, grid, batching := after.PaddingWaste()
	t.Logf("%d scores of %d pairs in %d batches; padding %.2f %% (grid %.2f, batching %.2f); Other exceeds its bound in %d of %d requests",
		scores.Load(), executed, batches, waste, grid, batching, over.Load(), requests.Load())
	return requests.Load(), over.Load()
}

// stagesAddUp checks the sum of a request's stages and reports whether Other is
// within its bound, which other work on the machine can prevent.
func stagesAddUp(t *testing.T, got Timings) bool {
	t.Helper()
	if got.Inference+got.Tokenization+got.QueueWait+got.Other != got.Latency ||
		min(got.Inference, got.Tokenization, got.QueueWait, got.Other) < 0 {
		t.Errorf("stages of %+v do not add up", got)
	}
	return got.Other <= 500*time.Microsecond+got.Latency/100
}

// Ten thousand callers cancel at random moments.
func TestCancellationAtRandomMoments(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	const cancelled = 10000
	e := openTinyEngine(t, Config{Model: quickDir(t)})
	pairs := randomPairs(rand.New(rand.NewPCG(5, 6)), 100)
	want := oneAtATime(t, e, pairs)
	goroutines := runtime.NumGoroutine()
	var given, late atomic.Int64
	var wg sync.WaitGroup
	for caller := range 32 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(caller)))
			for given.Load() < cancelled {
				from, n := r.IntN(90), 1+r.IntN(10)
				ctx, cancel := context.WithCancel(context.Background())
				// The product of three random numbers makes many callers cancel in the
				// first stages and some not at all.
				delay := r.Float64() * r.Float64() * r.Float64() * float64(150*time.Millisecond)
				timer := time.AfterFunc(time.Duration(delay), cancel)
				result, err := e.Score(ctx, pairs[from:from+n])
				timer.Stop()
				cancel()
				switch {
				case errors.Is(err, context.Canceled):
					given.Add(1)
				case err != nil:
					t.Error(err)
					return
				default:
					late.Add(1)
					for i, logit := range result.Logits {
						if math.Abs(float64(logit-want[from+i])) > apart() {
							t.Errorf("pair %d: %v, want %v", from+i, logit, want[from+i])
							return
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if again := oneAtATime(t, e, pairs[:10]); worst(again, want[:10]) > apart() {
		t.Error("the scores changed after the cancellations")
	}
	waitForGoroutines(t, goroutines)
	if s := e.Stats(); s.Reserved != 0 || s.Live != 0 || s.Waiting != 0 || s.Failed != 0 {
		t.Errorf("after all requests: %d tokens, %d requests, %d pairs; %d failed", s.Reserved, s.Live, s.Waiting, s.Failed)
	}
	t.Logf("%d cancelled, %d answered", given.Load(), late.Load())
}

func waitForGoroutines(t *testing.T, most int) {
	t.Helper()
	for start := time.Now(); runtime.NumGoroutine() > most; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), most)
		}
	}
}

// A reopened session uses the same model and device.
func TestReopenedSessionScoresTheSame(t *testing.T) {
	dir := tinyDir(t, nil)
	e := openTinyEngine(t, Config{Model: dir})
	pairs := randomPairs(rand.New(rand.NewPCG(9, 10)), 30)
	want := scorePairs(t, e, pairs).Logits
	e.pipeline.mu.Lock()
	e.pipeline.device.broken = errors.New("simulated device failure")
	e.pipeline.mu.Unlock()
	if got := scorePairs(t, e, pairs).Logits; worst(got, want) > apart() {
		t.Errorf("off by %v", worst(got, want))
	}
	if err := e.Healthy(context.Background()); err != nil || e.Stats().Reopened != 1 {
		t.Errorf("%v after %d reopenings", err, e.Stats().Reopened)
	}
	model, err := weights.Open(context.Background(), tinyDir(t, func(c map[string]any) { c["num_hidden_layers"] = 1 }), weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.reopen(Config{Model: dir}, model.Files, ""); err == nil {
		t.Error("the session was reopened with another model")
	}
	if err := model.Close(); err != nil {
		t.Error(err)
	}
}

// The planner predicts the library's padding exactly, to the token.
func TestPredictedTokensEqualComputed(t *testing.T) {
	e := openTinyEngine(t, Config{Threads: 3})
	r := rand.New(rand.NewPCG(11, 12))
	for range 20 {
		tokens := make([]Tokens, 1+r.IntN(60))
		lengths := make([]int, len(tokens))
		for i := range tokens {
			lengths[i] = 3 + r.IntN(100)
			tokens[i] = Tokens{IDs: make([]int32, lengths[i]), TypeIDs: make([]int32, lengths[i])}
		}
		s := schedule.New(schedule.Config{
			Layout: e.pipeline.schedule.Layout(),
			Costs:  e.pipeline.batching.Costs,
			Limits: schedule.Limits{Pairs: 256, Tokens: 1 << 20},
		}, time.Time{})
		q := &request{inputs: tokens}
		s.Expect(&q.Request, lengths, time.Time{})
		for i, n := range lengths {
			s.Tokenized(&q.Request, i, n)
		}
		s.Release(&q.Request, len(lengths), time.Time{})
		taken, _ := s.Next(time.Time{}, false)
		b := batch{Batch: taken}
		b.own(map[*schedule.Request]*request{&q.Request: q})
		b.fill(1)
		ticket, err := e.pipeline.device.session.Submit(b.input)
		if err != nil {
			t.Fatal(err)
		}
		stats, err := e.pipeline.device.session.Collect(ticket, b.logits)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range b.Microbatches {
			if got := stats.Microbatches[i]; got.ComputedTokens != s.Computed || got.Pairs != s.Pairs {
				t.Fatalf("microbatch %d: predicted %+v, computed %+v", i, s, got)
			}
		}
	}
}

// TestPredictedTimesAreNearTheMeasured compares predicted with measured times, one
// batch at a time. The bound allows for other work on the machine; on an idle one
// the logged figure is below 15 %.
func TestPredictedTimesAreNearTheMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	dir := tinyDir(t, func(c map[string]any) { c["num_hidden_layers"], c["intermediate_size"] = 4, 1024 })
	e := openTinyEngine(t, Config{Model: dir})
	c, err := e.MeasureCosts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(13, 14))
	for range 60 {
		scorePairs(t, e, randomPairs(r, 5+r.IntN(30)))
	}
	off := e.Stats().PredictionError
	t.Logf("predicted times are off by %.0f %% in the median, %.0f %% at the 90th percentile; %+v", off.Percentile(50), off.Percentile(90), c.Costs)
	if off.Percentile(50) > 60 {
		t.Errorf("predicted times are off by %.0f %% in the median", off.Percentile(50))
	}
}

// The statistics of workers and batches match the requests.
func TestStatsOfTheRealEngine(t *testing.T) {
	e := openTinyEngine(t, Config{Threads: 2, MaxLength: 32})
	r := rand.New(rand.NewPCG(15, 16))
	var pairs, truncated, tokens, computed int64
	start := time.Now()
	for range 30 {
		result := scorePairs(t, e, randomPairs(r, 1+r.IntN(50)))
		pairs += int64(result.Distinct)
		truncated += int64(result.Truncated)
		tokens += int64(result.Tokens)
		computed += int64(result.ComputedTokens)
	}
	took := time.Since(start)
	s := e.Stats()
	var workers Worker
	for _, w := range s.Workers {
		workers.Pairs, workers.Tokens, workers.ComputedTokens = workers.Pairs+w.Pairs, workers.Tokens+w.Tokens, workers.ComputedTokens+w.ComputedTokens
		if w.Busy <= 0 || w.Busy > s.Busy+time.Millisecond {
			t.Errorf("a worker was busy for %v, the device for %v", w.Busy, s.Busy)
		}
	}
	if s.Pairs != pairs || s.Tokens != tokens || s.ComputedTokens != computed || workers.Pairs != pairs || workers.Tokens != tokens || workers.ComputedTokens != computed {
		t.Errorf("%d pairs, %d tokens, %d computed; stats %+v; workers %+v", pairs, tokens, computed, s, workers)
	}
	if s.Truncated == 0 || s.Truncated > truncated || s.Requests != 30 || s.Latency.Count != 30 || len(s.Workers) != 2 {
		t.Errorf("%d truncated of %d, %d requests, %d workers", s.Truncated, truncated, s.Requests, len(s.Workers))
	}
	if s.Busy <= 0 || s.Busy > took || s.Elapsed < took {
		t.Errorf("busy %v of %v, elapsed %v", s.Busy, took, s.Elapsed)
	}
}

func TestPairsByTokens(t *testing.T) {
	e := builtin(t)
	before := e.Stats()
	result, err := e.Score(t.Context(), []Pair{{"a query", "a document"}, {"a query", "another document, of more tokens than the first"}})
	if err != nil {
		t.Fatal(err)
	}
	after := e.Stats()
	pairs, tokens := int64(0), int64(0)
	for n, count := range after.PairsByTokens {
		if n < len(before.PairsByTokens) {
			count -= before.PairsByTokens[n]
		}
		pairs += count
		tokens += count * int64(n)
	}
	if pairs != 2 || tokens != int64(result.Tokens) {
		t.Errorf("%d pairs of %d tokens, want 2 of %d", pairs, tokens, result.Tokens)
	}
}

var _ backend = (*mlx.Session)(nil)
