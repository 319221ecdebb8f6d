package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// hanging returns a backend whose nth batch takes so long, and all others 70 ms.
func hanging(nth int, long time.Duration) *fakeBackend {
	n := 0
	return &fakeBackend{takes: func(mlx.Batch) time.Duration {
		if n++; n == nth {
			return long
		}
		return 70 * time.Millisecond
	}}
}

// watched runs f in a bubble, with an engine whose costs were measured before. f
// closes it.
func watched(t *testing.T, b *fakeBackend, reopened *fakeBackend, f func(t *testing.T, e *Engine)) {
	t.Helper()
	s := reopening(func() (backend, error) { return reopened, nil })
	s.batching.Known = true
	synctest.Test(t, func(t *testing.T) { f(t, fakeEngine(s, b)) })
}

func checkHung(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrUnhealthy) || !strings.Contains(err.Error(), "the device hangs") || !strings.Contains(err.Error(), "--device cpu or MLXRANK_DEVICE=cpu") {
		t.Errorf("%s: %v, want ErrUnhealthy that says what to do", what, err)
	}
}

func sleep(t *testing.T, d time.Duration) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
}

// The callers of a batch that hangs, and those that wait behind it, are answered
// after ten seconds. Then all calls fail at once, until the batch has returned and a
// probe works on a new session.
func TestHungBatch(t *testing.T) {
	t.Parallel()
	first, second := hanging(2, time.Hour), newTimedBackend(time.Millisecond)
	watched(t, first, second, func(t *testing.T, e *Engine) {
		scorePairs(t, e, somePairs(8))
		start := time.Now()
		errs := make(chan error, 5)
		for i := range 5 {
			go func() {
				_, err := e.Score(context.Background(), somePairs(10+i))
				errs <- err
			}()
		}
		for range 5 {
			checkHung(t, "Score", <-errs)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("answered after %v, want 10 s", took)
		}
		_, err := e.Score(context.Background(), somePairs(3))
		checkHung(t, "Score afterwards", err)
		checkHung(t, "Healthy", e.Healthy(context.Background()))
		_, err = e.MeasureCosts(context.Background())
		checkHung(t, "MeasureCosts", err)
		checkHung(t, "Stats", errors.Join(ErrUnhealthy, e.Stats().Unhealthy))
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("the calls afterwards took %v", took-10*time.Second)
		}
		sleep(t, 2*time.Hour)
		if first.closings() != 0 {
			t.Error("the session is reopened before a probe asks for it")
		}
		if err := e.Healthy(context.Background()); err != nil {
			t.Errorf("Healthy after the batch has returned: %v", err)
		}
		checkFakeScores(t, somePairs(7), scorePairs(t, e, somePairs(7)))
		if s := e.Stats(); s.Unhealthy != nil || s.Reopened != 1 || first.closings() != 1 {
			t.Errorf("unhealthy %v, reopened %d times, closed %d times", s.Unhealthy, s.Reopened, first.closings())
		}
		if err := e.Close(); err != nil || second.closings() != 1 {
			t.Errorf("Close: %v, the second session is closed %d times", err, second.closings())
		}
	})
}

// Close does not wait for a batch that hangs, and frees the session once it returns.
func TestCloseWhileHung(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]time.Duration{"before it is noticed": time.Second, "afterwards": time.Minute} {
		t.Run(name, func(t *testing.T) {
			b := hanging(1, time.Hour)
			watched(t, b, nil, func(t *testing.T, e *Engine) {
				errs := make(chan error, 1)
				go func() {
					_, err := e.Score(context.Background(), somePairs(3))
					errs <- err
				}()
				sleep(t, before)
				start := time.Now()
				checkHung(t, "Close", errors.Join(ErrUnhealthy, e.Close()))
				if took := time.Since(start); took > 9*time.Second {
					t.Errorf("Close took %v", took)
				}
				checkHung(t, "Score", <-errs)
				if b.closings() != 0 {
					t.Error("the session is closed while a batch runs")
				}
				sleep(t, time.Hour)
				if b.closings() != 1 {
					t.Errorf("the session is closed %d times after the batch has returned", b.closings())
				}
			})
		})
	}
}

func TestHungProbeAndMeasurement(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*Engine) error{
		"Healthy":      func(e *Engine) error { return e.Healthy(context.Background()) },
		"MeasureCosts": func(e *Engine) error { _, err := e.MeasureCosts(context.Background()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, hanging(1, time.Hour), newTimedBackend(time.Millisecond), func(t *testing.T, e *Engine) {
				start := time.Now()
				checkHung(t, name, errors.Join(ErrUnhealthy, call(e)))
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("answered after %v, want 10 s", took)
				}
				sleep(t, time.Hour)
				if err := e.Healthy(context.Background()); err != nil {
					t.Error(err)
				}
				scorePairs(t, e, somePairs(3))
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A batch that is slow by its prediction does not hang, nor does a first one of which
// nothing is known.
func TestSlowBatchDoesNotHang(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		takes, microbatch time.Duration
		known, hangs      bool
	}{
		"under the least":            {9900 * time.Millisecond, time.Millisecond, true, false},
		"over the least":             {10100 * time.Millisecond, time.Millisecond, true, true},
		"under 20 times 2 s":         {39 * time.Second, 2 * time.Second, true, false},
		"over 20 times 2 s":          {41 * time.Second, 2 * time.Second, true, true},
		"under the first's patience": {9 * time.Minute, time.Millisecond, false, false},
		"over the first's patience":  {11 * time.Minute, time.Millisecond, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := reopening(func() (backend, error) { return newTimedBackend(time.Millisecond), nil })
			s.batching.Known = test.known
			s.batching.Costs.Microbatch, s.batching.Costs.Token = float64(test.microbatch), 0
			synctest.Test(t, func(t *testing.T) {
				e := fakeEngine(s, hanging(1, test.takes))
				_, err := e.Score(context.Background(), somePairs(3))
				if test.hangs {
					checkHung(t, "Score", err)
				} else if err != nil {
					t.Error(err)
				}
				sleep(t, time.Hour)
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
