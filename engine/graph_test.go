package engine

import (
	"os"
	"runtime"
	"testing"
)

// The suite runs a second time with MLXRANK_PLAIN_GRAPH=1: what computes must
// then be MLX itself, as on Metal, and else the kernels where there are any.
func TestGraphIsTheOneAskedFor(t *testing.T) {
	plain := os.Getenv("MLXRANK_PLAIN_GRAPH") == "1" || runtime.GOOS == "darwin"
	if kernels := builtin(t).Info().Kernels; (kernels == "MLX") != plain {
		t.Errorf("computed by %s; is the plain graph asked for: %v", kernels, plain)
	}
}
