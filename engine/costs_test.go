package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
)

// modelBackend returns a backend whose batches take the time that c predicts.
func modelBackend(c schedule.Costs) *fakeBackend { return &fakeBackend{model: &c} }

func TestMeasurementFindsTheBackendsCosts(t *testing.T) {
	t.Parallel()
	for _, want := range []schedule.Costs{{Microbatch: 1e6, Token: 1e4, Square: 20}, {Microbatch: 5e5, Token: 1e6, Square: 1000}, {Token: 2e3}} {
		s := fakeSettings()
		s.batching.Layout.MaxWidth = 512
		s.costsFile = filepath.Join(t.TempDir(), "folder", "file.json")
		s.costs = CostModel{Source: AssumedCosts, Shape: "m", Device: "cpu", DType: "float32", Library: "l", Workers: 1}
		bubble(t, s, modelBackend(want), func(t *testing.T, e *Engine) {
			c, err := e.MeasureCosts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if c.Source != MeasuredCosts || c.Took > 2*time.Second || len(c.Points) < 4 || !reflect.DeepEqual(c, e.CostModel()) {
				t.Errorf("%+v", c)
			}
			for _, s := range []schedule.Microbatch{schedule.Padded(1, 40), schedule.Padded(7, 64), schedule.Padded(3, 128)} {
				if off := math.Abs(schedule.Costs(c.Costs).Of(s)/want.Of(s) - 1); off > 0.01 {
					t.Errorf("%+v measured as %+v: off by %.3f for %+v", want, c.Costs, off, s)
				}
			}
			scorePairs(t, e, somePairs(30))
			stats := e.Stats()
			if stats.Pairs != 30 || stats.PredictionError.Percentile(100) > 1 {
				t.Errorf("%d pairs counted; predictions off by %.1f %%", stats.Pairs, stats.PredictionError.Percentile(100))
			}
			kept, ok := readCostModel(s.costsFile, s.costs)
			if !ok || kept.Costs != c.Costs || !kept.hasCosts("") || len(kept.Points) != len(c.Points) {
				t.Errorf("kept %+v, %v", kept, ok)
			}
		})
	}
}

// Predictions adapt to a machine that has become slower.
func TestPredictionsAdapt(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	s.batching.Costs = schedule.Costs{Microbatch: 1e5, Token: 1e4}
	bubble(t, s, modelBackend(schedule.Costs{Microbatch: 3e5, Token: 3e4}), func(t *testing.T, e *Engine) {
		for range 100 {
			scorePairs(t, e, somePairs(10))
		}
		before := e.Stats().PredictionError
		scorePairs(t, e, somePairs(10))
		after := e.Stats().PredictionError
		if off := after.Sum - before.Sum; off > 2 {
			t.Errorf("still off by %.1f %%", off)
		}
	})
}

// An idle engine measures its costs after long work if plans depend on the costs,
// and not after short work.
func TestLongWorkIsWorthMeasuring(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pairs    int
		unpadded bool
		want     CostSource
	}{
		{20, false, AssumedCosts},
		{200, false, MeasuredCosts},
		{200, true, AssumedCosts},
	} {
		s := fakeSettings()
		s.costs.Source = AssumedCosts
		s.batching.Layout.Unpadded = test.unpadded
		s.batching.Costs = schedule.Costs{Token: 5e6} // 200 pairs of 40 tokens: 40 s
		b := modelBackend(schedule.Costs{Token: 1e4})
		bubble(t, s, b, func(t *testing.T, e *Engine) {
			work := fakePairs(rand.New(rand.NewPCG(1, 2)), test.pairs, 0)
			result := scorePairs(t, e, work)
			checkFakeScores(t, work, result)
			if took := result.Timings.Latency; took > measuringTime {
				t.Errorf("%+v: the request took %v, so it waited for the measurement", test, took)
			}
			time.Sleep(2 * time.Second)
			if got := e.CostModel().Source; got != test.want {
				t.Errorf("%+v: costs are %s, want %s", test, got, test.want)
			}
		})
	}
}

// A request that arrives during the measurement waits only for the shape that is
// being measured; the measurement continues after it.
func TestMeasurementYieldsToRequests(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	costs := schedule.Costs{Token: 1e5}
	bubble(t, s, modelBackend(costs), func(t *testing.T, e *Engine) {
		done := make(chan error, 1)
		go func() { done <- errorOnly(e.MeasureCosts(context.Background())) }()
		longest := time.Duration(costs.Of(schedule.Padded(1, s.batching.Layout.Tokens)))
		for range 5 {
			time.Sleep(70 * time.Millisecond)
			pairs := somePairs(1)
			if took := scorePairs(t, e, pairs).Timings.QueueWait; took > longest {
				t.Errorf("a request waited %v, but a microbatch takes %v", took, longest)
			}
		}
		if err := <-done; err != nil || e.CostModel().Source != MeasuredCosts {
			t.Errorf("%v, costs are %s", err, e.CostModel().Source)
		}
	})
}

func TestMeasurementFails(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(time.Millisecond)
	b.finish = func(n int) error {
		if n == 3 {
			return errDevice
		}
		return nil
	}
	s := reopening(func() (backend, error) { return newTimedBackend(time.Millisecond), nil })
	bubble(t, s, b, func(t *testing.T, e *Engine) {
		if _, err := e.MeasureCosts(context.Background()); !errors.Is(err, errDevice) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := e.MeasureCosts(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		scorePairs(t, e, somePairs(3))
		if e.Stats().Reopened != 1 {
			t.Error("the session was not reopened")
		}
	})
}

func TestBrokenCostFilesAreIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := CostModel{Shape: "m", Device: "cpu", DType: "float32", Library: "l", Workers: 2, Costs: Costs{1, 2, 3}}
	file := filepath.Join(dir, "c.json")
	if err := c.write(file); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := readCostModel(file, c); !ok {
		t.Fatalf("%s is not read", good)
	}
	other := c
	other.DType = "float16"
	if _, ok := readCostModel(file, other); ok {
		t.Error("costs of another dtype are used")
	}
	other = c
	other.Shape = "n"
	if _, ok := readCostModel(file, other); ok {
		t.Error("costs of another shape of model are used")
	}
	if kept, ok := readCostModel(file, c); !ok || !kept.hasCosts("") || kept.hasCosts("qpad") {
		t.Error("the costs are not kept by variant")
	}
	for name, content := range map[string]string{
		"empty":      "",
		"cut":        string(good[:len(good)/2]),
		"not JSON":   "shard: 1",
		"negative":   `{"shape":"m","device":"cpu","dtype":"float32","library":"l","workers":2,"microbatch_ns":1,"token_ns":-2}`,
		"all zeros":  `{"shape":"m","device":"cpu","dtype":"float32","library":"l","workers":2}`,
		"wrong type": `{"shape":"m","device":"cpu","dtype":"float32","library":"l","workers":"2","token_ns":2}`,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := readCostModel(file, c); ok && got.hasCosts("") || !ok && got.Costs != c.Costs {
			t.Errorf("%s: %+v is used", name, got)
		}
	}
	if err := c.write(file); err != nil {
		t.Fatal(err)
	}
	if _, ok := readCostModel(file, c); !ok {
		t.Error("a broken file is not replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files that remain: %v, %v", left, err)
	}
	if err := c.write(filepath.Join(file, "x.json")); err == nil {
		t.Error("writing below a file succeeded")
	}
}

func TestCostsOfTheRealEngineAreKept(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	dir := tinyDir(t, nil)
	e := openTinyEngine(t, Config{Model: dir})
	if c := e.CostModel(); c.Source != AssumedCosts {
		t.Errorf("before: %s", c.Source)
	}
	start := time.Now()
	measured, err := e.MeasureCosts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("measured in %v: %+v", time.Since(start), measured.Costs)
	if again := openTinyEngine(t, Config{Model: dir}).CostModel(); again.Source != CachedCosts || again.Costs != measured.Costs {
		t.Errorf("opened again: %+v, want %+v", again, measured)
	}
	if other := openTinyEngine(t, Config{Model: dir, Threads: 1}).CostModel(); other.Source != AssumedCosts {
		t.Errorf("with another number of threads: %s", other.Source)
	}
}
