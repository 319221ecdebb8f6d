package engine

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// Benchmarks of the limits that the engine must meet:
//
//	go test ./engine -run '^$' -bench 'HostTime|Take|Plan10000'
//	go test ./engine -run '^$' -bench Traffic -benchtime 100x
//	go test ./engine -run 'Padding' -v
//	MLXRANK_PYTHON=python3 go test ./engine -run '^$' -bench BesideHuggingFace

// cpuTime returns the CPU time of all threads of this process.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// realPairs returns n golden pairs; aQuery pairs share each query.
func realPairs(tb testing.TB, n, aQuery int) []Pair {
	tb.Helper()
	all, _ := builtinGoldens(tb)
	pairs := make([]Pair, n)
	for i := range pairs {
		pairs[i] = Pair{Query: all[i/aQuery*aQuery%len(all)].Query, Document: all[i%len(all)].Document}
	}
	return pairs
}

// BenchmarkHostTime measures the engine's own time for a request of 32 pairs, with
// a backend that takes no time.
func BenchmarkHostTime(b *testing.B) {
	pairs := realPairs(b, 32, 32)
	tok := openTokenizer(b, 512)
	known := make(map[string][]uint32)
	for _, pair := range pairs {
		for _, text := range []string{pair.Query, pair.Document} {
			ids, _, err := tok.encodePart(context.Background(), text, 0, false)
			if err != nil {
				b.Fatal(err)
			}
			known[text] = ids
		}
	}
	for name, encode := range map[string]encodeFunc{
		"all": tok.encodePart,
		"without_tokenising": func(_ context.Context, text string, _ int, _ bool) ([]uint32, cut, error) {
			return known[text], cut{at: len(text)}, nil
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := fakeSettings()
			s.texts = pairEncoder{maxLength: 512, frame: tok.frame, encode: encode}
			s.batching.Layout, s.batching.Limits = newLayout(mlx.Layout{Grid: 16, Workers: 1, MicrobatchTokens: 16384}, 512), schedule.DefaultLimits(true)
			s.workers = runtime.GOMAXPROCS(0)
			e := fakeEngine(s, new(instantBackend))
			before := cpuTime(b)
			for b.Loop() {
				scorePairs(b, e, pairs)
			}
			b.ReportMetric(telemetry.Milliseconds(cpuTime(b)-before)/float64(b.N), "cpu-ms/op")
			if err := e.pipeline.close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// An instantBackend finishes every batch at once.
type instantBackend struct{}

func (*instantBackend) Submit(mlx.Batch) (mlx.Ticket, error)             { return 1, nil }
func (*instantBackend) Collect(mlx.Ticket, []float32) (mlx.Stats, error) { return mlx.Stats{}, nil }
func (*instantBackend) Close() error                                     { return nil }

// BenchmarkTraffic measures the stages of single requests of 32 pairs on the
// builtin model, with and without a batch timeout of 200 ms.
func BenchmarkTraffic(b *testing.B) {
	pairs := realPairs(b, 3200, 32)
	for name, cfg := range map[string]Config{
		"continuous":          {},
		"batch_timeout_200ms": {BatchTimeout: 200 * time.Millisecond},
	} {
		b.Run(name, func(b *testing.B) {
			cfg.Model, cfg.Device = "builtin", "cpu"
			cfg.MaxBatchTokens = 16384 // so that no request fills a batch
			e, err := Open(context.Background(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := e.MeasureCosts(context.Background()); err != nil {
				b.Fatal(err)
			}
			scorePairs(b, e, pairs[:32]) // warm
			before, start, i := e.Stats(), time.Now(), 0
			for b.Loop() {
				scorePairs(b, e, pairs[i*32:(i+1)*32])
				i = (i + 1) % 100
			}
			wall, after := time.Since(start), e.Stats()
			n := float64(after.Requests - before.Requests)
			b.ReportMetric(100*(after.Busy-before.Busy).Seconds()/wall.Seconds(), "%busy")
			b.ReportMetric((after.QueueWait.Sum-before.QueueWait.Sum)/n, "queue-ms/op")
			b.ReportMetric((after.Tokenization.Sum-before.Tokenization.Sum)/n, "tokenise-ms/op")
			b.ReportMetric((after.Other.Sum-before.Other.Sum)/n, "other-ms/op")
			b.ReportMetric(after.PredictionError.Percentile(50), "%predicted-off")
			b.ReportMetric(32*n/wall.Seconds(), "pairs/s")
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkTokenizeBesideHuggingFace compares tokenising on one core with Hugging
// Face's tokenizers on the same pairs. MLXRANK_PYTHON names a Python interpreter
// with that package.
func BenchmarkTokenizeBesideHuggingFace(b *testing.B) {
	pairs := realPairs(b, 2000, 20)
	tok := openTokenizer(b, 512)
	p := newPipeline(settings{texts: pairEncoder{maxLength: 512, frame: tok.frame, encode: tok.encodePart}, workers: 1}, noBackend{})
	speed := 0.0
	for b.Loop() {
		before := cpuTime(b)
		if _, err := p.tokens(context.Background(), pairs); err != nil {
			b.Fatal(err)
		}
		speed = max(speed, float64(len(pairs))/(cpuTime(b)-before).Seconds())
	}
	b.ReportMetric(speed, "pairs/cpu-s")
	if err := p.close(); err != nil {
		b.Fatal(err)
	}
	if python := os.Getenv("MLXRANK_PYTHON"); python != "" {
		b.ReportMetric(huggingFaceSpeed(b, python, pairs), "HF-pairs/cpu-s")
	}
}

const huggingFaceScript = `
import json, sys, time
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
tokenizer.no_padding()
tokenizer.enable_truncation(512)
pairs = [tuple(pair) for pair in json.load(sys.stdin)]
best = 0
for _ in range(5):
    start = time.process_time()
    tokenizer.encode_batch(pairs)
    best = max(best, len(pairs) / (time.process_time() - start))
print(best)
`

func huggingFaceSpeed(b *testing.B, python string, pairs []Pair) float64 {
	b.Helper()
	list := make([][2]string, len(pairs))
	for i, p := range pairs {
		list[i] = [2]string{p.Query, p.Document}
	}
	input, err := json.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	command := exec.Command(python, "-c", huggingFaceScript, filepath.Join(builtin(b).Info().Dir, "tokenizer.json"))
	command.Env = append(os.Environ(), "TOKENIZERS_PARALLELISM=false")
	command.Stdin, command.Stderr = strings.NewReader(string(input)), os.Stderr
	out, err := command.Output()
	if err != nil {
		b.Fatal(err)
	}
	var speed float64
	if err := json.Unmarshal(out, &speed); err != nil {
		b.Fatal(err)
	}
	return speed
}
