package bench

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench"
)

func TestBenchLogLine(t *testing.T) {
	var out bytes.Buffer
	p := newBenchProgress(&out)
	p.log = zerolog.New(&out)
	if p.bar != nil || p.every() != 10*time.Second || p.w != io.Writer(&out) {
		t.Error("a bar without a terminal")
	}
	p.show(bench.Progress{Step: 2, Steps: 9, Label: "x", Done: 3, Total: 100, PairsPerS: 113.94, P50: math.NaN(), P95: math.NaN(), Left: -1})
	p.show(bench.Progress{Step: 2, Steps: 9, Label: "x", Done: 4, Total: 100, PairsPerS: 113.94, P50: 280.34, P95: 299.5, Left: 90 * time.Second})
	p.end()
	want := []string{
		`{"level":"info","step":2,"steps":9,"point":"x","requests":3,"throughput_pairs_s":113.9,"message":"progress"}`,
		`{"level":"info","step":2,"steps":9,"point":"x","requests":4,"throughput_pairs_s":113.9,"latency_p50_ms":280.3,"latency_p95_ms":299.5,"eta_s":90,"message":"progress"}`,
	}
	if got := strings.Split(strings.TrimSpace(out.String()), "\n"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	text := barText(bench.Progress{Step: 2, Steps: 9, Label: "x", PairsPerS: 113.94, P50: 280.34, P95: 299.5, Left: 90 * time.Second})
	if text != "2/9 x: 113.9 pairs/s, P50 280.3 ms P95 299.5 ms, ETA 1m30s" {
		t.Errorf("%q", text)
	}
}
