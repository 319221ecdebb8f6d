package engine

import (
	"cmp"
	"context"
	"os"
	"runtime"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

const unfusedGraphEnv = "MLXRANK_UNFUSED_GRAPH"

// The suite runs a second time with MLXRANK_UNFUSED_GRAPH=1, where MLX's own
// operations must compute, as on Metal. Otherwise our kernels must, if there are
// any.
func TestGraphIsTheOneAskedFor(t *testing.T) {
	unfused := cmp.Or(os.Getenv(unfusedGraphEnv), os.Getenv("MLXRANK_PLAIN_GRAPH")) == "1" || runtime.GOOS == "darwin"
	if kernels := builtin(t).Info().Kernels; (kernels == "MLX") != unfused {
		t.Errorf("computed by %s; unfused graph asked for: %v", kernels, unfused)
	}
}

// graphsApart is the largest allowed difference of the two graphs in float32, as a
// share of the deviation.
const graphsApart = 1e-5

func TestGraphsAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	for _, g := range tinyGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			model := openTiny(t, g)
			both := make([][]float32, 2)
			for i, unfused := range []string{"0", "1"} {
				t.Setenv(unfusedGraphEnv, unfused)
				both[i] = computeLogits(t, modelConfig(model.Config), model, mlx.Float32, g.tokens())
			}
			checkGraphsAgree(t, both[0], both[1])
		})
	}
	t.Run("builtin", func(t *testing.T) {
		pairs, _ := builtinGoldens(t)
		both := make([][]float32, 2)
		for i, unfused := range []string{"0", "1"} {
			t.Setenv(unfusedGraphEnv, unfused)
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

func checkGraphsAgree(t *testing.T, fused, unfused []float32) {
	t.Helper()
	off := worst(fused, unfused) / deviation(unfused)
	t.Logf("apart by %.2g of the deviation", off)
	if off > graphsApart {
		t.Errorf("apart by %.2g of the deviation, want at most %g", off, graphsApart)
	}
	if runtime.GOOS != "darwin" && off == 0 {
		t.Error("equal to the last bit, so the test compared one graph with itself")
	}
}
