package weights

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// mergeTolerance is the largest allowed difference between a merged weight and
// PEFT's: a few units in the last place of values around 1, since the order of
// summation is free.
const mergeTolerance = 1e-6

// peftBase writes the base model of the adapters in testdata/peft.
func peftBase(t *testing.T) string {
	t.Helper()
	var about struct {
		Seed   uint64
		SHA256 string
		Config map[string]any
	}
	if err := json.Unmarshal(readFile(t, "testdata/peft/base.json"), &about); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "base")
	weightstest.Write(t, dir, weightstest.Spec{Config: about.Config, Seed: about.Seed})
	if got := sum(readFile(t, filepath.Join(dir, weightsFile))); got != about.SHA256 {
		t.Fatalf("the base's weights have sha256 %s, want %s", got, about.SHA256)
	}
	return dir
}

// peftDifference opens base with an adapter and returns the greatest difference
// from PEFT's merged tensors, or from the base's where PEFT changed nothing.
func peftDifference(t *testing.T, base, adapter, merged string) float64 {
	t.Helper()
	want := map[string]Tensor{}
	for _, tensor := range openModel(t, base, Options{}).Tensors {
		want[tensor.Name] = tensor
	}
	changed, err := parseSafetensors(readFile(t, merged))
	if err != nil {
		t.Fatal(err)
	}
	if len(changed) == 0 {
		t.Fatalf("%s is empty", merged)
	}
	for _, tensor := range changed {
		want[tensor.Name] = tensor
	}
	d := 0.0
	for _, got := range openModel(t, base, Options{Adapter: adapter}).Tensors {
		d = max(d, worst(t, floats(got), floats(want[got.Name])))
	}
	return d
}

// TestMergeEqualsPEFT merges adapters that PEFT saved and compares the result
// with PEFT's own merge. Adapters with changed settings must fail.
func TestMergeEqualsPEFT(t *testing.T) {
	t.Parallel()
	base := peftBase(t)
	configs, err := filepath.Glob("testdata/peft/*/" + adapterConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(configs) < 9 {
		t.Fatalf("%d adapters in testdata/peft, want at least 9", len(configs))
	}
	for _, config := range configs {
		dir := filepath.Dir(config)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			merged := filepath.Join(dir, "merged.safetensors")
			d := peftDifference(t, base, dir, merged)
			t.Logf("worst difference %g", d)
			if d > mergeTolerance {
				t.Errorf("differs from PEFT by %g, want at most %g", d, mergeTolerance)
			}
			var settings map[string]any
			if err := json.Unmarshal(readFile(t, config), &settings); err != nil {
				t.Fatal(err)
			}
			alpha, ok := settings["lora_alpha"].(float64)
			if !ok {
				t.Fatalf("lora_alpha is %v", settings["lora_alpha"])
			}
			controls := map[string]any{"lora_alpha": 1.001 * alpha, "use_rslora": settings["use_rslora"] != true}
			if filepath.Base(dir) == "patterns" {
				controls["alpha_pattern"] = map[string]any{}
			}
			for key, value := range controls {
				wrong := t.TempDir()
				if err := os.CopyFS(wrong, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				was := settings[key]
				settings[key] = value
				weightstest.WriteJSON(t, filepath.Join(wrong, adapterConfigFile), settings)
				settings[key] = was
				if d := peftDifference(t, base, wrong, merged); d < 10*mergeTolerance {
					t.Errorf("with %s %v the merge still equals PEFT's (difference %g)", key, value, d)
				}
			}
		})
	}
}

// A sample summarizes a large tensor that PEFT merged.
type sample struct {
	Name    string
	Shape   []int
	Sum     float64
	AbsSum  float64 `json:"abs_sum"`
	Indexes []int
	Values  []float32
}

// difference compares a tensor with the sample. It returns the greatest
// difference of a value, the mean or the mean magnitude.
func (s sample) difference(t *testing.T, tensor Tensor) float64 {
	t.Helper()
	if !slices.Equal(tensor.Shape, s.Shape) || len(s.Indexes) == 0 || len(s.Indexes) != len(s.Values) {
		t.Fatalf("%s has shape %v, want %v; %d indexes, %d values", s.Name, tensor.Shape, s.Shape, len(s.Indexes), len(s.Values))
	}
	got, total, magnitude, d := floats(tensor), 0.0, 0.0, 0.0
	for i, index := range s.Indexes {
		d = max(d, math.Abs(float64(got[index])-float64(s.Values[i])))
	}
	for _, v := range got {
		total += float64(v)
		magnitude += math.Abs(float64(v))
	}
	n := float64(len(got))
	return max(d, math.Abs(total-s.Sum)/n, math.Abs(magnitude-s.AbsSum)/n)
}

// readGoldenFile reads a compressed JSON file.
func readGoldenFile(t testing.TB, path string, to any) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(readFile(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(to); err != nil {
		t.Fatal(err)
	}
}

// TestBuiltinEqualsPEFT compares the built-in model with PEFT's merge of the
// same encoder and adapter.
func TestBuiltinEqualsPEFT(t *testing.T) {
	t.Parallel()
	var golden struct {
		BaseSHA256 string `json:"base_sha256"`
		Tensors    []sample
	}
	readGoldenFile(t, "testdata/builtin_merged.json.gz", &golden)
	m := openModel(t, Builtin, Options{})
	encoder := &Model{}
	file, err := encoder.mapFile(filepath.Join(m.Dir, weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer closeModel(t, encoder)
	if got := sum(encoder.owned[0]); got != golden.BaseSHA256 {
		t.Fatalf("the encoder's weights have sha256 %s, want %s", got, golden.BaseSHA256)
	}
	if len(golden.Tensors) < 36 {
		t.Fatalf("%d tensors in the golden file, want at least 36", len(golden.Tensors))
	}
	before := map[string]Tensor{}
	for _, tensor := range file.tensors {
		before[tensor.Name] = tensor
	}
	merged := map[string]sample{}
	for _, s := range golden.Tensors {
		merged[s.Name] = s
	}
	most := 0.0
	for _, tensor := range m.Tensors {
		s, ok := merged[tensor.Name]
		if !ok {
			if d := worst(t, floats(tensor), floats(before[tensor.Name])); d != 0 {
				t.Errorf("%s differs from the encoder's by %g, but PEFT does not change it", tensor.Name, d)
			}
			continue
		}
		delete(merged, tensor.Name)
		d := s.difference(t, tensor)
		if most = max(most, d); d > mergeTolerance {
			t.Errorf("%s differs from PEFT's by %g, want at most %g", tensor.Name, d, mergeTolerance)
		}
		if old, ok := before[tensor.Name]; ok && s.difference(t, old) < 1000*mergeTolerance {
			t.Errorf("%s equals the encoder's, want a merged tensor", tensor.Name)
		}
	}
	t.Logf("worst difference %g", most)
	for name := range merged {
		t.Errorf("the model has no %s", name)
	}
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
