package engine

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// wantedVariants returns the variants that the library must have for a model of this
// head size. MLXRANK_TEST_EMULATOR=1 says that the library emulates the Metal kernels.
func wantedVariants(c mlx.ModelConfig) []string {
	headSize := c.HiddenSize / c.Heads
	want := []string{"reference"}
	pads := headSize < 64 && c.HiddenSize >= 64-headSize
	if pads {
		want = append(want, "qpad")
	}
	if os.Getenv("MLXRANK_TEST_EMULATOR") == "1" {
		want = append(want, "kernels")
		if pads {
			want = append(want, "qpad-kernels")
		}
		if headSize == 32 || headSize == 64 {
			want = append(want, "packed")
		}
	}
	return want
}

// checkVariants compares the logits of every variant of the model with PyTorch's, and
// a control of each.
func checkVariants(t *testing.T, model *weights.Model, tokens []Tokens, want []float32) {
	t.Helper()
	t.Setenv("MLXRANK_UNFUSED_GRAPH", "1")
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	config := modelConfig(model.Config)
	opened, err := library.OpenModel(config, tensors(model.Tensors), mlx.Options{Device: mlx.CPU, DType: mlx.Float32})
	if err != nil {
		t.Fatal(err)
	}
	defer closeModel(t, opened)
	variants, err := opened.Variants()
	if err != nil {
		t.Fatal(err)
	}
	if wanted := wantedVariants(config); !slices.Equal(variants, wanted) {
		t.Fatalf("variants %s, want %s", strings.Join(variants, ", "), strings.Join(wanted, ", "))
	}
	for _, variant := range variants {
		got := variantLogits(t, opened, variant, config.Labels, tokens)
		if err := checkLogits(got, want, exactness*deviation(want)); err != nil {
			t.Errorf("%s: %v", variant, err)
		}
		t.Logf("%s: off by %.2g of the deviation, tolerance %g", variant, worst(got, want)/deviation(want), exactness)
		swapped := make([]Tokens, len(tokens))
		for i := range tokens {
			swapped[i] = swap(tokens[i])
		}
		bad := variantLogits(t, opened, variant, config.Labels, swapped)
		if checkLogits(bad, want, exactness*deviation(want)) == nil {
			t.Errorf("%s: control: swapped pairs pass the check", variant)
		}
	}
}

func variantLogits(t *testing.T, model *mlx.Model, variant string, labels int, tokens []Tokens) []float32 {
	t.Helper()
	session, err := model.Open(mlx.Options{Variant: variant})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}()
	return sessionLogits(t, session, labels, tokens, schedule.DefaultLimits(false))
}

func TestVariantsMatchPyTorch(t *testing.T) {
	for _, g := range tinyGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			tokens, want := g.short(256)
			checkVariants(t, openTiny(t, g), tokens, want)
		})
	}
	if testing.Short() {
		return // models of usual sizes take minutes in the emulator
	}
	var file struct {
		Models []tinyGolden `json:"models"`
	}
	readGolden(t, "family.json.gz", &file)
	for _, g := range file.Models {
		t.Run(g.Name, func(t *testing.T) {
			tokens, want := g.short(64)
			checkVariants(t, openTiny(t, g), tokens, want)
		})
	}
	t.Run("builtin", func(t *testing.T) {
		pairs, want := builtinGoldens(t)
		pairs, want = everyNth(pairs, 20), everyNth(want, 20)
		tokens, err := builtin(t).Tokenize(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		checkVariants(t, openModel(t, weights.Builtin), tokens, want)
	})
}

func everyNth[T any](s []T, n int) []T {
	var out []T
	for i := 0; i < len(s); i += n {
		out = append(out, s[i])
	}
	return out
}
