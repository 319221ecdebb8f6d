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

	"github.com/mlxrank/mlxrank/mlx"
)

// TestBuiltinInHalfPrecision bounds the loss of precision. Logits and order must
// be close to float32's, but not equal, and no two may become equal. If MLX's operations
// compute half precision on a CPU, which is slow, the log must have a warning.
func TestBuiltinInHalfPrecision(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	pairs, want := builtinGoldens(t)
	var log bytes.Buffer
	e, err := Open(context.Background(), Config{
		Model: "builtin", Device: Device(testDevice()), DType: DType(halfPrecision()), Logger: zerolog.New(zerolog.SyncWriter(&log)),
	})
	if err != nil {
		t.Fatal(err)
	}
	slow := e.Info().Kernels == "MLX" && testDevice() == mlx.CPU
	if slow {
		pairs, want = shortest(pairs, want, 48) // two pairs take a second
	}
	result, err := e.Score(context.Background(), pairs)
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	r := rank(result.Logits, want, deviation(want))
	t.Logf("%s by %s, %d pairs: off by %.2g of the deviation, %d ties, Kendall's tau %.4f, %.0f %% of the best ten",
		halfPrecision(), e.Info().Kernels, r.pairs, r.off, r.ties, r.tau, 100*r.ten)
	if r.off > 0.05 || r.tau < 0.97 || r.ties > 0 {
		t.Errorf("off by %.2g of the deviation, Kendall's tau %.4f and %d ties, want at most 0.05, at least 0.97 and none", r.off, r.tau, r.ties)
	}
	if !slow && rank(inFloat16(result.Logits), want, 1).ties == 0 {
		t.Error("control: logits in float16, as if the pooler were computed in it, have no ties")
	}
	if r.off < 10*exactness {
		t.Errorf("as exact as float32, so %s was not used", halfPrecision())
	}
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
