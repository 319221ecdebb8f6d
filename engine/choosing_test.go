package engine

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/mlx"
)

// choosingSettings returns settings whose choice takes a second and then gives the
// outcomes, one after the other.
func choosingSettings(outcomes ...func() (chosen, error)) settings {
	s := fakeSettings()
	s.choose = func(ctx context.Context) (chosen, error) {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return chosen{}, ctx.Err()
		}
		next := outcomes[0]
		outcomes = outcomes[1:]
		return next()
	}
	return s
}

func chose(b backend) func() (chosen, error) {
	return func() (chosen, error) {
		return chosen{
			Choice:  Choice{Variant: "packed", Source: "measured", Trials: []Trial{{Variant: "packed"}}},
			session: b, layout: mlx.Layout{Unpadded: true, Workers: 1, MicrobatchTokens: 512, Kernels: "MLX", Variant: "packed"},
		}, nil
	}
}

func failed(err error) func() (chosen, error) {
	return func() (chosen, error) { return chosen{}, err }
}

// Requests wait for the choice, and are then planned for the layout of the variant
// and computed by its session. Tokenising does not wait.
func TestRequestsWaitForTheChoice(t *testing.T) {
	t.Parallel()
	first, better := newTimedBackend(time.Millisecond), newTimedBackend(time.Millisecond)
	s := choosingSettings(chose(better))
	s.costsFile = filepath.Join(t.TempDir(), "kept.json")
	bubble(t, s, first, func(t *testing.T, e *Engine) {
		if info := e.Info(); info.Choice.Source != "" || info.Unpadded {
			t.Errorf("before the choice: %+v", info)
		}
		start := time.Now()
		if _, err := e.Tokenize(context.Background(), somePairs(2)); err != nil || time.Since(start) > 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := e.Score(ctx, somePairs(2)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		checkFakeScores(t, somePairs(5), scorePairs(t, e, somePairs(5)))
		if took := time.Since(start); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("the first request took %v", took)
		}
		if info := e.Info(); info.Choice.Variant != "packed" || !info.Unpadded || first.closed != 1 || first.submitted != 0 || better.submitted == 0 {
			t.Errorf("%+v; first session closed %d times, %d batches; then %d batches", info, first.closed, first.submitted, better.submitted)
		}
		if got := scorePairs(t, e, somePairs(9)); got.ComputedTokens != got.Tokens {
			t.Errorf("%d tokens, %d computed: planned for another layout", got.Tokens, got.ComputedTokens)
		}
		if kept, ok := readCostModel(s.costsFile, s.costs); !ok || kept.Choice.Variant != "packed" || kept.hasCosts("packed") {
			t.Errorf("kept %+v, %v", kept, ok)
		}
	})
	if better.closed != 1 {
		t.Error("the chosen session is not closed")
	}
}

// Close does not wait for a choice, and its callers get ErrClosed.
func TestCloseDuringTheChoice(t *testing.T) {
	t.Parallel()
	freed := 0
	s := choosingSettings(chose(newTimedBackend(0)))
	s.closeModel = func() error { freed++; return nil }
	bubble(t, s, newTimedBackend(0), func(t *testing.T, e *Engine) {
		done := make(chan error, 1)
		go func() { done <- errorOnly(e.Score(context.Background(), somePairs(1))) }()
		time.Sleep(300 * time.Millisecond)
		start := time.Now()
		if err := e.Close(); err != nil || time.Since(start) > 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("the caller got %v", err)
		}
	})
	if freed != 1 {
		t.Errorf("the model is freed %d times", freed)
	}
}

// Close before the choice has begun, which a busy dispatcher delays, answers the
// calls that wait for it.
func TestCloseBeforeTheChoice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pipeline{choosing: newChoosing(), schedule: schedule.New(schedule.Config{}, time.Now()), stopped: make(chan struct{})}
		p.drained.L, p.tokenizers.work.L = &p.mu, &p.mu
		done := make(chan error, 1)
		go func() { done <- p.waitForChoice(context.Background(), false) }()
		synctest.Wait()
		if err := p.close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("the call that waits for the choice got %v", err)
		}
		p.chooseVariant() // which the dispatcher had decided on before: it does nothing
	})
}

// A device whose reference is wrong gives no score. A probe tries again.
func TestFailedChoice(t *testing.T) {
	t.Parallel()
	wrong := errors.Join(ErrUnhealthy, errWrong)
	first, second := newTimedBackend(0), newTimedBackend(0)
	bubble(t, choosingSettings(failed(wrong), failed(wrong), chose(second)), first, func(t *testing.T, e *Engine) {
		for range 2 {
			if _, err := e.Score(context.Background(), somePairs(3)); !errors.Is(err, ErrUnhealthy) || !errors.Is(err, errWrong) {
				t.Errorf("got %v", err)
			}
		}
		if err := errorOnly(e.MeasureCosts(context.Background())); !errors.Is(err, ErrUnhealthy) {
			t.Errorf("MeasureCosts: %v", err)
		}
		if e.Stats().Unhealthy == nil {
			t.Error("the engine is healthy")
		}
		if err := e.Healthy(context.Background()); !errors.Is(err, errWrong) {
			t.Errorf("probe: %v", err)
		}
		if err := e.Healthy(context.Background()); err != nil {
			t.Errorf("second probe: %v", err)
		}
		checkFakeScores(t, somePairs(4), scorePairs(t, e, somePairs(4)))
		if first.submitted != 0 || e.Stats().Unhealthy != nil {
			t.Errorf("%d batches went to a session that was not compared; %v", first.submitted, e.Stats().Unhealthy)
		}
	})
}

// The first batch of a GPU warms it up while documents are read. If it fails, the
// session is reopened.
func TestWarmPass(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		first, second := newTimedBackend(50*time.Millisecond), newTimedBackend(time.Millisecond)
		if fails {
			first.finish = func(int) error { return errDevice }
		}
		s := reopening(func() (backend, error) { return second, nil })
		s.warm = fakeCheck()
		bubble(t, s, first, func(t *testing.T, e *Engine) {
			synctest.Wait()
			result := scorePairs(t, e, somePairs(3))
			checkFakeScores(t, somePairs(3), result)
			if took := result.Timings.Latency; took > 110*time.Millisecond {
				t.Errorf("the first request took %v", took)
			}
			if stats := e.Stats(); stats.Pairs != 3 || (stats.Reopened == 1) != fails {
				t.Errorf("%d pairs counted, reopened %d times", stats.Pairs, stats.Reopened)
			}
		})
	}
}

// unfused makes the CPU compute the unfused graph, and gives the test a cache folder.
func unfused(t *testing.T) {
	t.Helper()
	t.Setenv(unfusedGraphEnv, "1")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv(VariantEnv, "")
}

func keptFiles(t *testing.T) []string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cache, "mlxrank", "costs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The real variants of the CPU's unfused graph are compared, timed and kept, as on a
// GPU.
func TestRealChoiceIsKept(t *testing.T) {
	unfused(t)
	cfg := Config{Model: tinyDir(t, nil), Lab: &lab.Options{ChooseOnCPU: true}}
	pairs := randomPairs(rand.New(rand.NewPCG(1, 2)), 20)
	open := func(want string) (*Engine, []float32) {
		t.Helper()
		e := openTinyEngine(t, cfg)
		logits := scorePairs(t, e, pairs).Logits
		if choice := e.Info().Choice; choice.Source != want || choice.trial("reference") == nil || choice.trial(choice.Variant) == nil {
			t.Errorf("%+v, want one that is %s", choice, want)
		}
		return e, logits
	}
	e, first := open("measured")
	choice := e.Info().Choice
	for _, trial := range choice.Trials {
		if trial.Fault != "" || trial.Error < 0 || trial.Error > tolerance(Float32) {
			t.Errorf("%+v", trial)
		}
	}
	if choice.trial("reference").Time <= 0 || len(choice.Trials) < 2 {
		t.Errorf("%+v", choice)
	}
	t.Logf("%+v", choice)
	if files := keptFiles(t); len(files) != 1 {
		t.Fatalf("kept %v", files)
	}
	_, again := open("cached")
	if off := worst(again, first); off > apart() {
		t.Errorf("off by %v", off)
	}
	measured, err := e.MeasureCosts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := open("cached"); e.CostModel().Source != "cached" || e.CostModel().Costs != measured.Costs || e.Info().Choice.Variant != choice.Variant {
		t.Errorf("%+v, want costs %+v", e.CostModel(), measured.Costs)
	}
	// Whatever is in the file, a choice is measured again, and no opening fails.
	file := keptFiles(t)[0]
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"cut":             string(good[:len(good)/2]),
		"another device":  strings.Replace(string(good), `"device": "cpu`, `"device": "gpu`, 1),
		"another MLX":     strings.Replace(string(good), `"library": "MLX `, `"library": "MLX 1`, 1),
		"unknown variant": strings.ReplaceAll(string(good), `"`+choice.Variant+`"`, `"other"`),
		"never compared":  strings.ReplaceAll(string(good), `"error": 0`, `"error": -1`),
	} {
		if content == string(good) {
			t.Errorf("%s: nothing is changed in %s", name, good)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		open("measured")
		open("cached")
	}
}

// A folder that cannot be written is no error.
func TestRealChoiceIsNotKept(t *testing.T) {
	unfused(t)
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", filepath.Join(blocked, "below"))
	var log bytes.Buffer
	e := openTinyEngine(t, Config{Lab: &lab.Options{ChooseOnCPU: true}, Logger: zerolog.New(zerolog.SyncWriter(&log))})
	scorePairs(t, e, randomPairs(rand.New(rand.NewPCG(1, 2)), 3))
	if e.Info().Choice.Source != "measured" {
		t.Errorf("%+v", e.Info().Choice)
	}
}

// Two engines that choose at once leave one whole file.
func TestTwoRealChoicesAtOnce(t *testing.T) {
	unfused(t)
	cfg := Config{Model: tinyDir(t, nil), Lab: &lab.Options{ChooseOnCPU: true}}
	var both sync.WaitGroup
	for range 2 {
		e := openTinyEngine(t, cfg)
		both.Go(func() {
			if err := errorOnly(e.Score(context.Background(), randomPairs(rand.New(rand.NewPCG(1, 2)), 3))); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	deadline := time.Now().Add(10 * time.Second) // each file is written after the choice
	for len(keptFiles(t)) != 1 || strings.HasSuffix(keptFiles(t)[0], ".tmp") {
		if time.Now().After(deadline) {
			t.Fatalf("kept %v", keptFiles(t))
		}
		time.Sleep(10 * time.Millisecond)
	}
	e := openTinyEngine(t, cfg)
	if e.Info().Choice.Source != "cached" {
		t.Errorf("%+v", e.Info().Choice)
	}
}

func TestForcedVariant(t *testing.T) {
	unfused(t)
	dir := tinyDir(t, nil)
	pairs := randomPairs(rand.New(rand.NewPCG(1, 2)), 5)
	if e := openTinyEngine(t, Config{Model: dir}); e.Info().Choice.Source != "default" || e.Info().Choice.Variant != "reference" {
		t.Errorf("not forced: %+v", e.Info().Choice)
	}
	for range 2 { // compared at first, then not again
		for _, variant := range []string{"reference", "qpad"} {
			t.Setenv(VariantEnv, variant)
			e := openTinyEngine(t, Config{Model: dir})
			scorePairs(t, e, pairs)
			if choice := e.Info().Choice; choice.Variant != variant || choice.Source != "forced" || choice.trial(variant) == nil || choice.trial(variant).Time != 0 {
				t.Errorf("%s: %+v", variant, choice)
			}
		}
	}
	if files := keptFiles(t); len(files) != 1 {
		t.Errorf("kept %v", files)
	}
	t.Setenv(VariantEnv, "fastest")
	_, err := Open(context.Background(), Config{Model: dir, Device: CPU})
	if err == nil || !strings.Contains(err.Error(), VariantEnv) || !strings.Contains(err.Error(), "reference, qpad") {
		t.Errorf("got %v", err)
	}
	t.Setenv(unfusedGraphEnv, "0")
	e := openTinyEngine(t, Config{Model: dir})
	scorePairs(t, e, pairs)
	if choice := e.Info().Choice; choice.Variant != "" && e.Info().Kernels != "MLX" {
		t.Errorf("the fused graph has variant %+v", choice)
	}
}

// A wrong variant is refused even if it is forced; what was found is in the error.
func TestForcedVariantThatIsWrong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{variants: map[string]fakeVariant{"qpad": {takes: ms, changed: off(0.2)}}}
		if _, _, err := fakeChooser(d, zerolog.Nop(), "qpad").choose(context.Background()); !errors.Is(err, errWrong) || !strings.Contains(err.Error(), "qpad") {
			t.Errorf("got %v", err)
		}
	})
}

// The check batch has two microbatches of different lengths and real ids, the same
// each time, and the logits of a reranker differ on it.
func TestCheckBatch(t *testing.T) {
	e := builtin(t)
	b, err := e.checkBatch()
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.checkBatch()
	if err != nil || !slices.Equal(b.IDs, again.IDs) {
		t.Errorf("the batch is another one each time: %v", err)
	}
	want := slices.Concat(checkLengths...)
	for i, n := range b.Lengths {
		if int(n) != want[i] {
			t.Errorf("pair %d has %d tokens, want %d", i, n, want[i])
		}
	}
	seen := map[int32]bool{}
	for _, id := range b.IDs {
		seen[id] = true
	}
	if len(seen) < 200 || len(b.Microbatches) != 2 {
		t.Errorf("%d different ids, %d microbatches", len(seen), len(b.Microbatches))
	}
	logits, err := e.exact(Config{Model: e.info.Model}, openModel(t, e.info.Model).Files, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("logits %v, deviation %.2g", logits, deviation(logits))
	if deviation(logits) < 1 {
		t.Errorf("logits %v hardly differ", logits)
	}
}

// TestToleranceOfVariants checks that half precision is within the tolerance on every
// tiny model of the goldens, and that a dropped layer is not.
func TestToleranceOfVariants(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e := builtin(t)
	for _, g := range tinyGoldens(t) {
		model := openTiny(t, g)
		var tokens []Tokens
		for _, n := range []int{5, 16, 31, 33, 64, 100} {
			b := mlx.Batch{}
			if err := e.addPairs(&b, []int{n}); err != nil {
				t.Fatal(err)
			}
			for i := range b.IDs {
				b.IDs[i] %= int32(model.Config.VocabSize)
			}
			tokens = append(tokens, Tokens{IDs: b.IDs, TypeIDs: b.TypeIDs})
		}
		want := computeLogits(t, modelConfig(model.Config), model, mlx.Float32, tokens)
		for _, dtype := range []DType{Float16, BFloat16} {
			got := errorOf(computeLogits(t, modelConfig(model.Config), model, mlx.DType(dtype), tokens), want)
			t.Logf("%s in %s: off by %.4f of the deviation, tolerance %.3f", g.Name, dtype, got, tolerance(dtype))
			if got > tolerance(dtype) {
				t.Errorf("%s in %s: off by %.4f of the deviation", g.Name, dtype, got)
			}
		}
		if bad := errorOf(controls[2].logits(t, model, tokens), want); bad <= tolerance(BFloat16) {
			t.Errorf("%s: a dropped layer is off by %.4f only", g.Name, bad)
		}
	}
}
