package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// overload runs open-loop traffic with a deadline, in virtual time.
type overload struct {
	limit     time.Duration
	pairs     func(r *rand.Rand) []Pair
	hidden    bool // whether the engine does not see the deadline
	useful    int  // pairs answered before the deadline
	refused   int
	dropped   int
	missed    int // requests
	waited    time.Duration
	unneeded  int // pairs executed for no answer
	perSecond float64
}

// run offers pairs at the given rate for the given time.
func (o *overload) run(t *testing.T, s settings, b *fakeBackend, rate float64, during time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		e := fakeEngine(s, b)
		r := rand.New(rand.NewPCG(30, 2))
		var mu sync.Mutex
		var wg sync.WaitGroup
		start := time.Now()
		for time.Since(start) < during {
			pairs := o.pairs(r)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), o.limit)
				defer cancel()
				from := time.Now()
				if o.hidden {
					ctx = withoutDeadline{ctx}
				}
				_, err := e.Score(ctx, pairs)
				mu.Lock()
				defer mu.Unlock()
				o.waited = max(o.waited, time.Since(from))
				switch {
				case err == nil:
					o.useful += len(pairs)
				case errors.Is(err, context.DeadlineExceeded):
					o.missed++
				case errors.Is(err, ErrOverloaded):
					o.refused++
				default:
					t.Error(err)
				}
			})
			time.Sleep(time.Duration(r.ExpFloat64() * float64(len(pairs)) / rate * float64(time.Second)))
		}
		wg.Wait()
		o.perSecond = float64(o.useful) / time.Since(start).Seconds()
		stats := e.Stats()
		o.unneeded = int(stats.Pairs) - o.useful
		o.dropped = int(stats.Dropped)
		o.refused -= o.dropped
		if stats.Late != int64(o.refused) || stats.Overloaded != 0 {
			t.Errorf("the statistics count %d requests refused for time and %d for room, want %d and 0", stats.Late, stats.Overloaded, o.refused)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// withoutDeadline is a context that does not report its deadline.
type withoutDeadline struct{ context.Context }

func (withoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

// capacity returns the pairs per second that the backend executes if it always
// has enough work.
func (o overload) capacity(t *testing.T, s settings, b *fakeBackend) (pairs float64) {
	synctest.Test(t, func(t *testing.T) {
		e := fakeEngine(s, b)
		r := rand.New(rand.NewPCG(30, 3))
		var all []Pair
		for len(all) < 3000 {
			all = append(all, o.pairs(r)...)
		}
		start := time.Now()
		scorePairs(t, e, all)
		pairs = float64(len(all)) / time.Since(start).Seconds()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return pairs
}

// TestOverload offers four times the device's capacity. The pairs answered in time
// must be nine tenths of the capacity, hardly any other pair may execute, and no
// caller may wait past the deadline.
func TestOverload(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	sized := func(most int) func(*rand.Rand) []Pair {
		return func(r *rand.Rand) []Pair { return fakePairs(r, 1+r.IntN(most), 0) }
	}
	fast := func(b mlx.Batch) time.Duration {
		return 100*time.Microsecond + 10*time.Microsecond*time.Duration(len(b.IDs))
	}
	slow := func(b mlx.Batch) time.Duration { return 20 * fast(b) }
	packed := func(s *settings) { s.batching.Layout.Unpadded = true }
	for name, test := range map[string]struct {
		takes   func(mlx.Batch) time.Duration
		limit   time.Duration
		pairs   func(*rand.Rand) []Pair
		change  func(*settings)
		control bool // negative control: the engine does not see the deadlines
	}{
		"as assumed":               {takes: fast, limit: 300 * time.Millisecond, pairs: sized(20)},
		"slower than assumed":      {takes: slow, limit: 2 * time.Second, pairs: sized(20)},
		"faster than assumed":      {takes: func(b mlx.Batch) time.Duration { return fast(b) / 20 }, limit: 15 * time.Millisecond, pairs: sized(20)},
		"single pairs":             {takes: slow, limit: time.Second, pairs: sized(1)},
		"large requests":           {takes: slow, limit: 15 * time.Second, pairs: sized(600), change: packed},
		"small and large requests": {takes: slow, limit: 8 * time.Second, pairs: func(r *rand.Rand) []Pair { return sized([]int{1, 1, 1, 5, 500}[r.IntN(5)])(r) }},
		"batch timeout":            {takes: slow, limit: 2 * time.Second, pairs: sized(20), change: func(s *settings) { s.batching.BatchTimeout = 200 * time.Millisecond }},
		"without padding":          {takes: slow, limit: 2 * time.Second, pairs: sized(20), change: packed},
		"in order of arrival":      {takes: slow, limit: 2 * time.Second, pairs: sized(20), change: func(s *settings) { s.batching.InOrder = true }},
		"changing speed":           {takes: changing(slow), limit: 2 * time.Second, pairs: sized(20), change: packed},
		"without any forecast":     {takes: slow, limit: 2 * time.Second, pairs: sized(20), control: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := fakeSettings()
			s.capacity = 1 << 30
			if test.change != nil {
				test.change(&s)
			}
			o := overload{limit: test.limit, pairs: test.pairs, hidden: test.control}
			capacity := o.capacity(t, s, &fakeBackend{takes: test.takes})
			o.run(t, s, &fakeBackend{takes: test.takes}, 4*capacity, 8*test.limit)
			t.Logf("%.1f of %.1f pairs/s useful, %d requests refused, %d dropped, %d missed; %d pairs executed for no answer, longest wait %v",
				o.perSecond, capacity, o.refused, o.dropped, o.missed, o.unneeded, o.waited)
			good := o.perSecond >= 0.9*capacity && float64(o.unneeded) < 0.05*float64(o.useful)
			if good == test.control || o.waited > o.limit {
				t.Error("not as wanted")
			}
		})
	}
}

// changing returns the times of a device whose speed changes by a quarter every
// two seconds.
func changing(takes func(mlx.Batch) time.Duration) func(mlx.Batch) time.Duration {
	var busy time.Duration
	return func(b mlx.Batch) time.Duration {
		d := takes(b)
		if int(busy.Seconds()/2)%2 == 1 {
			d = d * 5 / 4
		}
		busy += d
		return d
	}
}

// A request that cannot meet its deadline even alone is refused at once, and the
// error has the number of pairs that would fit. Before any measurement it is
// admitted, and dropped after the first batch.
func TestNeverInTime(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{takes: func(b mlx.Batch) time.Duration { return time.Millisecond * time.Duration(len(b.IDs)) }}
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		pairs := make([]Pair, 1000)
		for i := range pairs {
			pairs[i] = Pair{fakeText(0, 1, 2), fakeText(0, 100+i, 27)} // 32 tokens
		}
		for _, within := range []time.Duration{2 * time.Second, 0} {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			start := time.Now()
			_, err := e.Score(ctx, pairs)
			cancel()
			if !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrOverloaded) || !strings.Contains(err.Error(), "of them fit") || time.Since(start) > within {
				t.Errorf("after %v: %v, want ErrTooLarge within %v", time.Since(start), err, within)
			}
			t.Log(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		time.Sleep(2 * time.Second) // until the running batches finish
		if _, err := e.Score(ctx, pairs[:500]); err != nil {
			t.Errorf("500 pairs: %v", err)
		}
		if _, err := e.Score(context.Background(), pairs); err != nil {
			t.Errorf("without a deadline: %v", err)
		}
	})
}

// A document scored in passages is refused before all of it is tokenised.
func TestNeverInTimeOfPassages(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{takes: func(b mlx.Batch) time.Duration { return time.Millisecond * time.Duration(len(b.IDs)) }}
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		for range 2 + 4 {
			scorePairs(t, e, somePairs(10))
		}
		long := fakeText(0, 1, 100000)
		for limit, refused := range map[time.Duration]bool{10 * time.Second: true, time.Hour: false} {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			err := e.pipeline.checkPassages(ctx, []Pair{{"0s 7", "0s 5"}, {"0s 7", long}}, 0)
			cancel()
			if errors.Is(err, ErrTooLarge) != refused || !refused && err != nil {
				t.Errorf("within %v: %v", limit, err)
			}
		}
		if err := e.pipeline.checkPassages(context.Background(), []Pair{{"0s 7", long}}, 0); err != nil {
			t.Errorf("without a deadline: %v", err)
		}
	})
}

// TestRetryAfter checks that a refused request is admitted after the RetryAfter of
// its error.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{takes: func(b mlx.Batch) time.Duration { return time.Millisecond * time.Duration(len(b.IDs)) }}
	s := fakeSettings()
	s.batching.Layout.Unpadded = true
	bubble(t, s, b, func(t *testing.T, e *Engine) {
		for range 2 + 4 { // small batches, which tokenisation in chunks may make, teach nothing
			scorePairs(t, e, somePairs(60))
		}
		var wg sync.WaitGroup
		for range 60 { // about 20 s of work, and due before a request with a deadline after 10 s
			wg.Go(func() { scorePairs(t, e, somePairs(8)) })
		}
		time.Sleep(time.Millisecond)
		ask := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 12*time.Second)
			defer cancel()
			_, err := e.Score(ctx, somePairs(16))
			return err
		}
		var refused *OverloadedError
		if err := ask(); !errors.As(err, &refused) || !errors.Is(err, ErrOverloaded) || refused.RetryAfter <= 0 {
			t.Fatalf("%v, want an OverloadedError", err)
		}
		time.Sleep(refused.RetryAfter)
		if err := ask(); err != nil {
			t.Errorf("after %v: %v", refused.RetryAfter, err)
		}
		wg.Wait()
	})
}

// Loading an unloaded session counts as a wait once it has begun. The request that
// begins it is not refused, since otherwise the session would never be loaded.
func TestForecastWhileLoading(t *testing.T) {
	t.Parallel()
	s := idling(func() (backend, error) {
		time.Sleep(10 * time.Second)
		return newTimedBackend(10 * time.Millisecond), nil
	})
	s.batching.LoadTime = 10 * time.Second
	bubble(t, s, newTimedBackend(10*time.Millisecond), func(t *testing.T, e *Engine) {
		for range 5 {
			scorePairs(t, e, somePairs(4))
		}
		time.Sleep(2 * time.Minute)
		ask := func(limit time.Duration) error {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			_, err := e.Score(ctx, somePairs(4))
			return err
		}
		if err := ask(time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline exceeded", err)
		}
		if err := ask(5 * time.Second); !errors.Is(err, ErrOverloaded) {
			t.Errorf("%v, want ErrOverloaded", err)
		}
		if err := ask(20 * time.Second); err != nil {
			t.Error(err)
		}
	})
}

// One slow batch does not make the engine refuse requests forever.
func TestForecastForgetsASlowBatch(t *testing.T) {
	t.Parallel()
	n := 0
	b := &fakeBackend{takes: func(mlx.Batch) time.Duration {
		if n++; n == 6 {
			return 9 * time.Second
		}
		return 10 * time.Millisecond
	}}
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		for range 6 {
			scorePairs(t, e, somePairs(4))
		}
		time.Sleep(5 * time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if _, err := e.Score(ctx, somePairs(4)); err != nil {
			t.Error(err)
		}
	})
}
