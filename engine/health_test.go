package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
)

var errDevice = errors.New("the device has gone")

// reopening returns settings whose sessions after the first come from next.
func reopening(next func() (backend, error)) settings {
	s := fakeSettings()
	s.reopen = next
	return s
}

// failing returns a backend whose batches fail while *yes is true.
func failing(yes *bool, how func() error) *fakeBackend {
	b := newTimedBackend(time.Millisecond)
	b.finish = func(int) error {
		if *yes {
			return how()
		}
		return nil
	}
	return b
}

func TestSessionIsReopenedOnce(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func() error{
		"error": func() error { return errDevice },
		"panic": func() error { panic(errDevice) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := true
			first, second := failing(&bad, how), newTimedBackend(time.Millisecond)
			s := reopening(func() (backend, error) { bad = false; return second, nil })
			bubble(t, s, first, func(t *testing.T, e *Engine) {
				_, err := e.Score(context.Background(), somePairs(3))
				if err == nil || !strings.Contains(err.Error(), "a batch of 3 pairs failed") || !strings.Contains(err.Error(), errDevice.Error()) {
					t.Errorf("got %v", err)
				}
				checkFakeScores(t, somePairs(4), scorePairs(t, e, somePairs(4)))
				if s := e.Stats(); first.closed != 1 || s.Reopened != 1 || s.Failed != 1 || s.Unhealthy != nil {
					t.Errorf("closed %d times, %d reopened, %d failed, %v", first.closed, s.Reopened, s.Failed, s.Unhealthy)
				}
				if err := e.Healthy(context.Background()); err != nil {
					t.Error(err)
				}
			})
			if second.closed != 1 {
				t.Error("the second session is not closed")
			}
		})
	}
}

func TestSubmitFails(t *testing.T) {
	t.Parallel()
	first, second := newTimedBackend(time.Millisecond), newTimedBackend(time.Millisecond)
	first.submit = func(n int) error {
		if n == 2 {
			return errDevice
		}
		return nil
	}
	bubble(t, reopening(func() (backend, error) { return second, nil }), first, func(t *testing.T, e *Engine) {
		scorePairs(t, e, somePairs(3))
		if _, err := e.Score(context.Background(), somePairs(3)); !errors.Is(err, errDevice) {
			t.Errorf("got %v", err)
		}
		scorePairs(t, e, somePairs(3))
	})
}

// A request refused for its contents does not indicate a failing device.
func TestRefusedBatchIsNoFault(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Millisecond)
	b.submit = func(n int) error {
		if n == 1 {
			return &mlx.NativeError{Call: "submit", Status: 1, Text: "ids[0] is -1"}
		}
		return nil
	}
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		if _, err := e.Score(context.Background(), somePairs(3)); !errors.Is(err, mlx.ErrInvalid) {
			t.Errorf("got %v", err)
		}
		scorePairs(t, e, somePairs(3))
		if e.Stats().Reopened != 0 {
			t.Error("the session was reopened")
		}
	})
}

func TestRepeatedFailureIsUnhealthyUntilItWorks(t *testing.T) {
	t.Parallel()
	bad, opened := true, 0
	fault := func() error { return errDevice }
	s := reopening(func() (backend, error) { opened++; return failing(&bad, fault), nil })
	bubble(t, s, failing(&bad, fault), func(t *testing.T, e *Engine) {
		for range 2 {
			if _, err := e.Score(context.Background(), somePairs(3)); !errors.Is(err, errDevice) {
				t.Errorf("got %v", err)
			}
		}
		_, err := e.Score(context.Background(), somePairs(3))
		if !errors.Is(err, ErrUnhealthy) || !errors.Is(err, errDevice) {
			t.Errorf("got %v, want ErrUnhealthy with its cause", err)
		}
		if _, err := e.MeasureCosts(context.Background()); !errors.Is(err, ErrUnhealthy) {
			t.Errorf("MeasureCosts: %v", err)
		}
		if _, err := e.Tokenize(context.Background(), somePairs(3)); err != nil {
			t.Errorf("Tokenize failed although it needs no device: %v", err)
		}
		if opened != 1 || e.Stats().Unhealthy == nil {
			t.Errorf("opened %d times, %v", opened, e.Stats().Unhealthy)
		}
		if err := e.Healthy(context.Background()); !errors.Is(err, errDevice) {
			t.Errorf("Healthy: %v", err)
		}
		bad = false
		if err := e.Healthy(context.Background()); err != nil {
			t.Errorf("Healthy on a device that works again: %v", err)
		}
		scorePairs(t, e, somePairs(3))
		if s := e.Stats(); s.Unhealthy != nil || opened != 3 || s.Pairs != 3 || s.Requests != 1 {
			t.Errorf("%v, opened %d times, %d pairs, %d requests", s.Unhealthy, opened, s.Pairs, s.Requests)
		}
	})
}

// If the session cannot be reopened, all waiting callers get an error.
func TestReopeningFails(t *testing.T) {
	t.Parallel()
	bad := true
	first := failing(&bad, func() error { return errDevice })
	gone := errors.New("no such file")
	bubble(t, reopening(func() (backend, error) { return nil, gone }), first, func(t *testing.T, e *Engine) {
		errs := make(chan error, 20)
		for i := range 20 {
			go func() {
				time.Sleep(time.Duration(i) * 100 * time.Microsecond)
				errs <- errorOnly(e.Score(context.Background(), somePairs(10)))
			}()
		}
		for range 20 {
			if err := <-errs; !errors.Is(err, errDevice) {
				t.Errorf("got %v", err)
			}
		}
		if err := e.Healthy(context.Background()); !errors.Is(err, gone) || !errors.Is(err, ErrUnhealthy) {
			t.Errorf("Healthy: %v", err)
		}
	})
}

// A probe runs before all waiting work, and Healthy returns its error.
func TestHealthyGoesFirst(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Second)
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			scorePairs(t, e, somePairs(160))
		}()
		time.Sleep(time.Millisecond)
		start := time.Now()
		if err := e.Healthy(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("Healthy took %v, including 2 s for two batches in flight", took)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := e.Healthy(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-done
	})
}

// After a panic in the planner, waiting requests get an error and the engine
// continues.
func TestPanicWhilePlanning(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	bubble(t, s, newTimedBackend(time.Millisecond), func(t *testing.T, e *Engine) {
		planner := &panicking{e.pipeline.events, true}
		e.pipeline.mu.Lock()
		e.pipeline.events = planner
		e.pipeline.mu.Unlock()
		if _, err := e.Score(context.Background(), somePairs(3)); err == nil || !strings.Contains(err.Error(), "panic while planning") {
			t.Errorf("got %v", err)
		}
		e.pipeline.mu.Lock()
		planner.now = false
		e.pipeline.mu.Unlock()
		scorePairs(t, e, somePairs(3))
	})
}

// panicking is a schedule that panics in Next.
type panicking struct {
	events
	now bool
}

func (p *panicking) Next(at time.Time, closing bool) (*schedule.Batch, time.Duration) {
	if p.now {
		panic("planner")
	}
	return p.events.Next(at, closing)
}
