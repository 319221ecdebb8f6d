package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
)

// bubble runs f with an engine in virtual time and closes the engine.
func bubble(t *testing.T, s settings, b *fakeBackend, f func(t *testing.T, e *Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := fakeEngine(s, b)
		f(t, e)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if b.closed == 0 {
			t.Error("the session is not closed")
		}
	})
}

// newTimedBackend returns a backend that takes d for every batch.
func newTimedBackend(d time.Duration) *fakeBackend {
	return &fakeBackend{takes: func(mlx.Batch) time.Duration { return d }}
}

func somePairs(n int) []Pair { return fakePairs(rand.New(rand.NewPCG(uint64(n), 1)), n, 0) }

// A lone caller waits for company only if there is a batch timeout.
func TestLoneCaller(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		timeout time.Duration
		pairs   int
		want    Timings // for a batch that takes 70 ms
	}{
		{0, 8, Timings{Latency: 70 * time.Millisecond, Inference: 70 * time.Millisecond}},
		{200 * time.Millisecond, 8, Timings{Latency: 270 * time.Millisecond, Inference: 70 * time.Millisecond, QueueWait: 200 * time.Millisecond}},
		{200 * time.Millisecond, 16, Timings{Latency: 70 * time.Millisecond, Inference: 70 * time.Millisecond}}, // a full batch
	} {
		s := fakeSettings()
		s.batching.BatchTimeout = test.timeout
		s.batching.Limits.Tokens, s.batching.Layout.Tokens = 4096, 4096
		bubble(t, s, newTimedBackend(70*time.Millisecond), func(t *testing.T, e *Engine) {
			result := scorePairs(t, e, somePairs(test.pairs))
			if result.Timings != test.want || result.Batches != 1 {
				t.Errorf("timeout %v, %d pairs: %+v in %d batches, want %+v", test.timeout, test.pairs, result.Timings, result.Batches, test.want)
			}
		})
	}
}

// A second batch is submitted while the first executes; a third is not.
func TestTwoBatchesInFlight(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(100 * time.Millisecond)
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				time.Sleep(time.Duration(10*i) * time.Millisecond)
				scorePairs(t, e, somePairs(3+i))
			})
		}
		time.Sleep(95 * time.Millisecond)
		b.mu.Lock()
		if b.submitted != 2 {
			t.Errorf("%d batches submitted while the first executes, want 2", b.submitted)
		}
		b.mu.Unlock()
		wg.Wait()
		if b.submitted != 3 { // the third and fourth request share one
			t.Errorf("%d batches, want 3", b.submitted)
		}
	})
}

// A large request begins to execute long before all of it is tokenised. At most
// AheadPairs of its pairs are tokenised ahead of its batches.
func TestLargeRequestStartsEarly(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	s.workers = 1
	var first, start time.Time
	b := newTimedBackend(10 * time.Millisecond)
	b.submit = func(n int) error {
		if n == 1 {
			first = time.Now()
		}
		return nil
	}
	most := 0
	var p *pipeline
	s.texts.encode = func(ctx context.Context, text string, done int, last bool) ([]uint32, cut, error) {
		p.mu.Lock()
		for _, r := range p.live {
			most = max(most, r.next-r.Taken())
		}
		p.mu.Unlock()
		return fakeEncode(ctx, text, done, last)
	}
	bubble(t, s, b, func(t *testing.T, e *Engine) {
		p = e.pipeline
		pairs := make([]Pair, 6000)
		for i := range pairs {
			pairs[i] = Pair{Query: "0s 7", Document: fakeText(100*time.Microsecond, i, 1+i%20)}
		}
		start = time.Now()
		checkFakeScores(t, pairs, scorePairs(t, e, pairs))
		if took := first.Sub(start); took > 20*time.Millisecond {
			t.Errorf("the first batch was submitted after %v", took)
		}
		if most > schedule.AheadPairs+chunkPairs {
			t.Errorf("%d pairs tokenised ahead of the batches, want at most %d", most, schedule.AheadPairs)
		}
		if most < schedule.AheadPairs {
			t.Errorf("only %d pairs tokenised ahead of the batches, so the bound was not tested", most)
		}
	})
}

func TestIdenticalPairsAreExecutedOnce(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Millisecond)
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		distinct := somePairs(5)
		pairs := append(append(distinct, distinct[3], distinct[0]), distinct[3])
		result := scorePairs(t, e, pairs)
		checkFakeScores(t, pairs, result)
		if b.pairs != 5 || result.Distinct != 5 {
			t.Errorf("%d pairs executed, %d distinct, want 5", b.pairs, result.Distinct)
		}
		ranking, err := e.Rerank(context.Background(), "0s 7", []string{"0s 9", "0s 8 9", "0s 9"}, RerankOptions{})
		if err != nil || len(ranking.Items) != 3 || b.pairs != 7 {
			t.Errorf("ranking %+v, %v; %d pairs executed", ranking, err, b.pairs)
		}
		if s := e.Stats(); s.Pairs != 7 || s.Duplicates != 4 || s.Requests != 2 {
			t.Errorf("%d pairs, %d duplicates, %d requests", s.Pairs, s.Duplicates, s.Requests)
		}
		tokens, err := e.Tokenize(context.Background(), pairs)
		if err != nil || len(tokens) != len(pairs) {
			t.Fatal(err)
		}
		tokens[3].IDs[0] = -1 // pairs must not share their tokens
		if tokens[5].IDs[0] == -1 || tokens[7].IDs[0] == -1 {
			t.Error("identical pairs share their tokens")
		}
	})
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	s.capacity = 10 * fakeMaxLength
	b := newTimedBackend(time.Second)
	bubble(t, s, b, func(t *testing.T, e *Engine) {
		long := func(from, n int) []Pair {
			pairs := make([]Pair, n)
			for i := range pairs {
				pairs[i] = Pair{Query: "0s 7", Document: fakeText(0, 1000*(from+i), 70)}
			}
			return pairs
		}
		_, err := e.Score(context.Background(), long(0, 11))
		if !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrOverloaded) || !strings.Contains(err.Error(), "11 pairs may have 704 tokens, the queue holds 640") {
			t.Errorf("a request larger than the queue: %v", err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { scorePairs(t, e, long(100, 7)) })
		time.Sleep(time.Millisecond)
		_, err = e.Score(context.Background(), long(200, 4))
		if !errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge) {
			t.Errorf("a request larger than the room left: %v", err)
		}
		// A pair reserves its maximum until its tokens are known; then the rest is
		// released. These texts have many bytes and few tokens.
		short := make([]Pair, 3)
		for i := range short {
			short[i] = Pair{Query: "0s 7", Document: fmt.Sprintf("0s %d%s", i, strings.Repeat(" ", 100))}
		}
		wg.Go(func() { scorePairs(t, e, short) })
		time.Sleep(time.Millisecond)
		if got := e.Stats().Reserved; got != 7*fakeMaxLength+3*5 {
			t.Errorf("%d tokens are reserved, want %d", got, 7*fakeMaxLength+3*5)
		}
		wg.Wait()
		if s := e.Stats(); s.TooLarge != 1 || s.Overloaded != 1 || s.Requests != 2 || s.Reserved != 0 {
			t.Errorf("stats %+v", s)
		}
		for id := range b.seen { // no part of a refused request may execute
			if id >= 200000 && id < 201000 || id >= 70 && id < 100 {
				t.Errorf("id %d of a refused request was executed", id)
			}
		}
	})
}

// Pairs that no caller waits for do not execute.
func TestCancelledWorkIsDropped(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Second)
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		for i := range 2 { // occupies both tickets
			wg.Go(func() { scorePairs(t, e, somePairs(14+i)) })
			time.Sleep(time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := e.Score(ctx, []Pair{{"0s 5", "0s 424242"}})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 50*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		cancelled, stop := context.WithCancel(context.Background())
		stop()
		if _, err := e.Score(cancelled, []Pair{{"0s 5", "0s 434343"}}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		wg.Wait()
		scorePairs(t, e, []Pair{{"0s 5", "0s 6"}})
		if b.seen[424242] != 0 || b.seen[434343] != 0 {
			t.Error("a pair that no caller waited for was executed")
		}
		if s := e.Stats(); s.Cancelled != 1 || s.Requests != 3 || s.Pairs != 30 {
			t.Errorf("stats: %d cancelled, %d requests, %d pairs", s.Cancelled, s.Requests, s.Pairs)
		}
	})
}

// Tokenising a long text stops when its caller cancels.
func TestCancelledWhileTokenising(t *testing.T) {
	t.Parallel()
	bubble(t, fakeSettings(), newTimedBackend(time.Second), func(t *testing.T, e *Engine) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		for _, err := range []func() error{
			func() error { _, err := e.Score(ctx, []Pair{{"0s 5", "1h 6"}}); return err },
			func() error { _, err := e.Tokenize(ctx, []Pair{{"0s 5", "1h 6"}}); return err },
		} {
			if err := err(); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		if err := e.Close(); err != nil || time.Since(start) != 50*time.Millisecond {
			t.Errorf("closed after %v, %v", time.Since(start), err)
		}
	})
}

// Texts that take long to tokenise do not delay a small request, even if there are
// more of them than workers. Here they have no tokens at all.
func TestLongTextsTakeTurns(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	s.texts.encode = func(ctx context.Context, text string, done int, last bool) ([]uint32, cut, error) {
		if text[0] != ' ' {
			return fakeEncode(ctx, text, done, last)
		}
		time.Sleep(time.Millisecond)
		return nil, cut{at: min(len(text), partBytes)}, nil
	}
	bubble(t, s, newTimedBackend(time.Millisecond), func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		blank := strings.Repeat(" ", 1000*partBytes)
		for i := range 3 {
			wg.Go(func() { scorePairs(t, e, []Pair{{fakeText(0, i, 1), blank}}) })
		}
		for range 20 {
			time.Sleep(20 * time.Millisecond)
			if took := scorePairs(t, e, somePairs(4)).Timings.Latency; took > 24*time.Millisecond {
				t.Errorf("a small request took %v", took)
			}
		}
		wg.Wait()
	})
}

func TestErrorsAndPanicsOfTheTokenizer(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	s.texts.encode = func(ctx context.Context, text string, done int, last bool) ([]uint32, cut, error) {
		if strings.HasSuffix(text, " 666") {
			panic("tokenizer")
		}
		return fakeEncode(ctx, text, done, last)
	}
	bubble(t, s, newTimedBackend(time.Millisecond), func(t *testing.T, e *Engine) {
		for document, want := range map[string]string{"0s x": "pair 1: 4 bytes", "0s 666": "panic while tokenising: tokenizer"} {
			_, err := e.Score(context.Background(), []Pair{{"0s 1", "0s 2"}, {"0s 1", document}})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", document, err)
			}
		}
		if _, err := e.Score(context.Background(), []Pair{{"0s x", "0s 2"}}); err == nil || !strings.Contains(err.Error(), "the query of pair 0: 4 bytes") {
			t.Errorf("query: %v", err)
		}
		scorePairs(t, e, somePairs(3))
		if s := e.Stats(); s.Failed != 3 || s.Requests != 1 || s.Reserved != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestCloseRefusesAndWaits(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Second)
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { scorePairs(t, e, somePairs(40)) })
		}
		time.Sleep(time.Millisecond)
		wg.Go(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if b.closed != 1 || b.collected != b.submitted || b.pairs != 120 {
				t.Errorf("closed %d times after %d of %d batches", b.closed, b.collected, b.submitted)
			}
		})
		time.Sleep(time.Millisecond)
		for name, err := range map[string]error{
			"Score":            errorOnly(e.Score(context.Background(), somePairs(2))),
			"Score of nothing": errorOnly(e.Score(context.Background(), nil)),
			"Rerank":           errorOnly(e.Rerank(context.Background(), "0s 1", []string{"0s 2"}, RerankOptions{})),
			"Tokenize":         errorOnly(e.Tokenize(context.Background(), somePairs(2))),
			"MeasureCosts":     errorOnly(e.MeasureCosts(context.Background())),
			"Healthy":          e.Healthy(context.Background()),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v, want ErrClosed", name, err)
			}
		}
		wg.Wait()
	})
}

func errorOnly[T any](_ T, err error) error { return err }

// Stats does not wait for a batch.
func TestStatsDoNotWait(t *testing.T) {
	t.Parallel()
	bubble(t, fakeSettings(), newTimedBackend(time.Minute), func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		wg.Go(func() { scorePairs(t, e, somePairs(40)) })
		time.Sleep(30 * time.Second)
		start := time.Now()
		s := e.Stats()
		if time.Since(start) != 0 || s.Live != 1 || s.InFlight != 2 || s.Busy != 30*time.Second || s.Elapsed != 30*time.Second {
			t.Errorf("after %v: %d live, %d in flight, busy %v of %v", time.Since(start), s.Live, s.InFlight, s.Busy, s.Elapsed)
		}
		wg.Wait()
		s = e.Stats()
		w := s.Workers[0]
		if s.Busy != time.Duration(s.BatchTime.Count)*time.Minute || w.Busy != s.Busy || w.Pairs != 40 ||
			w.Tokens != s.Tokens || s.BatchTime.Count < 3 {
			t.Errorf("busy %v, worker %+v, %d batches", s.Busy, w, s.BatchTime.Count)
		}
	})
}
