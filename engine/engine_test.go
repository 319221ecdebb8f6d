package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// tinyDir makes a small random model with its own tokenizer.
func tinyDir(t testing.TB, change func(config map[string]any)) string {
	t.Helper()
	config := weightstest.Tiny(64, 2, 2)
	if change != nil {
		change(config)
	}
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: config, Seed: 7})
	return dir
}

func openTinyEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	if cfg.Model == "" {
		cfg.Model = tinyDir(t, nil)
	}
	cfg.Device = Device(testDevice())
	if cfg.DType == "" {
		cfg.DType = testDType()
	}
	e, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func randomPairs(r *rand.Rand, n int) []Pair {
	words := strings.Fields("the a cat dog runs over red green hill and sees no bird in may or june")
	sentence := func(most int) string {
		var out []string
		for range r.IntN(most) {
			out = append(out, words[r.IntN(len(words))])
		}
		return strings.Join(out, " ")
	}
	pairs := make([]Pair, n)
	for i := range pairs {
		pairs[i] = Pair{Query: sentence(8), Document: sentence(60)}
	}
	return pairs
}

func scorePairs(t testing.TB, e *Engine, pairs []Pair) *Result {
	t.Helper()
	result, err := e.Score(context.Background(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestBuiltinPairScoresTheSameInAnyCompany(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	pairs, want := builtinGoldens(t)
	pairs = pairs[:40]
	tolerance := apart() * deviation(want)
	e := builtin(t)
	together := scorePairs(t, e, pairs).Logits
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(pairs))
	shuffled := make([]Pair, len(pairs))
	for to, from := range order {
		shuffled[to] = pairs[from]
	}
	again := scorePairs(t, e, shuffled).Logits
	largest := 0.0
	near := func(what string, i int, got float32) {
		off := math.Abs(float64(got - together[i]))
		largest = max(largest, off)
		if off > tolerance {
			t.Errorf("pair %d %s: logit %v, in one request with the others %v", i, what, got, together[i])
		}
	}
	for to, from := range order {
		near("shuffled", from, again[to])
	}
	for i := range 10 {
		near("alone", i, scorePairs(t, e, pairs[i:i+1]).Logits[0])
	}
	for i := range 9 {
		near("in a small batch", i, scorePairs(t, e, pairs[i:i+2]).Logits[0])
	}
	t.Logf("off by %.2g of the deviation at most, tolerance %g", largest/deviation(want), apart())
}

func TestRerankSortsAndKeepsTies(t *testing.T) {
	e := openTinyEngine(t, Config{})
	documents := []string{"the cat runs", "a red hill", "the cat runs", "no bird in june", "the cat runs"}
	ranking, err := e.Rerank(context.Background(), "cat", documents, RerankOptions{})
	if err != nil {
		t.Fatal(err)
	}
	result := scorePairs(t, e, []Pair{{"cat", documents[0]}, {"cat", documents[1]}, {"cat", documents[3]}})
	want := map[int]float32{0: result.Logits[0], 1: result.Logits[1], 2: result.Logits[0], 3: result.Logits[2], 4: result.Logits[0]}
	for i, item := range ranking.Items {
		if math.Abs(float64(item.Logit-want[item.Index])) > 1e-5 || item.Score != Sigmoid(item.Logit) {
			t.Errorf("item %+v, want logit %v", item, want[item.Index])
		}
		if i > 0 {
			before := ranking.Items[i-1]
			if before.Logit < item.Logit || before.Logit == item.Logit && before.Index > item.Index {
				t.Errorf("%+v is ranked before %+v", before, item)
			}
		}
	}
}

func TestActivation(t *testing.T) {
	dir := tinyDir(t, nil)
	pairs := randomPairs(rand.New(rand.NewPCG(3, 4)), 5)
	for activation, sigmoided := range map[Activation]bool{"": true, "auto": true, "raw": false, "sigmoid": true} {
		e := openTinyEngine(t, Config{Model: dir, Activation: activation})
		result := scorePairs(t, e, pairs)
		for i, logit := range result.Logits {
			want := logit
			if sigmoided {
				want = float32(1 / (1 + math.Exp(-float64(logit))))
			}
			if math.Abs(float64(result.Scores[i]-want)) > 1e-7 {
				t.Errorf("%q: score %v of logit %v", activation, result.Scores[i], logit)
			}
		}
	}
	for x, want := range map[float32]float32{0: 0.5, 200: 1, -200: 0, -80: 1.8048513e-35} {
		if got := Sigmoid(x); got != want {
			t.Errorf("sigmoid(%v) = %v, want %v", x, got, want)
		}
	}
}

func TestNoPairs(t *testing.T) {
	result := scorePairs(t, openTinyEngine(t, Config{}), nil)
	if len(result.Scores) != 0 || result.Batches != 0 || result.Timings.Inference != 0 {
		t.Errorf("got %+v", result)
	}
}

func TestOneResultForManyPairs(t *testing.T) {
	e := openTinyEngine(t, Config{})
	pairs := randomPairs(rand.New(rand.NewPCG(5, 6)), 700)
	result := scorePairs(t, e, pairs)
	if result.Batches < 3 || result.ComputedTokens < result.Tokens || result.Tokens < 700*3 {
		t.Errorf("%d batches, %d tokens, %d computed", result.Batches, result.Tokens, result.ComputedTokens)
	}
	for _, i := range []int{0, 13, 699} {
		if alone := scorePairs(t, e, pairs[i:i+1]).Logits[0]; math.Abs(float64(alone-result.Logits[i])) > 1e-5 {
			t.Errorf("pair %d: logit %v with other pairs, %v alone", i, result.Logits[i], alone)
		}
	}
	times := result.Timings
	sum := times.Inference + times.Tokenization + times.QueueWait + times.Other
	if sum != times.Latency || min(times.Inference, times.Tokenization, times.QueueWait, times.Other) < 0 {
		t.Errorf("stages add up to %v: %+v", sum, times)
	}
}

func TestMaxLength(t *testing.T) {
	pairs := []Pair{{"cat", strings.Repeat("red hill ", 40)}, {"cat", "hill"}}
	e := openTinyEngine(t, Config{MaxLength: 16})
	result := scorePairs(t, e, pairs)
	tokens, err := e.Tokenize(context.Background(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	if result.Truncated != 1 || len(tokens[0].IDs) != 16 || !tokens[0].Truncated || tokens[1].Truncated {
		t.Errorf("%d truncated, %+v", result.Truncated, tokens)
	}
}

func TestOpenErrors(t *testing.T) {
	good := tinyDir(t, nil)
	three := tinyDir(t, func(c map[string]any) {
		c["id2label"] = map[string]any{"0": "a", "1": "b", "2": "c"}
	})
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"device":       {Config{Model: good, Device: "tpu"}, `device "tpu" is not one of [auto gpu cpu]`},
		"dtype":        {Config{Model: good, DType: "int5"}, `dtype "int5"`},
		"activation":   {Config{Model: good, Activation: "tanh"}, `activation "tanh"`},
		"short":        {Config{Model: good, MaxLength: 2}, "special tokens are 3"},
		"long":         {Config{Model: good, MaxLength: 100000}, "more than the"},
		"no model":     {Config{Model: filepath.Join(good, "none")}, "no such directory"},
		"labels":       {Config{Model: three}, "3 labels"},
		"no library":   {Config{Model: good, Library: filepath.Join(good, "lib.so")}, "no such file"},
		"no tokenizer": {Config{Model: withFile(t, "tokenizer.json", `{"model": {"type": "BPE"}}`)}, "tokenizer.json"},
	} {
		e, err := Open(context.Background(), test.cfg)
		if err == nil {
			t.Errorf("%s: the model opened, want an error (closing: %v)", name, e.Close())
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %q lacks %q", name, err, test.want)
		}
	}
}

// withFile makes a tiny model with one file replaced.
func withFile(t *testing.T, name, content string) string {
	t.Helper()
	dir := tinyDir(t, nil)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestGPUWithoutOneIsAnError(t *testing.T) {
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(context.Background(), Config{Model: tinyDir(t, nil), Device: "gpu"})
	if library.Info().GPUs > 0 {
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	} else if !errors.Is(err, mlx.ErrNoDevice) {
		t.Errorf("got %v, want ErrNoDevice", err)
	}
}

func TestManyCallersWithCancellations(t *testing.T) {
	e := openTinyEngine(t, Config{})
	pairs := randomPairs(rand.New(rand.NewPCG(7, 8)), 60)
	want := scorePairs(t, e, pairs).Logits
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for caller := range 32 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(9, uint64(caller)))
			for range 8 {
				ctx, cancel := context.WithCancel(context.Background())
				if r.IntN(3) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(20))*time.Millisecond)
				}
				from := r.IntN(50)
				result, err := e.Score(ctx, pairs[from:from+10])
				cancel()
				if errors.Is(err, context.DeadlineExceeded) || isRefusedForTime(ctx, err) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for i, logit := range result.Logits {
					if math.Abs(float64(logit-want[from+i])) > apart() {
						t.Errorf("pair %d: %v, want %v", from+i, logit, want[from+i])
					}
				}
			}
		})
	}
	wg.Wait()
	waitForGoroutines(t, before)
}

func TestCancelledCallReturnsAtOnce(t *testing.T) {
	e := openTinyEngine(t, Config{})
	pairs := randomPairs(rand.New(rand.NewPCG(11, 12)), 20000)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		time.Sleep(50 * time.Millisecond)
		cancel()
	}()
	start := time.Now()
	_, err := e.Score(ctx, pairs)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if waited := time.Since(start); waited > 5*time.Second { // all pairs take longer
		t.Errorf("Score returned %v after the cancellation", waited)
	}
	scorePairs(t, e, pairs[:3]) // the engine continues
}

func TestCloseWaitsAndThenRefuses(t *testing.T) {
	e := openTinyEngine(t, Config{})
	pairs := randomPairs(rand.New(rand.NewPCG(13, 14)), 500)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			result, err := e.Score(context.Background(), pairs)
			if err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			if err == nil && len(result.Scores) != len(pairs) {
				t.Errorf("%d scores", len(result.Scores))
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	for range 2 {
		wg.Go(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := e.Score(context.Background(), pairs); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

func TestOpenAndCloseLeaveNothing(t *testing.T) {
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	dir := tinyDir(t, nil)
	cycle := func() mlx.Memory {
		e, err := Open(context.Background(), Config{Model: dir, Device: Device(testDevice())})
		if err != nil {
			t.Fatal(err)
		}
		scorePairs(t, e, []Pair{{"cat", "hill"}, {"cat", "dog"}})
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		memory, err := library.Memory()
		if err != nil {
			t.Fatal(err)
		}
		return memory
	}
	before, goroutines := cycle(), runtime.NumGoroutine()
	for range 20 {
		if after := cycle(); after.Active != before.Active || after.Sessions != before.Sessions || after.Workers != before.Workers {
			t.Fatalf("before %+v, after %+v", before, after)
		}
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// msMarcoDir is the environment variable for the directory of
// cross-encoder/ms-marco-MiniLM-L6-v2. The project does not include this model.
const msMarcoDir = "MLXRANK_MSMARCO_DIR"

func TestModelCardOfMSMarco(t *testing.T) {
	dir := os.Getenv(msMarcoDir)
	if dir == "" {
		t.Logf("set %s to the model's directory to check its card", msMarcoDir)
		return
	}
	e := openTinyEngine(t, Config{Model: dir, Activation: "raw"})
	query := "How many people live in Berlin?"
	result := scorePairs(t, e, []Pair{
		{query, "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers."},
		{query, "Berlin is well known for its museums."},
	})
	for i, want := range []float64{8.607, -4.320} {
		if math.Abs(float64(result.Scores[i])-want) > 2e-3 {
			t.Errorf("pair %d scores %v, its card says %v", i, result.Scores[i], want)
		}
	}
}
