package engine

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A quantizedGolden is a model that MLX has quantized, and NumPy's logits of it.
type quantizedGolden struct {
	tinyGolden
	Bits        int    `json:"bits"`
	GroupSize   int    `json:"group_size"`
	Safetensors []byte `json:"safetensors"`
	Want        logits `json:"logits"`

	Hashes map[string]string `json:"sha256"` // of the matrices
}

func quantizedGoldens(t *testing.T) []quantizedGolden {
	t.Helper()
	var golden struct {
		Models []quantizedGolden `json:"models"`
	}
	readGolden(t, filepath.Join("..", "..", "weights", "testdata", "quantized.json.gz"), &golden)
	if len(golden.Models) != 4 {
		t.Fatalf("%d models, want 4", len(golden.Models))
	}
	return golden.Models
}

// write writes the model as a directory of mlx-community.
func (g quantizedGolden) write(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	config := maps.Clone(g.Config)
	config["quantization"] = map[string]any{"group_size": g.GroupSize, "bits": g.Bits}
	weightstest.Write(t, dir, weightstest.Spec{Config: config, Seed: g.Seed})
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), g.Safetensors, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openAs opens a directory with weights in the given format.
func openAs(t *testing.T, dir string, opts weights.Options) *weights.Model {
	t.Helper()
	model, err := weights.Open(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := model.Close(); err != nil {
			t.Error(err)
		}
	})
	return model
}

// TestQuantizedMatchesMLX computes the models of the golden on both graphs: from small
// weights, and from what they are in float32.
func TestQuantizedMatchesMLX(t *testing.T) {
	for _, g := range quantizedGoldens(t) {
		dir, limit := g.write(t), exactness*deviation(g.Want)
		for _, graph := range []string{"0", "1"} {
			t.Setenv("MLXRANK_UNFUSED_GRAPH", graph)
			for _, format := range []weights.WeightFormat{weights.StoredWeights, weights.FloatWeights} {
				model := openAs(t, dir, weights.Options{Weights: format})
				got := tensorLogits(t, graphConfig(model), tensors(model.Tensors), mlx.Float32, g.tokens())
				if err := checkLogits(got, g.Want, limit); err != nil {
					t.Errorf("%d bits, groups of %d, weights %q, unfused %s: %v", g.Bits, g.GroupSize, format, graph, err)
				}
				if format == weights.FloatWeights {
					continue
				}
				swapped := tensors(model.Tensors)
				for i := range swapped {
					if swapped[i].DType == mlx.PackedUint32 {
						swapped[i+1].Data, swapped[i+2].Data = swapped[i+2].Data, swapped[i+1].Data
					}
				}
				if checkLogits(tensorLogits(t, graphConfig(model), swapped, mlx.Float32, g.tokens()), g.Want, limit) == nil {
					t.Errorf("control: %d bits pass with scales and biases swapped", g.Bits)
				}
			}
		}
		original := filepath.Join(t.TempDir(), "original")
		weightstest.Write(t, original, weightstest.Spec{Config: g.Config, Seed: g.Seed})
		model := openAs(t, original, weights.Options{})
		if checkLogits(computeLogits(t, modelConfig(model.Config), model, mlx.Float32, g.tokens()), g.Want, limit) == nil {
			t.Errorf("control: the original passes as the model of %d bits", g.Bits)
		}
	}
}

// TestQuantizedInFloat16 computes small weights as a GPU does it, in float16.
func TestQuantizedInFloat16(t *testing.T) {
	for _, g := range quantizedGoldens(t) {
		model := openAs(t, g.write(t), weights.Options{})
		got := tensorLogits(t, graphConfig(model), tensors(model.Tensors), mlx.Float16, g.tokens())
		if off := worst(got, g.Want) / deviation(g.Want); off > tolerance(Int8W) || off < exactness {
			t.Errorf("%d bits, groups of %d: off by %.2g of the deviation, want at most %g, and more than float32", g.Bits, g.GroupSize, off, tolerance(Int8W))
		}
	}
}

// TestQuantizedEncoders opens tiny models of every architecture with small weights, and
// computes them on both graphs, which read small weights in ways of their own. The logits
// must equal the logits of the same weights in float32, and differ from the original's.
func TestQuantizedEncoders(t *testing.T) {
	tried := map[string]int{}
	for i, g := range encoderGoldens(t, "encoders.json.gz", 20) {
		if testing.Short() && i%3 != 0 || refusedEncoders[g.Name] != "" {
			continue
		}
		dir := t.TempDir()
		g.Write(t, dir)
		m := g.half(openAs(t, dir, weights.Options{}), 3e8)
		for _, format := range []weights.WeightFormat{weights.Int8Weights, weights.Int4Weights} {
			small, err := weights.Open(t.Context(), dir, weights.Options{Weights: format})
			if err != nil {
				if !strings.Contains(err.Error(), "group size 32 does not divide") {
					t.Errorf("%s: %v", g.Name, err)
				}
				continue
			}
			copied := filepath.Join(t.TempDir(), "copy")
			if err := errors.Join(small.Write(copied, nil), small.Close()); err != nil {
				t.Fatalf("%s: %v", g.Name, err)
			}
			wide := openAs(t, copied, weights.Options{Weights: weights.FloatWeights})
			want := computeLogits(t, modelConfig(wide.Config), wide, mlx.Float32, m.tokens)
			packed := openAs(t, copied, weights.Options{})
			for _, graph := range graphs() {
				t.Setenv(unfusedGraphEnv, graph)
				got := tensorLogits(t, graphConfig(packed), tensors(packed.Tensors), mlx.Float32, m.tokens)
				if err := checkLogits(got, want, exactness*m.deviation); err != nil {
					t.Errorf("%s, %s, unfused %s: %v", g.Name, format, graph, err)
				}
				if off := worst(got, m.want) / m.deviation; off < exactness {
					t.Errorf("%s, %s: off by %.2g of the deviation from the original, as if nothing was quantized", g.Name, format, off)
				}
			}
			t.Setenv(unfusedGraphEnv, "0")
			tried[g.architecture()]++
		}
	}
	t.Logf("formats computed, by architecture: %v", tried)
	if len(tried) < 5 {
		t.Errorf("only %v have rows that are multiples of 32", tried)
	}
}
