package engine

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/internal/system"
	"github.com/mlxrank/mlxrank/mlx"
)

var (
	soakBatches = flag.Int64("soak", 1000, "batches of TestSoak")
	soakTime    = flag.Duration("soak-time", 0, "duration of TestSoak, overrides -soak")
)

// A footing holds the resources that a process must return to.
type footing struct {
	active     int64
	workers    int
	threads    int // of the process; 0 if the system does not list them
	goroutines int
	footprint  float64 // MB
}

func takeFooting(t *testing.T, library *mlx.Library, sampler *system.Sampler) footing {
	t.Helper()
	debug.FreeOSMemory()
	memory := settledMemory(t, library)
	sample, err := sampler.Sample(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f := footing{active: memory.Active, workers: memory.Workers, goroutines: runtime.NumGoroutine(), footprint: *sample.FootprintMB}
	if tasks, err := os.ReadDir("/proc/self/task"); err == nil {
		f.threads = len(tasks)
	}
	return f
}

// settledMemory returns MLX's memory when it has not changed for 100 ms: a stream's
// thread of MLX frees what a graph used a moment after its result is read.
func settledMemory(t *testing.T, library *mlx.Library) mlx.Memory {
	t.Helper()
	var last mlx.Memory
	for same, end := 0, time.Now().Add(5*time.Second); same < 10; time.Sleep(10 * time.Millisecond) {
		now, err := library.Memory()
		if err != nil {
			t.Fatal(err)
		}
		if now.Active != last.Active {
			same = 0
		} else {
			same++
		}
		if last = now; time.Now().After(end) {
			t.Fatalf("MLX's memory has not settled within 5 s: %d bytes", now.Active)
		}
	}
	return last
}

// TestSoak executes batches of random shapes and checks that no memory or threads
// leak. MLX may keep 2 GB of freed buffers, as on a Mac. The default run is short;
// make soak executes a hundred thousand batches.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e := openTinyEngine(t, Config{Model: quickDir(t), MaxBatch: 40})
	if err := e.library.SetLimits(2<<30, -1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.library.SetLimits(32<<20, -1); err != nil { // MLX's own on the CPU
			t.Error(err)
		}
	})
	sampler, err := system.New()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	until := func(part float64) func() bool {
		if *soakTime > 0 {
			return func() bool { return time.Since(start) > time.Duration(part*float64(*soakTime)) }
		}
		return func() bool { return float64(e.Stats().Batches) >= part*float64(*soakBatches) }
	}
	soak(t, e, until(0.3)) // warm-up: every shape has been seen
	before := takeFooting(t, e.library, sampler)
	soak(t, e, until(1))
	waitForGoroutines(t, before.goroutines)
	after := takeFooting(t, e.library, sampler)
	if after.active != before.active || after.workers != before.workers {
		t.Errorf("MLX has %d bytes and %d threads, before %d and %d", after.active, after.workers, before.active, before.workers)
	}
	if after.threads > before.threads+4 { // the Go runtime may have started some
		t.Errorf("%d threads, before %d", after.threads, before.threads)
	}
	if after.footprint > 1.05*before.footprint {
		t.Errorf("footprint %.1f MB, before %.1f MB", after.footprint, before.footprint)
	}
	s := e.Stats()
	t.Logf("%d batches, %d pairs in %v: before %+v, after %+v", s.Batches, s.Pairs, time.Since(start).Round(time.Second), before, after)
}

// soak sends requests of random sizes from several goroutines; a few requests are
// cancelled.
func soak(t *testing.T, e *Engine, enough func() bool) {
	t.Helper()
	var wg sync.WaitGroup
	for caller := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(19, uint64(caller)))
			for !enough() {
				ctx, cancel := context.WithCancel(context.Background())
				if r.IntN(10) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(3000))*time.Microsecond)
				}
				_, err := e.Score(ctx, randomPairs(r, 1+r.IntN(60)))
				if err != nil && ctx.Err() == nil && !isRefusedForTime(ctx, err) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// isRefusedForTime reports whether a call was refused because it could not meet
// its deadline. The deadline may pass a moment before the context's timer ends it.
func isRefusedForTime(ctx context.Context, err error) bool {
	_, timed := ctx.Deadline()
	return timed && (errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge) || errors.Is(err, context.DeadlineExceeded))
}
