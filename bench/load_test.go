package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/engine"
)

// after answers requests of 8 pairs after a delay.
func after(d time.Duration) do {
	return func(ctx context.Context, _ int) (results.Request, error) {
		select {
		case <-time.After(d):
			return results.Request{Pairs: 8, Tokens: 80, ComputedTokens: 100}, nil
		case <-ctx.Done():
			return results.Request{}, ctx.Err()
		}
	}
}

func TestClosedLoop(t *testing.T) {
	var underWay, most, sent atomic.Int64
	inner := after(time.Millisecond)
	l := load{settings: experiment.Settings{Concurrency: 5, Requests: 103}, do: func(ctx context.Context, i int) (results.Request, error) {
		now := underWay.Add(1)
		defer underWay.Add(-1)
		for {
			seen := most.Load()
			if now <= seen || most.CompareAndSwap(seen, now) {
				break
			}
		}
		sent.Add(int64(i))
		return inner(ctx, i)
	}}
	if err := l.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(l.requests) != 103 || l.pairs != 8*103 || sent.Load() != 102*103/2 {
		t.Errorf("%d requests of %d pairs, sum of numbers %d", len(l.requests), l.pairs, sent.Load())
	}
	if most.Load() != 5 {
		t.Errorf("%d under way at once, want 5", most.Load())
	}
	for _, r := range l.requests {
		if r.LatencyMS < 1 || r.StartMS < 0 || r.LateMS < 0 || r.LateMS > r.LatencyMS {
			t.Errorf("%+v", r)
		}
	}
	if n, pairs, p50, p95 := l.soFar(); n != 103 || pairs != 824 || p50 < 1 || p95 < p50 {
		t.Errorf("so far %d, %d, %v, %v", n, pairs, p50, p95)
	}
}

func TestFixedDuration(t *testing.T) {
	l := load{settings: experiment.Settings{Concurrency: 2, Duration: experiment.Time(50 * time.Millisecond)}, do: after(5 * time.Millisecond)}
	began := time.Now()
	if err := l.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	for _, r := range l.requests {
		if r.StartMS >= 50 {
			t.Errorf("a request began at %v ms", r.StartMS)
		}
	}
}

// An open loop keeps its schedule while the engine stalls. Every request that the
// stall delays has it in its latency.
func TestOpenLoop(t *testing.T) {
	const stall = 100 * time.Millisecond
	stalled := make(chan struct{})
	time.AfterFunc(stall, func() { close(stalled) })
	l := load{settings: experiment.Settings{Rate: 1000, Requests: 200, Seed: 1}, do: func(context.Context, int) (results.Request, error) {
		<-stalled
		return results.Request{Pairs: 1}, nil
	}}
	if err := l.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	early := 0
	for _, r := range l.requests {
		if left := 100 - r.StartMS; left > 0 {
			early++
			if r.LatencyMS < left-2 {
				t.Errorf("meant to start at %v ms, latency %v ms", r.StartMS, r.LatencyMS)
			}
		}
	}
	if early < 60 || early > 140 {
		t.Errorf("%d requests in the first 100 ms, want about 100", early)
	}
	meant := func(seed uint64) (at []float64) {
		l := load{settings: experiment.Settings{Rate: 5000, Requests: 400, Seed: seed}, do: after(0)}
		if err := l.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		starts := map[float64]bool{}
		for _, r := range l.requests {
			starts[math.Round(r.StartMS*1000)] = true
		}
		for s := range starts {
			at = append(at, s)
		}
		return at
	}
	first, again, other := meant(7), meant(7), meant(8)
	if shared(first, again) < 390 || shared(first, other) > 100 {
		t.Errorf("the schedule does not follow its seed: %d and %d shared", shared(first, again), shared(first, other))
	}
}

func shared(a, b []float64) (n int) {
	in := map[float64]bool{}
	for _, x := range a {
		in[x] = true
	}
	for _, x := range b {
		if in[x] {
			n++
		}
	}
	return n
}

func TestPoisson(t *testing.T) {
	// The deviation of a Poisson process's gaps equals their mean.
	l := load{settings: experiment.Settings{Rate: 20000, Requests: 2000, Seed: 3}, do: after(0)}
	if err := l.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := 0.0
	for _, r := range l.requests {
		last = max(last, r.StartMS)
	}
	if want := 2000 / 20000.0 * 1000; last < 0.9*want || last > 1.1*want {
		t.Errorf("2,000 requests at 20,000 a second are meant to take %v ms", last)
	}
}

func TestRefusals(t *testing.T) {
	l := load{settings: experiment.Settings{Concurrency: 1, Requests: 10}, do: func(_ context.Context, i int) (results.Request, error) {
		if i%2 == 0 {
			return results.Request{}, fmt.Errorf("full: %w", engine.ErrOverloaded)
		}
		return results.Request{Pairs: 1}, nil
	}}
	if err := l.run(t.Context()); err != nil || l.refused != 5 || len(l.requests) != 5 {
		t.Errorf("%v, %d refused, %d answered", err, l.refused, len(l.requests))
	}
	l = load{settings: experiment.Settings{Concurrency: 1, Requests: 10}, do: func(context.Context, int) (results.Request, error) {
		return results.Request{}, engine.ErrOverloaded
	}}
	if err := l.run(t.Context()); !errors.Is(err, engine.ErrOverloaded) {
		t.Errorf("%v, want that none was answered", err)
	}
}

func TestFailureEndsTheLoad(t *testing.T) {
	broken := errors.New("broken")
	for _, s := range []experiment.Settings{{Concurrency: 3, Requests: 1000}, {Rate: 500, Requests: 1000}} {
		l := load{settings: s, do: func(ctx context.Context, i int) (results.Request, error) {
			if i == 5 {
				return results.Request{}, broken
			}
			return after(time.Millisecond)(ctx, i)
		}}
		if err := l.run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		if len(l.requests) > 100 {
			t.Errorf("%d requests after the failure", len(l.requests))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		l = load{settings: s, do: after(time.Millisecond)}
		if err := l.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the context's error", err)
		}
		cancel()
	}
}
