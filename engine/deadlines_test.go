package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// perToken is a backend whose batches take a millisecond a token.
func perToken() *fakeBackend {
	return &fakeBackend{takes: func(b mlx.Batch) time.Duration { return time.Millisecond * time.Duration(len(b.IDs)) }}
}

// executed returns how many pairs the backend has executed.
func (f *fakeBackend) executed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pairs
}

// unlike returns n pairs of 32 tokens each, of which no two are the same.
func unlike(n int) []Pair {
	pairs := make([]Pair, n)
	for i := range pairs {
		pairs[i] = Pair{fakeText(0, 1, 2), fakeText(0, 100+30*i, 27)}
	}
	return pairs
}

// A partial answer comes before the deadline, by the margin, with what was scored by
// then. Pairs without a score were not executed, or too late.
func TestPartialAnswer(t *testing.T) {
	t.Parallel()
	b := perToken()
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		scorePairs(t, e, unlike(60)) // teaches the forecast
		for within, want := range map[time.Duration]int{
			10 * time.Second: 60, 1050 * time.Millisecond: 31, 300 * time.Millisecond: 8, 20 * time.Millisecond: 0,
		} {
			before := b.executed()
			ctx, cancel := context.WithTimeout(context.Background(), within)
			start := time.Now()
			pairs := unlike(60)
			r, err := e.ScoreWith(ctx, pairs, ScoreOptions{Partial: true})
			took := time.Since(start)
			cancel()
			if err != nil {
				t.Errorf("within %v: %v", within, err)
				continue
			}
			checkFakeScores(t, pairs, r)
			scored := 60 - len(r.Unscored)
			if took > within-partialMargin(within) || scored > want || scored < want*3/4 || want == 60 && scored != 60 {
				t.Errorf("within %v: %d pairs scored after %v, want about %d", within, scored, took, want)
			}
			if executed := b.executed() - before; executed != scored {
				t.Errorf("within %v: %d pairs were executed for %d scores", within, executed, scored)
			}
			time.Sleep(3 * time.Second)
		}
		s := e.Stats()
		if s.Partial != 3 || s.Unscored == 0 || s.DroppedPairs != s.Unscored || s.Late != 0 || s.TooLarge != 0 {
			t.Errorf("partial %d, unscored %d, dropped %d, late %d, too large %d", s.Partial, s.Unscored, s.DroppedPairs, s.Late, s.TooLarge)
		}
	})
}

// A batch that ends after the deadline gives no scores, and nothing is written to an
// answer that the caller has.
func TestPartialAnswerWhileABatchExecutes(t *testing.T) {
	t.Parallel()
	b := perToken()
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		// Nothing is measured, so the first batch is taken whatever it takes.
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		pairs := unlike(8)
		r, err := e.ScoreWith(ctx, append(pairs, pairs[0]), ScoreOptions{Partial: true, AllLabels: true})
		if err != nil || len(r.Unscored) != 9 || r.Unscored[8] != 8 || r.ByLabel[0] != nil || r.Tokens != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(time.Second)
		if s := e.Stats(); s.Live != 0 || s.InFlight != 0 || s.Reserved != 0 || s.Pairs != 8 || s.Unscored != 8 {
			t.Errorf("%+v", s)
		}
	})
}

// The end of the caller's context is no partial answer, and neither is an error.
func TestPartialIsNoExcuse(t *testing.T) {
	t.Parallel()
	b := perToken()
	fault := errors.New("a fault")
	var broken atomic.Bool
	b.finish = func(int) error {
		if broken.Load() {
			return fault
		}
		return nil
	}
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := e.ScoreWith(ctx, unlike(60), ScoreOptions{Partial: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		time.Sleep(5 * time.Second)
		ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		broken.Store(true)
		if _, err := e.ScoreWith(ctx, unlike(60), ScoreOptions{Partial: true}); !errors.Is(err, fault) {
			t.Errorf("after a fault: %v", err)
		}
	})
}

// Without Partial a deadline that passes is an error, and counted.
func TestMissedDeadline(t *testing.T) {
	t.Parallel()
	bubble(t, fakeSettings(), perToken(), func(t *testing.T, e *Engine) {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := e.Score(ctx, unlike(8)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if s := e.Stats(); s.Cancelled != 1 || s.DeadlinesMissed != 1 || s.Partial != 0 {
			t.Errorf("%d cancelled, %d missed, %d partial", s.Cancelled, s.DeadlinesMissed, s.Partial)
		}
	})
}

// A small request with a short deadline goes ahead of large ones without, in a batch
// that ends in time.
func TestShortDeadlineAheadOfOthers(t *testing.T) {
	t.Parallel()
	bubble(t, fakeSettings(), perToken(), func(t *testing.T, e *Engine) {
		scorePairs(t, e, unlike(60))
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { scorePairs(t, e, unlike(30)) })
		}
		time.Sleep(time.Millisecond)
		// Two batches of 512 ms execute; its own pairs take 128 ms.
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		defer cancel()
		if _, err := e.Score(ctx, unlike(4)); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

// A ranking lists unscored documents last, in their order, and TopN counts them.
func TestPartialRanking(t *testing.T) {
	t.Parallel()
	nan := float32(math.NaN())
	score := func(i int, s float32) Ranked { return Ranked{Index: i, Score: s, Logit: s} }
	without := func(i int) Ranked { return Ranked{Index: i, Score: nan, Logit: nan, Unscored: true} }
	items := func() []Ranked { return []Ranked{score(3, 5), score(0, 2), score(4, -1), without(1), without(2)} }
	threshold := 0.
	for _, test := range []struct {
		opts RerankOptions
		want []int
	}{
		{RerankOptions{}, []int{3, 0, 4, 1, 2}},
		{RerankOptions{TopN: 4}, []int{3, 0, 4, 1}},
		{RerankOptions{Threshold: &threshold}, []int{3, 0, 1, 2}},
		{RerankOptions{Threshold: &threshold, TopN: 3}, []int{3, 0, 1}},
	} {
		var got []int
		for _, item := range test.opts.choose(items()) {
			got = append(got, item.Index)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, want %v", test.opts, got, test.want)
		}
	}
	bubble(t, fakeSettings(), perToken(), func(t *testing.T, e *Engine) {
		documents := []string{fakeText(0, 100, 27), fakeText(0, 200, 27), fakeText(0, 300, 27)}
		_, err := e.Rerank(context.Background(), fakeText(0, 1, 2), documents, RerankOptions{Explain: true, ScoreOptions: ScoreOptions{Partial: true}})
		if err == nil || !strings.Contains(err.Error(), "exclude each other") {
			t.Errorf("explain: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		r, err := e.Rerank(ctx, fakeText(0, 1, 2), documents, RerankOptions{TopN: 2, ScoreOptions: ScoreOptions{Partial: true}})
		if err != nil || len(r.Items) != 2 || !r.Items[0].Unscored || r.Items[0].Index != 0 || r.Items[1].Index != 1 || !slices.Equal(r.Unscored, []int{0, 1, 2}) {
			t.Errorf("nothing scored: %+v, %v", r, err)
		}
	})
}

// A document whose passages are not all scored has no score, because one of the
// others may be the best.
func TestPartialPassages(t *testing.T) {
	t.Parallel()
	b := perToken()
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		scorePairs(t, e, unlike(60))
		parts := func(n int) (spans []Span) {
			for i := range n {
				spans = append(spans, Span{6 * i, 6*i + 6})
			}
			return spans
		}
		// Each passage "0s 10i" has 5 tokens.
		document := ""
		for i := range 60 {
			document += "0s 1" + string(rune('0'+i/10)) + string(rune('0'+i%10))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		pairs := []Pair{{"0s 7", document}, {"0s 7", document}}
		r, best, err := e.scoreParts(ctx, pairs, [][]Span{parts(2), parts(60)}, ScoreOptions{Partial: true})
		if err != nil || len(r.Unscored) == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if isUnscored(best[0].Logit) || !isUnscored(best[1].Logit) {
			t.Errorf("%+v and %+v of %d unscored passages", best[0], best[1], len(r.Unscored))
		}
	})
}

// An interactive client has less than twice its own P99 beside batch clients, which
// progress. The control has them at one priority.
func TestPrioritiesInTheEngine(t *testing.T) {
	t.Parallel()
	p99 := func(others int, priority Priority) (worst time.Duration, scored int64) {
		synctest.Test(t, func(t *testing.T) {
			e := fakeEngine(fakeSettings(), perToken())
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for client := range others {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(9, uint64(client)))
					for ctx.Err() == nil {
						if _, err := e.ScoreWith(ctx, fakePairs(r, 20, 0), ScoreOptions{Priority: priority}); err != nil && ctx.Err() == nil {
							t.Error(err)
						}
					}
				})
			}
			r := rand.New(rand.NewPCG(9, 100))
			var took []time.Duration
			for range 200 {
				time.Sleep(time.Millisecond)
				start := time.Now()
				scorePairs(t, e, fakePairs(r, 20, 0))
				took = append(took, time.Since(start))
			}
			cancel()
			wg.Wait()
			slices.Sort(took)
			worst, scored = took[len(took)*99/100], e.Stats().Pairs-200*20
			if n := e.Stats().BatchPriority; (n > 0) != (priority == PriorityBatch) {
				t.Errorf("%d requests of batch priority", n)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		return worst, scored
	}
	alone, _ := p99(0, "")
	same, _ := p99(8, PriorityInteractive)
	batch, scored := p99(8, PriorityBatch)
	t.Logf("P99 alone %v, with 8 clients %v, of batch priority %v, which scored %d pairs", alone, same, batch, scored)
	if batch >= 2*alone || same < 3*alone || scored < 500 {
		t.Error("not as wanted")
	}
}

// Requests of batch priority leave room in the queue to interactive ones.
func TestBatchPriorityLeavesRoom(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	s.capacity = 8 * fakeMaxLength
	bubble(t, s, perToken(), func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		defer wg.Wait()
		send := func(n int, priority Priority) error {
			ended := make(chan error, 1)
			wg.Go(func() {
				_, err := e.ScoreWith(context.Background(), unlike(n), ScoreOptions{Priority: priority})
				ended <- err
			})
			synctest.Wait()
			select {
			case err := <-ended:
				return err
			default:
				return nil // it waits
			}
		}
		if err := send(4, PriorityBatch); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
		for range 4 {
			if err := send(4, PriorityBatch); errors.Is(err, ErrOverloaded) {
				if err := send(1, PriorityInteractive); err != nil {
					t.Errorf("an interactive request: %v", err)
				}
				return
			}
		}
		t.Error("no request of batch priority was refused")
	})
}

func TestWrongPriority(t *testing.T) {
	t.Parallel()
	if err := (ScoreOptions{Priority: "high"}).check(); err == nil || !strings.Contains(err.Error(), "interactive") {
		t.Error(err)
	}
}
