package engine

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"gonum.org/v1/gonum/stat"

	"github.com/mlxrank/mlxrank/mlx"
)

// TestBuiltinInHalfPrecision bounds the loss of precision. Logits and order must
// be close to float32's, but not equal. If MLX's operations compute half precision
// on a CPU, which is slow, the log must have a warning.
func TestBuiltinInHalfPrecision(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	pairs, want := builtinGoldens(t)
	pairs, want = shortest(pairs, want, 48) // without bfloat16 GEMMs, two pairs take a second
	var log bytes.Buffer
	e, err := Open(context.Background(), Config{
		Model: "builtin", Device: Device(testDevice()), DType: DType(halfPrecision()), Logger: zerolog.New(zerolog.SyncWriter(&log)),
	})
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Score(context.Background(), pairs)
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	off, tau := worst(result.Logits, want)/deviation(want), stat.Kendall(float64s(result.Logits), float64s(want), nil)
	t.Logf("%s by %s: off by %.2g of the deviation, Kendall's tau %.4f", halfPrecision(), e.Info().Kernels, off, tau)
	if off > 0.05 || tau < 0.97 {
		t.Errorf("off by %.2g of the deviation and Kendall's tau %.4f, want at most 0.05 and at least 0.97", off, tau)
	}
	if off < 10*exactness {
		t.Errorf("as exact as float32, so %s was not used", halfPrecision())
	}
	slow := e.Info().Kernels == "MLX" && testDevice() == mlx.CPU
	if strings.Contains(log.String(), "float32 is faster") != slow {
		t.Errorf("computed by %s; the log says %q", e.Info().Kernels, log.String())
	}
}

func shortest(pairs []Pair, logits []float32, n int) ([]Pair, []float32) {
	order := make([]int, len(pairs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(pairs[a].Document) - len(pairs[b].Document) })
	var some []Pair
	var theirs []float32
	for _, i := range order[:n] {
		some, theirs = append(some, pairs[i]), append(theirs, logits[i])
	}
	return some, theirs
}

func float64s(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		if out[i] = float64(v); math.IsNaN(out[i]) {
			panic("NaN")
		}
	}
	return out
}
