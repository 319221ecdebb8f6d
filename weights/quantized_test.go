package weights

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A quantizedGolden is a model that MLX has quantized, and what MLX makes of it.
type quantizedGolden struct {
	Bits        int                `json:"bits"`
	GroupSize   int                `json:"group_size"`
	Scales      string             `json:"scales"`
	Config      map[string]any     `json:"config"`
	Seed        uint64             `json:"seed"`
	Safetensors []byte             `json:"safetensors"`
	SHA256      map[string]string  `json:"sha256"` // of the matrices in float32
	Error       map[string]float64 `json:"error"`  // mean square, of each matrix
}

func quantizedGoldens(t testing.TB) []quantizedGolden {
	t.Helper()
	var golden struct {
		Models []quantizedGolden `json:"models"`
	}
	readGoldenFile(t, "testdata/quantized.json.gz", &golden)
	if len(golden.Models) != 4 {
		t.Fatalf("%d models, want 4", len(golden.Models))
	}
	return golden.Models
}

// write writes the model as a directory of mlx-community.
func (g quantizedGolden) write(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	config := maps.Clone(g.Config)
	config["quantization"] = map[string]any{"group_size": g.GroupSize, "bits": g.Bits, "mode": "affine"}
	config["quantization_config"] = config["quantization"]
	weightstest.Write(t, dir, weightstest.Spec{Config: config, Seed: g.Seed})
	weightstest.WriteFile(t, filepath.Join(dir, weightsFile), g.Safetensors)
	return dir
}

// hashes returns the hash of each matrix of a model in float32.
func hashes(m *Model) map[string]string {
	found := map[string]string{}
	for _, t := range m.Tensors {
		if len(t.Shape) == 2 {
			sum := sha256.Sum256(t.Data)
			found[t.Name] = hex.EncodeToString(sum[:])
		}
	}
	return found
}

// TestDequantizedIsMLXs opens what MLX has quantized as float32: each matrix has the bits
// that mx.dequantize makes.
func TestDequantizedIsMLXs(t *testing.T) {
	t.Parallel()
	for _, g := range quantizedGoldens(t) {
		m := openModel(t, g.write(t), Options{Weights: FloatWeights})
		if found := hashes(m); !maps.Equal(found, g.SHA256) {
			t.Errorf("%d bits, groups of %d: matrices are %v, MLX's %v", g.Bits, g.GroupSize, found, g.SHA256)
		}
		if m.Quantization != (Quantization{}) {
			t.Errorf("Quantization is %v, want none", m.Quantization)
		}
	}
}

// TestDequantizedControls swaps scales and biases, and the halves of bytes: no matrix may
// then be MLX's.
func TestDequantizedControls(t *testing.T) {
	t.Parallel()
	for _, g := range quantizedGoldens(t) {
		for name, edit := range map[string]func(tensors []Tensor){
			"scales and biases swapped": func(tensors []Tensor) {
				for i := range tensors {
					if module, ok := strings.CutSuffix(tensors[i].Name, ".scales"); ok {
						tensors[i].Name = module + ".biases"
					} else if module, ok := strings.CutSuffix(tensors[i].Name, ".biases"); ok {
						tensors[i].Name = module + ".scales"
					}
				}
			},
			"numbers in another order": func(tensors []Tensor) {
				for _, tensor := range tensors {
					if tensor.DType == U32 {
						for i := 0; i+1 < len(tensor.Data); i += 2 {
							tensor.Data[i], tensor.Data[i+1] = tensor.Data[i+1], tensor.Data[i]
						}
					}
				}
			},
		} {
			dir := g.write(t)
			tensors, err := parseSafetensors(slices.Clone(g.Safetensors))
			if err != nil {
				t.Fatal(err)
			}
			edit(tensors)
			weightstest.WriteFile(t, filepath.Join(dir, weightsFile), weightstest.Encode(asTest(tensors)))
			for matrix, hash := range hashes(openModel(t, dir, Options{Weights: FloatWeights})) {
				if hash == g.SHA256[matrix] {
					t.Errorf("%s, %d bits: %s has the right hash", name, g.Bits, matrix)
				}
			}
		}
	}
}

func asTest(tensors []Tensor) []weightstest.Tensor {
	var out []weightstest.Tensor
	for _, t := range tensors {
		out = append(out, weightstest.Tensor{Name: t.Name, DType: string(t.DType), Shape: t.Shape, Data: t.Data})
	}
	return out
}

// TestStoredSmallWeights opens what MLX has quantized as it is stored. What the graph
// does not read as small weights is in float32.
func TestStoredSmallWeights(t *testing.T) {
	t.Parallel()
	for _, g := range quantizedGoldens(t) {
		stored, err := parseSafetensors(g.Safetensors)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []WeightFormat{StoredWeights, Quantization{Bits: g.Bits}.Format()} {
			m := openModel(t, g.write(t), Options{Weights: format})
			if want := (Quantization{g.Bits, g.GroupSize}); m.Quantization != want {
				t.Errorf("Quantization is %v, want %v", m.Quantization, want)
			}
			for _, tensor := range m.Tensors {
				small := strings.HasPrefix(tensor.Name, "encoder.") || strings.HasPrefix(tensor.Name, "embeddings.word")
				if len(tensor.Shape) == 2 && (tensor.DType == U32) != (small && strings.HasSuffix(tensor.Name, ".weight")) {
					t.Errorf("%s is %s", tensor.Name, tensor.DType)
				}
				if i := slices.IndexFunc(stored, func(s Tensor) bool { return s.Name == tensor.Name }); tensor.DType == U32 && string(stored[i].Data) != string(tensor.Data) {
					t.Errorf("%s is not as stored", tensor.Name)
				}
			}
		}
		other := Int8Weights
		if g.Bits == 8 {
			other = Int4Weights
		}
		_, err = Open(t.Context(), g.write(t), Options{Weights: other})
		wantError(t, err, "its weights are int", string(other))
		adapter := filepath.Join(t.TempDir(), "adapter")
		weightstest.WriteAdapter(t, adapter, weightstest.AdapterConfig(2, 4), weightstest.LoRA(weightstest.Spec{Config: g.Config}, 2, 1))
		_, err = Open(t.Context(), g.write(t), Options{Adapter: adapter})
		wantError(t, err, "no adapter is merged", adapter, "model quantize --adapter")
	}
}

// TestQuantizedIsAsNearAsMLXs quantizes the original: the mean square error of no matrix
// is more than a hundredth greater than MLX's.
func TestQuantizedIsAsNearAsMLXs(t *testing.T) {
	t.Parallel()
	for _, g := range quantizedGoldens(t) {
		dir := filepath.Join(t.TempDir(), "original")
		weightstest.Write(t, dir, weightstest.Spec{Config: g.Config, Seed: g.Seed})
		original := openModel(t, dir, Options{})
		q := Quantization{g.Bits, g.GroupSize}
		m := openModel(t, dir, Options{Weights: q.Format(), GroupSize: q.GroupSize})
		if m.Quantization != q || m.Parameters != original.Parameters {
			t.Errorf("Quantization is %v with %d parameters, want %v with %d", m.Quantization, m.Parameters, q, original.Parameters)
		}
		for i, tensor := range m.Tensors {
			if tensor.DType != U32 {
				continue
			}
			exact := values(t, original, tensor.Name)
			p := &packedMatrix{Quantization: q, rows: tensor.Shape[0], cols: len(exact) / tensor.Shape[0], numbers: tensor.Data, scales: m.Tensors[i+1], biases: m.Tensors[i+2]}
			got := make([]float32, len(exact))
			if err := p.dequantize(got); err != nil {
				t.Fatal(err)
			}
			square := 0.0
			for k := range got {
				square += math.Pow(float64(got[k]-exact[k]), 2) / float64(len(got))
			}
			if square > 1.01*g.Error[tensor.Name] || square == 0 {
				t.Errorf("%d bits, groups of %d: %s has a mean square error of %.4g, MLX's %.4g", g.Bits, g.GroupSize, tensor.Name, square, g.Error[tensor.Name])
			}
		}
	}
}

func TestQuantizeConstantsAndExtremes(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{8, 4} {
		for name, group := range map[string][]float32{
			"zeros": make([]float32, 32), "ones": slices.Repeat([]float32{1}, 32), "small": slices.Repeat([]float32{1e-9, -1e-9}, 16),
			"negative": slices.Repeat([]float32{-0.3, -0.2}, 16), "one outlier": append(slices.Repeat([]float32{0.01}, 31), 100),
		} {
			p := &packedMatrix{Quantization: Quantization{bits, 32}, rows: 1, cols: 32, numbers: make([]byte, 32*bits/8),
				scales: Tensor{DType: F16, Data: make([]byte, 2)}, biases: Tensor{DType: F16, Data: make([]byte, 2)}}
			exact := Tensor{DType: F32, Data: weightstest.F32("w", []int{1, 32}, group).Data}
			got := make([]float32, 32)
			if err := p.quantize(exact); err != nil {
				t.Fatal(err)
			}
			if err := p.dequantize(got); err != nil {
				t.Fatal(err)
			}
			low, high := slices.Min(group), slices.Max(group)
			// Half a step, and the rounding of the scale and the bias to float16.
			limit := float64(high-low)/float64(int(1)<<bits-1)*0.51 + math.Max(math.Abs(float64(low)), math.Abs(float64(high)))/1024 + 1e-7
			if off := worst(t, got, group); off > limit {
				t.Errorf("%s, %d bits: off by %.3g, want at most %.3g", name, bits, off, limit)
			}
		}
	}
	p := &packedMatrix{Quantization: Quantization{8, 32}, rows: 1, cols: 32, numbers: make([]byte, 32),
		scales: Tensor{DType: F16, Data: make([]byte, 2)}, biases: Tensor{DType: F16, Data: make([]byte, 2)}}
	err := p.quantize(Tensor{DType: F32, Data: weightstest.F32("w", []int{1, 32}, slices.Repeat([]float32{1e6, -1}, 16)).Data})
	wantError(t, err, "row 0", "float16")
}

func TestToF16(t *testing.T) {
	t.Parallel()
	for h := range 1 << 16 {
		f := fromF16(uint16(h))
		if back := toF16(f); back != uint16(h) && f == f {
			t.Fatalf("%#04x is %v and then %#04x", h, f, back)
		}
	}
	for f, want := range map[float32]uint16{
		1.00048828125: 0x3c00, 1.00146484375: 0x3c02, 65519: 0x7bff, 65520: 0x7c00, 1e-8: 0, -1e-7: 0x8002, 2.98e-8: 0, 2.99e-8: 1,
	} {
		if got := toF16(f); got != want {
			t.Errorf("%v is %#04x, want %#04x", f, got, want)
		}
	}
}

// TestBadQuantizedDirectories checks the errors about tensors that do not fit.
func TestBadQuantizedDirectories(t *testing.T) {
	t.Parallel()
	g := quantizedGoldens(t)[0]
	const query = "encoder.layer.0.attention.self.query"
	drop := func(tensors []Tensor, name string) []Tensor {
		return slices.DeleteFunc(tensors, func(t Tensor) bool { return t.Name == name })
	}
	for _, test := range []struct {
		name   string
		config map[string]any // instead of the golden's quantization
		edit   func([]Tensor) []Tensor
		want   []string
	}{
		{name: "no quantization", config: map[string]any{"quantization": nil, "quantization_config": nil}, want: []string{"U32", "config.json has no \"quantization\""}},
		{name: "other bits", config: map[string]any{"quantization": map[string]any{"bits": 4, "group_size": 64}}, want: []string{"shape [128 16], expected [128 8]", "4 bits"}},
		{name: "other groups", config: map[string]any{"quantization": map[string]any{"bits": 8, "group_size": 32}}, want: []string{"scales", "shape [128 1], expected [128 2]"}},
		{name: "no scales", edit: func(t []Tensor) []Tensor { return drop(t, query+".scales") }, want: []string{query + ".weight", "its scales are missing", query + ".scales"}},
		{name: "no biases", edit: func(t []Tensor) []Tensor { return drop(t, query+".biases") }, want: []string{query + ".weight", "its biases are missing"}},
		{name: "NaN", edit: func(tensors []Tensor) []Tensor {
			i := slices.IndexFunc(tensors, func(t Tensor) bool { return t.Name == query+".scales" })
			tensors[i].Data[1] = 0x7f
			tensors[i].Data[0] = 0xff
			return tensors
		}, want: []string{query + ".scales", "NaN"}},
		{name: "scales in integers", edit: func(tensors []Tensor) []Tensor {
			i := slices.IndexFunc(tensors, func(t Tensor) bool { return t.Name == query+".scales" })
			tensors[i].DType = "U16"
			return tensors
		}, want: []string{query + ".scales", "dtype U16"}},
		{name: "one layer in floating point", edit: func(tensors []Tensor) []Tensor {
			tensors = drop(drop(tensors, query+".scales"), query+".biases")
			i := slices.IndexFunc(tensors, func(t Tensor) bool { return t.Name == query+".weight" })
			tensors[i] = Tensor{Name: query + ".weight", DType: F16, Shape: []int{64, 64}, Data: make([]byte, 2*64*64)}
			return tensors
		}, want: []string{query + ".weight", "other layers have int8w weights", "--dtype"}},
	} {
		dir := g.write(t)
		if test.config != nil {
			config := maps.Clone(g.Config)
			maps.Copy(config, test.config)
			weightstest.Write(t, dir, weightstest.Spec{Config: config, Seed: g.Seed})
			weightstest.WriteFile(t, filepath.Join(dir, weightsFile), g.Safetensors)
		}
		if test.edit != nil {
			tensors, err := parseSafetensors(slices.Clone(g.Safetensors))
			if err != nil {
				t.Fatal(err)
			}
			weightstest.WriteFile(t, filepath.Join(dir, weightsFile), weightstest.Encode(asTest(test.edit(tensors))))
		}
		_, err := Open(t.Context(), dir, Options{})
		wantError(t, err, test.want...)
	}
	dir := tinyDir(t) // rows of 8 numbers
	_, err := Open(t.Context(), dir, Options{Weights: Int8Weights})
	wantError(t, err, "group size 32 does not divide its 8 columns", "word_embeddings")
	_, err = Open(t.Context(), dir, Options{Weights: Int8Weights, GroupSize: 48})
	wantError(t, err, "group_size is 48")
}

// TestLayersOutOfQuantization reads the entries that mlx-lm writes for single layers.
func TestLayersOutOfQuantization(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"bits":8}`: "", `{"bits":8,"group_size":32,"mode":"affine","a.b":false,"c":true}`: "",
		`{"bits":8,"group_size":64,"a.b":{"bits":8,"group_size":64}}`:    "",
		`{"bits":4,"group_size":64,"a.b":{"bits":8,"group_size":64}}`:    `layer "a.b" has bits 8`,
		`{"bits":4,"group_size":64,"a.b":{"mode":"mxfp4"}}`:              `"mxfp4"`,
		`{"bits":4,"group_size":64,"a.b":3}`:                             `field "a.b" is unknown`,
		`{"bits":4,"group_size":64,"quant_method":"compressed-tensors"}`: `quant_method "compressed-tensors"`,
	} {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			t.Fatal(err)
		}
		_, err := parseQuantization(fields)
		if want == "" && err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if want != "" {
			wantError(t, err, want)
		}
	}
}

// TestWriteOnce refuses to write what was read with small weights, by whatever options.
func TestWriteOnce(t *testing.T) {
	t.Parallel()
	for _, g := range quantizedGoldens(t) {
		q := Quantization{g.Bits, g.GroupSize}
		for _, opts := range []Options{{}, {Weights: q.Format()}, {Weights: q.Format(), GroupSize: 96 - g.GroupSize}} {
			dir := t.TempDir()
			m := openModel(t, g.write(t), opts)
			wantError(t, m.Write(dir, nil), m.Ref, string(q.Format()), fmt.Sprintf("groups of %d already", g.GroupSize), "quantize the original")
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		}
	}
}

// TestWriteToFullDisk names the file and the cause once.
func TestWriteToFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "full")
	full := &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	err := writeFile(path, func(w io.Writer) error {
		// A bufio.Writer keeps the error of its file for Flush.
		buffer := w.(*bufio.Writer)
		buffer.Reset(failingWriter{full})
		_, err := buffer.Write(make([]byte, 2<<20))
		return err
	})
	if err == nil || err.Error() != full.Error() {
		t.Errorf("got %v, want %v", err, full)
	}
}

// A failingWriter fails with err.
type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }
