package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// idling returns settings that unload after a minute; sessions after the first
// come from next.
func idling(next func() (backend, error)) settings {
	s := reopening(next)
	s.idle = time.Minute
	return s
}

func TestIdleSessionIsUnloadedAndLoadedAgain(t *testing.T) {
	t.Parallel()
	first, second := newTimedBackend(time.Millisecond), newTimedBackend(time.Millisecond)
	trims := 0
	s := idling(func() (backend, error) { time.Sleep(time.Second); return second, nil })
	s.trim = func() error { trims++; return nil }
	bubble(t, s, first, func(t *testing.T, e *Engine) {
		time.Sleep(59 * time.Second)
		scorePairs(t, e, somePairs(3)) // restarts the minute
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if s := e.Stats(); !s.Loaded || s.Unloads != 0 {
			t.Fatalf("unloaded in less than a minute: %+v", s)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := e.Stats(); s.Loaded || s.Unloads != 1 || first.closed != 1 || trims != 1 {
			t.Fatalf("not unloaded: loaded %v, %d unloads, closed %d times, %d trims", s.Loaded, s.Unloads, first.closed, trims)
		}
		if _, err := e.Tokenize(context.Background(), somePairs(2)); err != nil || e.Stats().Loaded {
			t.Fatalf("Tokenize failed although it needs no session: %v", err)
		}
		r := scorePairs(t, e, somePairs(4))
		checkFakeScores(t, somePairs(4), r)
		if r.Timings.QueueWait < 900*time.Millisecond {
			t.Errorf("waited %v for the session that took a second to load", r.Timings.QueueWait)
		}
		if s := e.Stats(); !s.Loaded || s.Reopened != 0 || s.Failed != 0 {
			t.Errorf("loaded %v, %d reopened, %d failed", s.Loaded, s.Reopened, s.Failed)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := e.Stats(); s.Unloads != 2 || second.closed != 1 {
			t.Errorf("%d unloads", s.Unloads)
		}
	})
}

func TestFailedLoadingIsRetried(t *testing.T) {
	t.Parallel()
	gone := true
	s := idling(func() (backend, error) {
		if gone {
			return nil, errors.New("the disk has gone")
		}
		return newTimedBackend(time.Millisecond), nil
	})
	bubble(t, s, newTimedBackend(time.Millisecond), func(t *testing.T, e *Engine) {
		time.Sleep(2 * time.Minute)
		if _, err := e.Score(context.Background(), somePairs(3)); err == nil || !strings.Contains(err.Error(), "loading the model again: the disk has gone") {
			t.Fatalf("got %v", err)
		}
		gone = false
		checkFakeScores(t, somePairs(3), scorePairs(t, e, somePairs(3)))
		if s := e.Stats(); s.Unhealthy != nil {
			t.Error(s.Unhealthy)
		}
	})
}

func TestEngineInUseIsNotUnloaded(t *testing.T) {
	t.Parallel()
	s := idling(func() (backend, error) { return nil, errors.New("not to be opened") })
	slow := newTimedBackend(5 * time.Minute)
	bubble(t, s, slow, func(t *testing.T, e *Engine) {
		checkFakeScores(t, somePairs(20), scorePairs(t, e, somePairs(20)))
		if s := e.Stats(); s.Unloads != 0 {
			t.Errorf("%d unloads", s.Unloads)
		}
	})
}

func TestCloseWhileUnloaded(t *testing.T) {
	t.Parallel()
	first := newTimedBackend(time.Millisecond)
	bubble(t, idling(nil), first, func(*testing.T, *Engine) { time.Sleep(2 * time.Minute) })
	if first.closed != 1 {
		t.Errorf("closed %d times", first.closed)
	}
}

// With MLX, unloading frees the model's memory. After loading again the scores are
// the same.
func TestUnloadingFreesTheModel(t *testing.T) {
	e := openTinyEngine(t, Config{IdleUnload: 100 * time.Millisecond})
	pairs := []Pair{{"a query", "a document"}, {"a query", "another"}}
	before := scorePairs(t, e, pairs)
	loaded, err := e.library.Memory()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for e.Stats().Loaded {
		if time.Now().After(deadline) {
			t.Fatal("not unloaded in a minute")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for { // the statistics change before the session is closed
		rest, err := e.library.Memory()
		if err != nil {
			t.Fatal(err)
		}
		if rest.Sessions < loaded.Sessions && rest.Active < loaded.Active {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("loaded %+v, unloaded %+v", loaded, rest)
		}
		time.Sleep(10 * time.Millisecond)
	}
	after := scorePairs(t, e, pairs)
	if !slices.Equal(before.Logits, after.Logits) {
		t.Errorf("logits %v, after loading again %v", before.Logits, after.Logits)
	}
	if err := e.Trim(); err != nil {
		t.Error(err)
	}
}

func TestMemoryLimit(t *testing.T) {
	plain := openTinyEngine(t, Config{})
	before, err := plain.Memory()
	if err != nil {
		t.Fatal(err)
	}
	limited := openTinyEngine(t, Config{MemoryLimit: before.Limit / 2, CacheLimit: 1 << 20})
	scorePairs(t, limited, []Pair{{"a query", "a document"}})
	after, err := limited.Memory()
	if err != nil {
		t.Fatal(err)
	}
	cache := int64(1 << 20)
	if testDevice() == mlx.GPU {
		// Metal compares the cache with its limit before it puts a buffer there, so one
		// buffer may be too much. None of this model is larger than a mebibyte.
		cache *= 2
	}
	if after.Limit != before.Limit/2 || after.Cache > cache {
		t.Errorf("limit %d, want %d; cache %d, want at most %d", after.Limit, before.Limit/2, after.Cache, cache)
	}
	if err := limited.library.SetLimits(32<<20, before.Limit); err != nil { // MLX's own on the CPU
		t.Error(err)
	}
	for _, cfg := range []Config{{MemoryLimit: -1}, {IdleUnload: -1}} {
		if err := cfg.check(); err == nil {
			t.Errorf("%+v is accepted, want an error", cfg)
		}
	}
}

func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg           Config
		gpus          int
		cache, memory int64
	}{
		{Config{}, 0, 8 << 20, -1},
		{Config{}, 1, 512 << 20, -1},
		{Config{Device: "auto"}, 1, 512 << 20, -1},
		{Config{Device: "cpu"}, 1, 8 << 20, -1},
		{Config{CacheLimit: -1}, 1, -1, -1},
		{Config{CacheLimit: 7, MemoryLimit: 9}, 0, 7, 9},
	} {
		if cache, memory := test.cfg.limits(test.gpus); cache != test.cache || memory != test.memory {
			t.Errorf("%+v with %d GPUs: %d and %d, want %d and %d", test.cfg, test.gpus, cache, memory, test.cache, test.memory)
		}
	}
}

func TestProgressIncreases(t *testing.T) {
	t.Parallel()
	bubble(t, fakeSettings(), newTimedBackend(10*time.Millisecond), func(t *testing.T, e *Engine) {
		last := 0
		opts := ScoreOptions{Progress: func(done, total int) {
			if total != 100 || done <= last || done >= total {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
		}}
		pairs := somePairs(100)
		r, err := e.ScoreWith(context.Background(), pairs, opts)
		if err != nil {
			t.Fatal(err)
		}
		checkFakeScores(t, pairs, r)
		if last < 50 { // a batch has 16 pairs
			t.Errorf("the last progress was %d pairs, want at least 50", last)
		}
	})
}

// Callers arrive and leave around the moment of unloading, while the device and
// loading sometimes fail. Every answer is correct or an error with the reason.
func TestUnloadingWithConcurrentCallers(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(seed, 3))
		below := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(n)
		}
		var opened []*fakeBackend
		next := func() *fakeBackend {
			b := newTimedBackend(time.Millisecond)
			b.finish = func(int) error {
				if below(200) == 0 {
					return errDevice
				}
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			opened = append(opened, b)
			return b
		}
		s := idling(func() (backend, error) {
			time.Sleep(time.Duration(below(5)) * time.Millisecond)
			if below(10) == 0 {
				return nil, errors.New("the disk has gone")
			}
			return next(), nil
		})
		s.idle = 5 * time.Millisecond
		var right, wrong atomic.Int64
		bubble(t, s, next(), func(t *testing.T, e *Engine) {
			var callers sync.WaitGroup
			for range 6 {
				callers.Go(func() {
					for range 40 {
						time.Sleep(time.Duration(below(30)) * time.Millisecond)
						pairs := somePairs(1 + below(20))
						r, err := e.Score(context.Background(), pairs)
						switch {
						case err == nil:
							checkFakeScores(t, pairs, r)
							right.Add(1)
						case errors.Is(err, ErrUnhealthy):
							if err := e.Healthy(context.Background()); err != nil && !errors.Is(err, ErrUnhealthy) && !strings.Contains(err.Error(), "gone") {
								t.Error(err)
							}
							wrong.Add(1)
						case strings.Contains(err.Error(), "gone"): // the device, or the disk
							wrong.Add(1)
						default:
							t.Error(err)
						}
					}
				})
			}
			callers.Wait()
			if n := e.Stats().Unloads; n < 3 {
				t.Errorf("%d unloads", n)
			}
		})
		if right.Load() < 150 || right.Load()+wrong.Load() != 240 {
			t.Errorf("seed %d: %d calls got correct logits, %d an error, of 240", seed, right.Load(), wrong.Load())
		}
		for i, b := range opened {
			if b.closed == 0 || len(b.running) > 0 {
				t.Errorf("seed %d: session %d of %d: closed %d times, %d batches running", seed, i, len(opened), b.closed, len(b.running))
			}
		}
	}
}

// A model is refused if any of its files changed while it was unloaded, since the
// tokenizer in memory would not fit. With the old files it loads again.
func TestUnloadedModelIsNotReplaced(t *testing.T) {
	dir := tinyDir(t, nil)
	e, err := Open(t.Context(), Config{Model: dir, Device: "cpu", IdleUnload: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	pairs := []Pair{{"a query", "a document"}}
	want := scorePairs(t, e, pairs)
	unloaded := func() {
		t.Helper()
		for start := time.Now(); e.Stats().Loaded; time.Sleep(5 * time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Fatal("not unloaded in a minute")
			}
		}
	}
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"} {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		unloaded()
		aside := path + ".aside"
		if err := errors.Join(os.Rename(path, aside), os.WriteFile(path, append(data, ' '), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Score(t.Context(), pairs); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with another %s: %v", name, err)
		}
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
		if r := scorePairs(t, e, pairs); !slices.Equal(r.Logits, want.Logits) {
			t.Errorf("with the same %s again: %v, want %v", name, r.Logits, want.Logits)
		}
	}
	// An added file is a change too.
	unloaded()
	if err := os.WriteFile(filepath.Join(dir, "added_tokens.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Score(t.Context(), pairs); err == nil || !strings.Contains(err.Error(), "added_tokens.json has changed") {
		t.Errorf("with one more file: %v", err)
	}
}
