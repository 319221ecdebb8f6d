package bench

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/workload"
)

// BenchmarkMeasuring measures the CPU time per request of the benchmark itself, with
// a backend that answers at once. "off" is the load generator alone. "on" adds the
// gauges of a real engine, a log event per request and the results as JSON.
func BenchmarkMeasuring(b *testing.B) {
	instant := func(context.Context, int) (results.Request, error) {
		return results.Request{Pairs: 32, Tokens: 2900, ComputedTokens: 2900, InferenceMS: 68.1, TokenizationMS: 11.6, QueueWaitMS: 0.1}, nil
	}
	settings := func(n int) experiment.Settings { return experiment.Settings{Concurrency: 1, Requests: n} }
	b.Run("off", func(b *testing.B) {
		before := cpuTime()
		l := load{settings: settings(b.N), do: instant}
		if err := l.run(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1000, "cpu-us/request")
	})
	b.Run("on", func(b *testing.B) {
		w, err := workload.Open(workload.Builtin, 64)
		if err != nil {
			b.Fatal(err)
		}
		o := Options{Log: zerolog.Nop()}
		s := experiment.Settings{Model: tinyModel(b), Device: "cpu", Batch: 8, Requests: 8}
		t, err := openTarget(b.Context(), o.Engine, s, w)
		if err != nil {
			b.Fatal(err)
		}
		log := zerolog.New(io.Discard).Level(zerolog.DebugLevel)
		path := filepath.Join(b.TempDir(), "results.json")
		b.ResetTimer()
		before := cpuTime()
		l := &load{settings: settings(b.N), do: func(ctx context.Context, i int) (results.Request, error) {
			r, err := instant(ctx, i)
			log.Debug().Int("pairs", r.Pairs).Int("distinct_pairs", r.Pairs).Int("truncated", 0).Int("batches", 1).
				Int("tokens", r.Tokens).Int("computed_tokens", r.ComputedTokens).Float64("padding_waste_pct", 0).
				Float64("latency_ms", 79.9).Float64("inference_ms", r.InferenceMS).Float64("tokenization_ms", r.TokenizationMS).
				Float64("queue_wait_ms", r.QueueWaitMS).Float64("other_ms", 0.1).Msg("request")
			return r, err
		}}
		watcher := startSampler(t.read)
		l.start = watcher.start
		if err := l.run(b.Context()); err != nil {
			b.Fatal(err)
		}
		run := results.Run{Samples: watcher.finish(l.requests), Requests: l.requests}
		if err := results.Write(path, &results.Result{Points: []results.Point{{Runs: []results.Run{run}}}}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1000, "cpu-us/request")
		b.StopTimer()
		if err := t.close(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}
