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
// head size, if its layers are BERT's. MLXRANK_TEST_EMULATOR=1 says that the library
// emulates the Metal kernels.
func wantedVariants(c mlx.ModelConfig) []string {
	headSize := c.HiddenSize / c.Heads
	want := []string{"reference"}
	if c.PreNorm || c.Gated || c.Window > 0 || c.RopeBase > 0 {
		return want
	}
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
		bad := variantLogits(t, opened, variant, config.Labels, swapped(tokens))
		if checkLogits(bad, want, exactness*deviation(want)) == nil {
			t.Errorf("%s: control: swapped pairs pass the check", variant)
		}
	}
}

// swapped returns pairs with query and document exchanged. In pairs of one type id
// nothing shows where the document begins, so it reverses their ids.
func swapped(tokens []Tokens) []Tokens {
	out := reversed(tokens)
	for i, pair := range tokens {
		if slices.Contains(pair.TypeIDs, 1) {
			out[i] = swap(pair)
		}
	}
	return out
}

// reversed returns pairs with the ids in the other order. Type ids stay, since not every
// model has two.
func reversed(tokens []Tokens) []Tokens {
	out := slices.Clone(tokens)
	for i := range out {
		out[i].IDs = slices.Clone(out[i].IDs)
		slices.Reverse(out[i].IDs)
	}
	return out
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
	for i, g := range encoderGoldens(t, "encoders.json.gz", 20) {
		if _, refused := refusedEncoders[g.Name]; refused || testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(g.Name, func(t *testing.T) {
			tokens, want := firstPairs(g.tokens(), g.Logits["float32"], 64)
			checkVariants(t, g.open(t), tokens, want)
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
