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
)

// modelBackend takes what the costs say.
func modelBackend(c Costs) *fakeBackend { return &fakeBackend{model: &c} }

func TestCalibrationFindsTheBackendsCosts(t *testing.T) {
	for _, want := range []Costs{{1e6, 1e4, 20}, {5e5, 1e6, 1000}, {0, 2e3, 0}} {
		s := fakeSettings()
		s.planner.layout.maxWidth = 512
		s.calibrationFile = filepath.Join(t.TempDir(), "folder", "file.json")
		s.calibration = Calibration{Source: "assumed", Model: "m", Device: "cpu", DType: "float32", Library: "l", Lanes: 1}
		bubble(t, s, modelBackend(want), func(t *testing.T, e *Engine) {
			c, err := e.Calibrate(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if c.Source != "measured" || c.Took > 2*time.Second || len(c.Points) < 4 || !reflect.DeepEqual(c, e.Calibration()) {
				t.Errorf("%+v", c)
			}
			for _, s := range []shard{dense(1, 40), dense(7, 64), dense(3, 128)} {
				if off := math.Abs(c.of(s)/want.of(s) - 1); off > 0.01 {
					t.Errorf("%+v calibrated as %+v: off by %.3f for %+v", want, c.Costs, off, s)
				}
			}
			mustScore(t, e, somePairs(30))
			stats := e.Stats()
			if stats.Pairs != 30 || stats.PredictionError.Percentile(100) > 1 {
				t.Errorf("%d pairs counted; predictions off by %.1f %%", stats.Pairs, stats.PredictionError.Percentile(100))
			}
			kept, ok := readCalibration(s.calibrationFile, s.calibration)
			if !ok || kept.Costs != c.Costs || kept.Source != "cached" || len(kept.Points) != len(c.Points) {
				t.Errorf("kept %+v, %v", kept, ok)
			}
		})
	}
}

// Predictions follow a machine that has become slower.
func TestPredictionsFollowTheMachine(t *testing.T) {
	s := fakeSettings()
	s.planner.costs = Costs{Shard: 1e5, Token: 1e4}
	bubble(t, s, modelBackend(Costs{Shard: 3e5, Token: 3e4}), func(t *testing.T, e *Engine) {
		for range 100 {
			mustScore(t, e, somePairs(10))
		}
		before := e.Stats().PredictionError
		mustScore(t, e, somePairs(10))
		after := e.Stats().PredictionError
		if off := after.Sum - before.Sum; off > 2 {
			t.Errorf("still off by %.1f %%", off)
		}
	})
}

// Long work has the engine calibrated first, short work does not.
func TestLongWorkIsWorthCalibrating(t *testing.T) {
	for pairs, want := range map[int]string{20: "assumed", 200: "measured"} {
		s := fakeSettings()
		s.calibration.Source = "assumed"
		s.planner.costs = Costs{Token: 5e6} // 200 pairs of 40 tokens: 40 s
		bubble(t, s, modelBackend(Costs{Token: 1e4}), func(t *testing.T, e *Engine) {
			work := fakePairs(rand.New(rand.NewPCG(1, 2)), pairs, 0)
			result := mustScore(t, e, work)
			checkFakeScores(t, work, result)
			if got := e.Calibration().Source; got != want {
				t.Errorf("%d pairs: costs are %s, want %s", pairs, got, want)
			}
		})
	}
}

func TestCalibrationFails(t *testing.T) {
	b := batchesOf(time.Millisecond)
	b.finish = func(n int) error {
		if n == 3 {
			return errDevice
		}
		return nil
	}
	s := reopening(func() (backend, error) { return batchesOf(time.Millisecond), nil })
	bubble(t, s, b, func(t *testing.T, e *Engine) {
		if _, err := e.Calibrate(context.Background()); !errors.Is(err, errDevice) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := e.Calibrate(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		mustScore(t, e, somePairs(3))
		if e.Stats().Reopened != 1 {
			t.Error("the session was not opened anew")
		}
	})
}

func TestBrokenCalibrationFilesAreIgnored(t *testing.T) {
	dir := t.TempDir()
	c := Calibration{Model: "m", Device: "cpu", DType: "float32", Library: "l", Lanes: 2, Costs: Costs{1, 2, 3}}
	file := filepath.Join(dir, "c.json")
	if err := c.write(file); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := readCalibration(file, c); !ok {
		t.Fatalf("%s is not taken", good)
	}
	other := c
	other.DType = "float16"
	if _, ok := readCalibration(file, other); ok {
		t.Error("a calibration of another dtype is taken")
	}
	for name, content := range map[string]string{
		"empty":     "",
		"cut":       string(good[:len(good)/2]),
		"no JSON":   "shard: 1",
		"negative":  `{"model":"m","device":"cpu","dtype":"float32","library":"l","lanes":2,"shard_ns":1,"token_ns":-2}`,
		"all zeros": `{"model":"m","device":"cpu","dtype":"float32","library":"l","lanes":2}`,
		"a type":    `{"model":"m","device":"cpu","dtype":"float32","library":"l","lanes":"2","token_ns":2}`,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := readCalibration(file, c); ok || got.Costs != c.Costs {
			t.Errorf("%s: %+v is taken", name, got)
		}
	}
	if err := c.write(file); err != nil {
		t.Fatal(err)
	}
	if _, ok := readCalibration(file, c); !ok {
		t.Error("a broken file is not written anew")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	if err := c.write(filepath.Join(file, "x.json")); err == nil {
		t.Error("written below a file")
	}
}

func TestCalibrationOfTheRealEngineIsKept(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	dir := tinyDir(t, nil)
	e := openTinyEngine(t, Config{Model: dir})
	if c := e.Calibration(); c.Source != "assumed" {
		t.Errorf("before: %s", c.Source)
	}
	start := time.Now()
	measured, err := e.Calibrate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("measured in %v: %+v", time.Since(start), measured.Costs)
	if again := openTinyEngine(t, Config{Model: dir}).Calibration(); again.Source != "cached" || again.Costs != measured.Costs {
		t.Errorf("opened again: %+v, want %+v", again, measured)
	}
	if other := openTinyEngine(t, Config{Model: dir, Threads: 1}).Calibration(); other.Source != "assumed" {
		t.Errorf("with another number of threads: %s", other.Source)
	}
}
