package engine

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// An activation is the output of a PyTorch module.
type activation struct {
	Shape  []int     `json:"shape"`
	Values []float32 `json:"values"`
}

// TestActivationsArePyTorchs compares the activations of both graphs with the
// outputs of PyTorch's modules, layer by layer. As a negative control, every activation
// must differ with other type ids.
func TestActivationsArePyTorchs(t *testing.T) {
	var file struct {
		Models []struct {
			tinyGolden
			Activations map[string]activation `json:"activations"`
		} `json:"models"`
	}
	readGolden(t, "activations.json.gz", &file)
	for _, g := range file.Models {
		for _, unfused := range []string{"0", "1"} {
			t.Run(g.Name+", unfused "+unfused, func(t *testing.T) {
				t.Setenv(unfusedGraphEnv, unfused)
				model, pair := openTiny(t, g.tinyGolden), g.tokens()[0]
				got := writtenActivations(t, model, pair)
				other := writtenActivations(t, model, Tokens{IDs: pair.IDs, TypeIDs: make([]int32, len(pair.IDs))})
				names := slices.Sorted(maps.Keys(g.Activations))
				if len(names) != 3+3*model.Config.Layers || !slices.Equal(slices.Sorted(maps.Keys(got)), names) {
					t.Fatalf("activations %q, want %q", slices.Sorted(maps.Keys(got)), names)
				}
				for _, name := range names {
					want := g.Activations[name]
					if !slices.Equal(got[name].Shape, want.Shape) {
						t.Fatalf("%s: shape %v, want %v", name, got[name].Shape, want.Shape)
					}
					size := rootMeanSquare(want.Values)
					if off := worst(got[name].Values, want.Values) / size; off > exactness {
						t.Errorf("%s: off by %.2g of its size, want at most %g", name, off, exactness)
					}
					if off := worst(other[name].Values, want.Values) / size; off <= exactness {
						t.Errorf("%s: off by %.2g of its size with other type ids, want more than %g", name, off, exactness)
					}
				}
			})
		}
	}
}

func rootMeanSquare(values []float32) float64 {
	sum := 0.0
	for _, v := range values {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(values)))
}

func writtenActivations(t *testing.T, model *weights.Model, pair Tokens) map[string]activation {
	t.Helper()
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	session, err := library.Open(modelConfig(model.Config), tensors(model.Tensors), mlx.Options{Device: testDevice(), DType: mlx.Float32})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pair.safetensors")
	if err := session.WriteActivations(path, pair.IDs, pair.TypeIDs); err != nil {
		t.Error(err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	return readActivations(t, path)
}

// readActivations reads a safetensors file of float32 tensors.
func readActivations(t *testing.T, path string) map[string]activation {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := 8 + int(binary.LittleEndian.Uint64(file))
	var header map[string]json.RawMessage
	if err := json.Unmarshal(file[8:end], &header); err != nil {
		t.Fatal(err)
	}
	delete(header, "__metadata__")
	activations := make(map[string]activation)
	for name, raw := range header {
		var entry struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &entry); err != nil || entry.DType != "F32" {
			t.Fatalf("%s: %s, %v", name, raw, err)
		}
		values := make([]float32, (entry.Offsets[1]-entry.Offsets[0])/4)
		if _, err := binary.Decode(file[end+entry.Offsets[0]:], binary.LittleEndian, values); err != nil {
			t.Fatal(err)
		}
		activations[name] = activation{entry.Shape, values}
	}
	return activations
}

// TestWriteActivations checks that WriteActivations computes the same logit as
// Score.
func TestWriteActivations(t *testing.T) {
	config := Config{Model: weights.Builtin, Device: "cpu"}
	pair := Pair{Query: "resize photos", Document: "An image editor."}
	path := filepath.Join(t.TempDir(), "pair.safetensors")
	if err := WriteActivations(t.Context(), config, pair, path); err != nil {
		t.Fatal(err)
	}
	result, err := builtin(t).Score(t.Context(), []Pair{pair})
	if err != nil {
		t.Fatal(err)
	}
	logit := readActivations(t, path)["classifier"].Values
	if len(logit) != 1 || math.Abs(float64(logit[0]-result.Logits[0])) > 1e-5 {
		t.Errorf("logit %v, want %v", logit, result.Logits)
	}
	if err := WriteActivations(t.Context(), config, pair, path+".npy"); err == nil {
		t.Error("WriteActivations accepted a path that does not end in .safetensors")
	}
}
