package engine

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/mlx"
)

// A pair without a finite logit fails alone: its neighbours in the batch, of the same
// caller and of others, get their scores, and the device stays in use.
func TestPairWithoutFiniteLogitFailsAlone(t *testing.T) {
	t.Parallel()
	const bad = 100_000
	b := newTimedBackend(time.Millisecond)
	b.bad = func(id int32) bool { return id == bad }
	s := fakeSettings()
	s.batching.BatchTimeout = 10 * time.Millisecond // the callers share a batch
	bubble(t, s, b, func(t *testing.T, e *Engine) {
		good := somePairs(5)
		poisoned := append(somePairs(3), Pair{fakeText(0, bad, 1), fakeText(0, 7, 3)})
		for range 3 { // two failures of a device would make it unhealthy
			var wg sync.WaitGroup
			wg.Go(func() { checkFakeScores(t, good, scorePairs(t, e, good)) })
			wg.Go(func() {
				_, err := e.Score(context.Background(), poisoned)
				if !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "pair 3 of the request") || strings.Contains(err.Error(), "pair 0") || !strings.Contains(err.Error(), "--dtype float32") {
					t.Errorf("got %v, want ErrNotFinite, the pair and what to do", err)
				}
			})
			wg.Wait()
		}
		if _, err := e.Score(context.Background(), poisoned[3:]); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "pair 0 of the request") {
			t.Errorf("alone: got %v, want ErrNotFinite", err)
		}
		if err := e.Healthy(context.Background()); err != nil {
			t.Error(err)
		}
		if s := e.Stats(); s.Reopened != 0 || s.Unhealthy != nil {
			t.Errorf("reopened %d times, %v: a pair is no failure of the device", s.Reopened, s.Unhealthy)
		}
	})
}

// The warning about several pairs has their number, and each text once. In float32 the
// advice is not to use float32.
func TestWarningAboutPairsWithoutFiniteLogits(t *testing.T) {
	t.Parallel()
	const bad = 100_000
	for _, dtype := range []DType{Float32, Float16} {
		b := newTimedBackend(time.Millisecond)
		b.bad = func(id int32) bool { return id == bad }
		s := fakeSettings()
		var log bytes.Buffer
		s.log = zerolog.New(&log).Level(zerolog.WarnLevel)
		s.costs.DType = string(dtype)
		pairs := somePairs(3)
		for i := range 3 {
			pairs = append(pairs, Pair{fakeText(0, bad, 1), fakeText(0, 7, 3+i)})
		}
		bubble(t, s, b, func(t *testing.T, e *Engine) {
			_, err := e.Score(context.Background(), pairs)
			if !errors.Is(err, ErrNotFinite) || strings.Contains(err.Error(), "float32") != (dtype != Float32) || !strings.Contains(err.Error(), "the model's weights") {
				t.Errorf("%s: %v", dtype, err)
			}
		})
		if text := log.String(); strings.Count(text, "is nan") != 1 || strings.Contains(text, "of pair 0") || !strings.Contains(text, `"failed":3`) {
			t.Errorf("%s: logged\n%s", dtype, text)
		}
	}
}

// A device without any finite logit has failed: its session is reopened.
func TestNotFiniteIsAFailure(t *testing.T) {
	t.Parallel()
	bad := true
	first := failing(&bad, func() error {
		return &mlx.NativeError{Call: "collect", Status: 7, Text: "logit 0 of pair 2 is nan"}
	})
	bubble(t, reopening(func() (backend, error) { return newTimedBackend(time.Millisecond), nil }), first, func(t *testing.T, e *Engine) {
		if _, err := e.Score(context.Background(), somePairs(3)); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "pair 2 is nan") || !strings.Contains(err.Error(), "--dtype float32") {
			t.Errorf("got %v, want ErrNotFinite and what to do", err)
		}
		checkFakeScores(t, somePairs(4), scorePairs(t, e, somePairs(4)))
		if s := e.Stats(); s.Reopened != 1 {
			t.Errorf("reopened %d times, want once", s.Reopened)
		}
	})
}

// A device that fails otherwise while a pair is computed alone is reopened, and answers
// all callers.
func TestDeviceFailsWhilePairsAreComputedAlone(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Millisecond)
	b.bad = func(int32) bool { return true }
	b.finish = func(n int) error {
		if n == 3 {
			return errDevice
		}
		return nil
	}
	bubble(t, reopening(func() (backend, error) { return newTimedBackend(time.Millisecond), nil }), b, func(t *testing.T, e *Engine) {
		if _, err := e.Score(context.Background(), somePairs(5)); !errors.Is(err, errDevice) {
			t.Errorf("got %v, want the device's error", err)
		}
		checkFakeScores(t, somePairs(4), scorePairs(t, e, somePairs(4)))
		if s := e.Stats(); s.Reopened != 1 {
			t.Errorf("reopened %d times, want once", s.Reopened)
		}
	})
}

// The watchdog ends a pair that is computed alone and never comes back.
func TestPairAloneThatHangs(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Millisecond)
	batches := 0
	b.bad = func(int32) bool { return true }
	b.takes = func(mlx.Batch) time.Duration {
		if batches++; batches == 2 {
			return time.Hour - 10*time.Minute
		}
		return time.Millisecond
	}
	bubble(t, reopening(func() (backend, error) { return newTimedBackend(time.Millisecond), nil }), b, func(t *testing.T, e *Engine) {
		start := time.Now()
		_, err := e.Score(context.Background(), somePairs(5))
		if took := time.Since(start); !errors.Is(err, ErrUnhealthy) || took > 11*time.Minute {
			t.Errorf("got %v after %v, want ErrUnhealthy", err, took)
		}
		time.Sleep(time.Hour)
		if err := e.Healthy(context.Background()); err != nil {
			t.Errorf("once the pair has come back, a probe got %v", err)
		}
		checkFakeScores(t, somePairs(4), scorePairs(t, e, somePairs(4)))
	})
}
