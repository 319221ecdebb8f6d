package engine

import (
	"context"
	"os"
	"runtime"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

const plainGraphEnv = "MLXRANK_PLAIN_GRAPH"

// The suite runs a second time with MLXRANK_PLAIN_GRAPH=1: what computes must
// then be MLX itself, as on Metal, and else the kernels where there are any.
func TestGraphIsTheOneAskedFor(t *testing.T) {
	plain := os.Getenv(plainGraphEnv) == "1" || runtime.GOOS == "darwin"
	if kernels := builtin(t).Info().Kernels; (kernels == "MLX") != plain {
		t.Errorf("computed by %s; is the plain graph asked for: %v", kernels, plain)
	}
}

// What the two graphs may differ by in float32, in parts of the deviation.
const graphsApart = 1e-5

func TestGraphsAgree(t *testing.T) {
	for _, g := range tinyGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			model := openTiny(t, g)
			both := make([][]float32, 2)
			for i, plain := range []string{"0", "1"} {
				t.Setenv(plainGraphEnv, plain)
				both[i] = logitsOf(t, modelConfig(model.Config), model, mlx.Float32, g.tokens())
			}
			checkGraphsAgree(t, both[0], both[1])
		})
	}
	t.Run("builtin", func(t *testing.T) {
		pairs, _ := builtinGoldens(t)
		both := make([][]float32, 2)
		for i, plain := range []string{"0", "1"} {
			t.Setenv(plainGraphEnv, plain)
			e, err := Open(context.Background(), Config{Model: weights.Builtin, Device: "cpu"})
			if err != nil {
				t.Fatal(err)
			}
			result, err := e.Score(context.Background(), pairs[:100])
			if err != nil {
				t.Fatal(err)
			}
			both[i] = result.Logits
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		checkGraphsAgree(t, both[0], both[1])
	})
}

func checkGraphsAgree(t *testing.T, kernels, plain []float32) {
	t.Helper()
	off := worst(kernels, plain) / deviation(plain)
	t.Logf("apart by %.2g of the deviation", off)
	if off > graphsApart {
		t.Errorf("apart by %.2g of the deviation, want at most %g", off, graphsApart)
	}
	if runtime.GOOS != "darwin" && off == 0 {
		t.Error("the same to the last bit: one graph was compared with itself")
	}
}
