package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A mapCache keeps everything.
type mapCache struct {
	mu     sync.Mutex
	values map[[32]byte]string
	lasts  bool
}

func (c *mapCache) Get(keys [][32]byte, values []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, key := range keys {
		values[i] = c.values[key]
	}
}

func (c *mapCache) Put(keys [][32]byte, values []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = make(map[[32]byte]string)
	}
	for i, key := range keys {
		c.values[key] = values[i]
	}
}

func (c *mapCache) Lasts() bool { return c.lasts }

func (c *mapCache) Usage() CacheUsage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheUsage{Entries: int64(len(c.values))}
}

func threeLabels(config map[string]any) {
	config["id2label"] = map[string]any{"0": "no", "1": "yes", "2": "perhaps"}
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// TestCacheIsExact compares what the cache returns with what an engine without a cache
// computes, in every number format. The fused graph gives a pair the same bits in every
// batch. On MLX's operations only the bits that were kept must come back.
func TestCacheIsExact(t *testing.T) {
	pairs := randomPairs(rand.New(rand.NewPCG(1, 9)), 60)
	pairs = append(pairs, Pair{"cat", strings.Repeat("red hill ", 300)}, pairs[0])
	for _, dtype := range []DType{Float32, Float16, BFloat16, Int8, Int8W, Int4W} {
		t.Run(string(dtype), func(t *testing.T) {
			if dtype != Float32 && testDevice() != mlx.CPU {
				t.Skip("the other runs have the number formats of a GPU")
			}
			if dtype == Int8 {
				skipWithoutInt8(t)
			}
			dir := tinyDir(t, threeLabels)
			plain := openTinyEngine(t, Config{Model: dir, DType: dtype, Label: "yes"})
			want, err := plain.ScoreWith(t.Context(), pairs, ScoreOptions{AllLabels: true})
			if err != nil {
				t.Fatal(err)
			}
			e := openTinyEngine(t, Config{Model: dir, DType: dtype, Label: "yes", Cache: &mapCache{}})
			half, err := e.ScoreWith(t.Context(), pairs[:30], ScoreOptions{AllLabels: true})
			if err != nil {
				t.Fatal(err)
			}
			first, err := e.ScoreWith(t.Context(), pairs, ScoreOptions{AllLabels: true})
			if err != nil {
				t.Fatal(err)
			}
			again, err := e.ScoreWith(t.Context(), pairs, ScoreOptions{AllLabels: true})
			if err != nil {
				t.Fatal(err)
			}
			if exact := plain.Info().Kernels != "MLX"; exact && !sameBits(want.Logits, first.Logits) {
				t.Errorf("logits differ from those without a cache")
			}
			if !sameBits(half.Logits, first.Logits[:30]) || !sameBits(first.Logits, again.Logits) || !sameBits(first.Scores, again.Scores) {
				t.Error("a hit is not the very logit")
			}
			if fmt.Sprint(first.ByLabel) != fmt.Sprint(again.ByLabel) {
				t.Error("logits by label differ")
			}
			distinct := want.Distinct
			if first.CacheHits != half.Distinct || first.CacheMisses != distinct-half.Distinct {
				t.Errorf("%d hits and %d misses of %d pairs, of which %d were known", first.CacheHits, first.CacheMisses, distinct, half.Distinct)
			}
			if again.CacheHits != distinct || again.CacheMisses != 0 || again.Batches != 0 || again.Tokens != 0 {
				t.Errorf("known pairs: %d hits, %d misses, %d batches, %d tokens executed", again.CacheHits, again.CacheMisses, again.Batches, again.Tokens)
			}
			if again.Truncated != want.Truncated || want.Truncated == 0 || again.CachedTokens != want.Tokens {
				t.Errorf("%d truncated and %d tokens from the cache, want %d and %d", again.Truncated, again.CachedTokens, want.Truncated, want.Tokens)
			}
			s := e.Stats()
			if s.Pairs != int64(distinct) || s.CacheMisses != int64(distinct) || s.CacheHits != int64(half.Distinct+distinct) || s.Requests != 3 || s.Cache.Entries != int64(distinct) {
				t.Errorf("stats count %d executed, %d misses, %d hits, %d requests, %d entries", s.Pairs, s.CacheMisses, s.CacheHits, s.Requests, s.Cache.Entries)
			}
			sum := again.Timings.Inference + again.Timings.Tokenization + again.Timings.QueueWait + again.Timings.Other
			if sum != again.Timings.Latency || again.Timings.Latency <= 0 {
				t.Errorf("stages do not add up: %+v", again.Timings)
			}
		})
	}
}

// TestCacheKeyHasEverything changes one thing at a time. What changes logits must miss;
// what does not must hit.
func TestCacheKeyHasEverything(t *testing.T) {
	cache := &mapCache{lasts: true}
	dir := tinyDir(t, threeLabels)
	base := Config{Model: dir, Label: "0", Cache: cache}
	pair := Pair{"the cat", "a dog runs over the red hill and sees no bird in june"}
	score := func(t *testing.T, cfg Config, pair Pair, opts ScoreOptions) *Result {
		t.Helper()
		result, err := openTinyEngine(t, cfg).ScoreWith(t.Context(), []Pair{pair}, opts)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	want := score(t, base, pair, ScoreOptions{})
	if want.CacheMisses != 1 {
		t.Fatalf("%d misses with an empty cache", want.CacheMisses)
	}
	changed := func(change func(*Config)) Config {
		cfg := base
		change(&cfg)
		return cfg
	}
	rewritten := func(change func(dir string)) Config {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		change(copied)
		return changed(func(c *Config) { c.Model = copied })
	}
	edit := func(name, before, after string) Config {
		return rewritten(func(dir string) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(data), before) {
				t.Fatalf("%s has no %s", name, before)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(data), before, after, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	hits := map[string]Config{
		"same":          base,
		"copied":        rewritten(func(string) {}),
		"other label":   changed(func(c *Config) { c.Label = "2" }),
		"activation":    changed(func(c *Config) { c.Activation = Softmax }),
		"smaller batch": changed(func(c *Config) { c.MaxBatch = 3 }),
		"one thread":    changed(func(c *Config) { c.Threads = 1 }),
	}
	for name, cfg := range hits {
		if got := score(t, cfg, pair, ScoreOptions{}); got.CacheHits != 1 {
			t.Errorf("%s: not a hit", name)
		} else if name == "same" && !sameBits(got.Logits, want.Logits) {
			t.Errorf("another engine got logit %v, want %v", got.Logits, want.Logits)
		}
	}
	misses := map[string]Config{
		"other weights": changed(func(c *Config) {
			c.Model = t.TempDir()
			config := weightstest.Tiny(64, 2, 2)
			threeLabels(config)
			weightstest.Write(t, c.Model, weightstest.Spec{Config: config, Seed: 8})
		}),
		"maximum length": changed(func(c *Config) { c.MaxLength = 32 }),
		"number format":  changed(func(c *Config) { c.DType = BFloat16 }),
		"small weights":  changed(func(c *Config) { c.DType = Int8W }),
		"norm's epsilon": edit("config.json", "1e-12", "1e-5"),
		"activation":     edit("config.json", `"gelu"`, `"relu"`),
		"lower case":     edit("tokenizer.json", `"lowercase":true`, `"lowercase":false`),
		"vocabulary":     edit("tokenizer.json", `"world"`, `"worldd"`),
		"side of cuts":   edit("tokenizer_config.json", `{`, `{"truncation_side": "left",`),
	}
	for name, cfg := range misses {
		if got := score(t, cfg, pair, ScoreOptions{}); got.CacheMisses != 1 {
			t.Errorf("%s: not a miss", name)
		}
	}
	t.Run("unfused graph", func(t *testing.T) {
		if testDevice() != mlx.CPU || testDType() != Float32 {
			t.Skip("there is one graph")
		}
		unfused(t)
		if got := score(t, base, pair, ScoreOptions{}); got.CacheMisses != 1 {
			t.Error("not a miss")
		}
	})
	t.Run("environment of BLAS", func(t *testing.T) {
		t.Setenv("OPENBLAS_TEST_OF_KEYS", "1")
		if got := score(t, base, pair, ScoreOptions{}); got.CacheMisses != 1 {
			t.Error("not a miss")
		}
	})
	e := openTinyEngine(t, base)
	options := map[string]ScoreOptions{
		"left":            {Truncation: TruncateLeft},
		"document tokens": {DocumentTokens: 5},
		"other tokens":    {DocumentTokens: 6},
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if got, err := e.ScoreWith(t.Context(), []Pair{pair}, options[name]); err != nil || got.CacheMisses != 1 {
			t.Errorf("%s: not a miss: %v", name, err)
		}
	}
	for name, other := range map[string]Pair{
		"query":    {pair.Query + " ", pair.Document},
		"document": {pair.Query, pair.Document + "."},
		"boundary": {pair.Query + pair.Document[:1], pair.Document[1:]},
		"swapped":  {pair.Document, pair.Query},
	} {
		if got, err := e.ScoreWith(t.Context(), []Pair{other}, ScoreOptions{}); err != nil || got.CacheMisses != 1 {
			t.Errorf("%s: not a miss: %v", name, err)
		}
	}
}

// TestCacheOptions covers requests that must not be answered from the cache.
func TestCacheOptions(t *testing.T) {
	cache := &mapCache{}
	e := openTinyEngine(t, Config{Cache: cache})
	long := []Pair{{"cat", strings.Repeat("red hill ", 300)}, {"cat", "hill"}}
	if _, err := e.ScoreWith(t.Context(), long, ScoreOptions{NoCache: true}); err != nil || len(cache.values) != 0 {
		t.Errorf("NoCache keeps %d entries: %v", len(cache.values), err)
	}
	scorePairs(t, e, long)
	before := e.Stats().Pairs
	var text *TextError
	if _, err := e.ScoreWith(t.Context(), []Pair{long[1], long[0]}, ScoreOptions{Truncation: TruncateNot}); !errors.As(err, &text) || text.Index != 1 || !errors.Is(err, ErrTooLong) {
		t.Errorf("a known truncated pair is scored without truncation: %v", err)
	}
	if got, err := e.ScoreWith(t.Context(), long[1:], ScoreOptions{Truncation: TruncateNot}); err != nil || got.CacheHits != 1 {
		t.Errorf("a known pair that fits is not a hit: %v", err)
	}
	if got, err := e.ScoreWith(t.Context(), long, ScoreOptions{NoCache: true}); err != nil || got.CacheHits != 0 || got.CacheMisses != 0 || e.Stats().Pairs != before+2 {
		t.Errorf("NoCache was answered from the cache: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Score(ctx, long); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended was answered: %v", err)
	}
	bench := openTinyEngine(t, Config{Cache: cache, Lab: &lab.Options{}})
	if got := scorePairs(t, bench, long); got.CacheHits != 0 || got.CacheMisses != 0 {
		t.Error("a benchmark is answered from the cache")
	}
	closed, err := Open(t.Context(), Config{Model: tinyDir(t, nil), Device: Device(testDevice()), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := closed.Score(t.Context(), long); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed engine answers: %v", err)
	}
}

// TestCacheIgnoresOtherValues returns values that no engine has kept.
func TestCacheIgnoresOtherValues(t *testing.T) {
	pairs := []Pair{{"0s 5", "0s 7 8 9"}}
	nan := cached{3, false, []float32{float32(math.NaN())}}.encode()
	for name, value := range map[string]string{"short": "abc", "of two labels": cached{3, false, []float32{1, 2}}.encode(), "not finite": nan} {
		synctest.Test(t, func(t *testing.T) {
			cache := &mapCache{}
			e := fakeCachedEngine(fakeSettings(), &fakeBackend{}, cache)
			e.caching.ready(e)
			cache.Put(e.caching.keys(pairs, ScoreOptions{}), []string{value})
			result := scorePairs(t, e, pairs)
			if result.CacheMisses != 1 {
				t.Errorf("a value that is %s is a hit", name)
			}
			checkFakeScores(t, pairs, result)
			closeFake(t, e)
		})
	}
}

func fakeCachedEngine(s settings, b backend, cache Cache) *Engine {
	e := fakeEngine(s, b)
	e.caching = &caching{cache: cache, identity: func() (string, error) { return "fake", nil }}
	return e
}

func closeFake(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	e.caching.flights.mu.Lock()
	defer e.caching.flights.mu.Unlock()
	if n := len(e.caching.flights.byKey); n > 0 {
		t.Errorf("%d pairs are still in flight", n)
	}
}

// anyBackend is backend where a variable has its name.
type anyBackend = backend

// slowBackend takes 10 ms for each batch.
func slowBackend() *fakeBackend {
	return &fakeBackend{takes: func(mlx.Batch) time.Duration { return 10 * time.Millisecond }}
}

// TestSharedFlights scores the same pairs in many requests at once.
func TestSharedFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, r := slowBackend(), rand.New(rand.NewPCG(3, 4))
		e := fakeCachedEngine(fakeSettings(), backend, &mapCache{})
		pairs := fakePairs(r, 20, 0)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				time.Sleep(time.Duration(i%7) * time.Millisecond)
				own := slices.Clone(pairs)
				rand.New(rand.NewPCG(uint64(i), 1)).Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
				result, err := e.Score(t.Context(), own)
				if err != nil {
					t.Error(err)
					return
				}
				checkFakeScores(t, own, result)
			})
		}
		wg.Wait()
		if backend.pairs != 20 {
			t.Errorf("%d pairs executed, want 20", backend.pairs)
		}
		if s := e.Stats(); s.CacheMisses != 20 || s.CacheHits != 49*20 {
			t.Errorf("%d misses and %d hits", s.CacheMisses, s.CacheHits)
		}
		closeFake(t, e)
	})
}

// TestCancelledLeader cancels the request that computes pairs which another one waits
// for. The computation must go on, and must end once no request waits for it.
func TestCancelledLeader(t *testing.T) {
	for _, followers := range []int{0, 1, 3} {
		for _, leave := range []bool{false, true} {
			t.Run(fmt.Sprint(followers, " followers, leave ", leave), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { cancelLeader(t, followers, leave) })
			})
		}
	}
}

func cancelLeader(t *testing.T, followers int, leave bool) {
	backend := slowBackend()
	e := fakeCachedEngine(fakeSettings(), backend, &mapCache{})
	pairs := fakePairs(rand.New(rand.NewPCG(3, 4)), 60, 0) // four batches, of which two are in flight
	leader, cancelLeader := context.WithCancel(t.Context())
	following, cancelFollowers := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := e.Score(leader, pairs); !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled request returned %v", err)
		}
	})
	synctest.Wait()
	for range followers {
		wg.Go(func() {
			result, err := e.Score(following, pairs)
			switch {
			case leave && !errors.Is(err, context.Canceled):
				t.Errorf("a follower that left returned %v", err)
			case !leave && err != nil:
				t.Errorf("a follower: %v", err)
			case !leave:
				checkFakeScores(t, pairs, result)
			}
		})
	}
	synctest.Wait()
	cancelLeader()
	synctest.Wait()
	if leave {
		cancelFollowers()
	}
	wg.Wait()
	cancelFollowers()
	time.Sleep(time.Second)
	if all := followers > 0 && !leave; all && backend.pairs != 60 || !all && backend.pairs >= 60 {
		t.Errorf("%d of 60 pairs executed", backend.pairs)
	}
	if live := e.Stats().Live; live != 0 {
		t.Errorf("%d requests are left", live)
	}
	closeFake(t, e)
}

// TestFailedLeader fails the batch of the first request. The second one, which follows
// it, computes for itself.
func TestFailedLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := slowBackend()
		backend.finish = func(n int) error {
			if n == 1 {
				return errors.New("the device fails once")
			}
			return nil
		}
		s := fakeSettings()
		s.reopen = func() (anyBackend, error) { return backend, nil }
		e := fakeCachedEngine(s, backend, &mapCache{})
		pairs := fakePairs(rand.New(rand.NewPCG(3, 4)), 10, 0)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := e.Score(t.Context(), pairs); err == nil {
				t.Error("a failed batch gives scores")
			}
		})
		synctest.Wait()
		wg.Go(func() {
			result, err := e.Score(t.Context(), pairs)
			if err != nil {
				t.Error(err)
				return
			}
			checkFakeScores(t, pairs, result)
			if result.CacheMisses != 10 {
				t.Errorf("%d misses, want 10", result.CacheMisses)
			}
		})
		wg.Wait()
		closeFake(t, e)
	})
}

// TestFailuresAreNotKept scores a pair whose logit is not finite.
func TestFailuresAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, cache := slowBackend(), &mapCache{}
		backend.bad = func(id int32) bool { return id == 77 }
		e := fakeCachedEngine(fakeSettings(), backend, cache)
		for range 2 {
			if _, err := e.Score(t.Context(), []Pair{{"0s 5", "0s 77"}, {"0s 5", "0s 8"}}); !errors.Is(err, ErrNotFinite) {
				t.Errorf("got %v", err)
			}
		}
		if len(cache.values) != 0 {
			t.Errorf("%d pairs of failed requests are kept", len(cache.values))
		}
		closeFake(t, e)
	})
}

// TestLargeLeader scores a pair that a much larger request computes too. The small one
// must not wait for the large one.
func TestLargeLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := slowBackend()
		e := fakeCachedEngine(fakeSettings(), backend, &mapCache{})
		pairs := fakePairs(rand.New(rand.NewPCG(3, 4)), 600, 0)
		var wg sync.WaitGroup
		start := time.Now()
		var large, small time.Duration
		wg.Go(func() {
			scorePairs(t, e, pairs)
			large = time.Since(start)
		})
		synctest.Wait()
		wg.Go(func() {
			scorePairs(t, e, pairs[len(pairs)-3:])
			small = time.Since(start)
		})
		wg.Wait()
		if small > large/2 {
			t.Errorf("the small request took %v, the large one %v", small, large)
		}
		closeFake(t, e)
	})
}

// TestFlightsAtRandom mixes requests that overlap, leave early and fail.
func TestFlightsAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			backend := slowBackend()
			backend.finish = func(n int) error {
				if n%11 == 0 {
					return errors.New("the device fails now and then")
				}
				return nil
			}
			s := fakeSettings()
			s.reopen = func() (anyBackend, error) { return backend, nil }
			e := fakeCachedEngine(s, backend, &mapCache{})
			pairs := fakePairs(r, 200, 0)
			var wg sync.WaitGroup
			for range 40 {
				from := r.IntN(len(pairs))
				own := pairs[from:min(len(pairs), from+1+r.IntN(60))]
				begin, leaves := randomTime(r, 200*time.Millisecond), r.IntN(3) == 0
				stay := randomTime(r, 50*time.Millisecond)
				wg.Go(func() {
					time.Sleep(begin)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if leaves {
						time.AfterFunc(stay, cancel)
					}
					result, err := e.Score(ctx, own)
					if err == nil {
						checkFakeScores(t, own, result)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
			if live := e.Stats().Live; live != 0 {
				t.Errorf("%d requests are left", live)
			}
			closeFake(t, e)
		})
	}
}

// TestPartialAnswersAreKeptInPart ends a partial request before all of its pairs are
// scored. Only these are kept, and the next request computes the rest.
func TestPartialAnswersAreKeptInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := &mapCache{}
		e := fakeCachedEngine(fakeSettings(), slowBackend(), cache)
		pairs := fakePairs(rand.New(rand.NewPCG(3, 4)), 100, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Millisecond)
		defer cancel()
		result, err := e.ScoreWith(ctx, pairs, ScoreOptions{Partial: true})
		if err != nil {
			t.Fatal(err)
		}
		scored := len(pairs) - len(result.Unscored)
		if scored == 0 || scored == len(pairs) || len(cache.values) != scored {
			t.Fatalf("%d of %d pairs scored, %d kept", scored, len(pairs), len(cache.values))
		}
		all := scorePairs(t, e, pairs)
		checkFakeScores(t, pairs, all)
		if all.CacheHits != scored || all.CacheMisses != len(pairs)-scored {
			t.Errorf("%d hits and %d misses after %d were scored", all.CacheHits, all.CacheMisses, scored)
		}
		if s := e.Stats(); s.Partial != 1 || s.Unscored != int64(len(pairs)-scored) {
			t.Errorf("stats count %d partial answers, %d pairs unscored", s.Partial, s.Unscored)
		}
		closeFake(t, e)
	})
}
