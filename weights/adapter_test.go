package weights

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

const queryA = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"

// adapterDir writes an adapter of rank 3 for the tiny model.
func adapterDir(t testing.TB, changes map[string]any, edit func([]weightstest.Tensor) []weightstest.Tensor) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	config := weightstest.AdapterConfig(3, 6)
	maps.Copy(config, changes)
	tensors := weightstest.LoRA(tinySpec(), 3, 11)
	if edit != nil {
		tensors = edit(tensors)
	}
	weightstest.WriteAdapter(t, dir, config, tensors)
	return dir
}

// reference returns base + scale*b@a for a module of the tiny model, computed
// in float64.
func reference(t testing.TB, module string, scale float64) []float32 {
	t.Helper()
	get := func(tensors []weightstest.Tensor, name string) []float32 {
		return floats(Tensor{DType: F32, Data: find(t, tensors, name).Data})
	}
	lora := weightstest.LoRA(tinySpec(), 3, 11)
	base := get(weightstest.Tensors(tinySpec()), module+".weight")
	a := get(lora, peftPrefix+"bert."+module+".lora_A.weight")
	b := get(lora, peftPrefix+"bert."+module+".lora_B.weight")
	out := make([]float32, len(base))
	for o := range 8 {
		for i := range 8 {
			sum := 0.0
			for k := range 3 {
				sum += float64(b[o*3+k]) * float64(a[k*8+i])
			}
			out[o*8+i] = float32(float64(base[o*8+i]) + scale*sum)
		}
	}
	return out
}

const (
	query0 = "encoder.layer.0.attention.self.query"
	query1 = "encoder.layer.1.attention.self.query"
	value0 = "encoder.layer.0.attention.self.value"
)

// TestAdapterScale checks the scale that each setting gives the update.
func TestAdapterScale(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		changes map[string]any
		want    map[string]float64
	}{
		{"alpha over rank", nil, map[string]float64{query0: 2, query1: 2, value0: 2}},
		{"rank-stabilised", map[string]any{"use_rslora": true}, map[string]float64{query0: 6 / math.Sqrt(3)}},
		{"fan_in_fan_out is reset for dense layers", map[string]any{"fan_in_fan_out": true}, map[string]float64{query0: 2}},
		{"alpha pattern by suffix", map[string]any{"alpha_pattern": map[string]any{"query": 9}}, map[string]float64{query0: 3, query1: 3, value0: 2}},
		{"alpha pattern by name", map[string]any{"alpha_pattern": map[string]any{"bert.encoder.layer.0.attention.self.query": 9}}, map[string]float64{query0: 3, query1: 2}},
		{"alpha pattern by expression", map[string]any{"alpha_pattern": map[string]any{`layer\.(0|7)\..*`: 1.5}}, map[string]float64{query0: 0.5, query1: 2, value0: 0.5}},
		{"alpha pattern must reach the end", map[string]any{"alpha_pattern": map[string]any{"layer.0": 9}}, map[string]float64{query0: 2}},
		{"alpha pattern must start at a dot", map[string]any{"alpha_pattern": map[string]any{"uery": 9}}, map[string]float64{query0: 2}},
		{"rank pattern", map[string]any{"r": 5, "rank_pattern": map[string]any{"query|value": 3}}, map[string]float64{query0: 2}},
	}
	dir := tinyDir(t)
	for _, test := range tests {
		m := openModel(t, dir, Options{Adapter: adapterDir(t, test.changes, nil)})
		for module, scale := range test.want {
			got := values(t, m, module+".weight")
			if d := worst(t, got, reference(t, module, scale)); d > 1e-6 {
				t.Errorf("%s: %s differs by %g", test.name, module, d)
			}
			if d := worst(t, got, reference(t, module, 1.01*scale)); d < 1e-3 {
				t.Errorf("%s: %s also fits a scale 1%% larger: they differ by only %g", test.name, module, d)
			}
		}
	}
}

// TestAdapterPatternOrder checks that the first matching pattern applies, in
// the order of the file.
func TestAdapterPatternOrder(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float32{
		`{"query": 3, ".*": 6}`: 1,
		`{".*": 6, "query": 3}`: 2,
	} {
		c, err := parseAdapterConfig([]byte(`{"peft_type":"LORA","r":3,"lora_alpha":1,"alpha_pattern":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.scale("bert.x.query"); got != want {
			t.Errorf("%s: scale %v, want %v", text, got, want)
		}
	}
}

// TestAdapterKeepsOtherTensors checks that an adapter replaces its own tensors and
// no others.
func TestAdapterKeepsOtherTensors(t *testing.T) {
	t.Parallel()
	dir := tinyDir(t)
	plain := openModel(t, dir, Options{})
	m := openModel(t, dir, Options{Adapter: adapterDir(t, nil, nil)})
	lora := weightstest.LoRA(tinySpec(), 3, 11)
	for i, tensor := range m.Tensors {
		want := plain.Tensors[i].Data
		switch {
		case strings.HasSuffix(tensor.Name, "query.weight"), strings.HasSuffix(tensor.Name, "value.weight"):
			if bytes.Equal(tensor.Data, want) {
				t.Errorf("%s did not change", tensor.Name)
			}
			continue
		case strings.HasPrefix(tensor.Name, "classifier."):
			want = find(t, lora, peftPrefix+tensor.Name).Data
		}
		if !bytes.Equal(tensor.Data, want) {
			t.Errorf("%s changed", tensor.Name)
		}
	}
}

// TestAdapterTensorNames checks every naming scheme that PEFT has used.
func TestAdapterTensorNames(t *testing.T) {
	t.Parallel()
	dir := tinyDir(t)
	want := openModel(t, dir, Options{Adapter: adapterDir(t, nil, nil)})
	rename := func(pairs ...string) func([]weightstest.Tensor) []weightstest.Tensor {
		return func(tensors []weightstest.Tensor) []weightstest.Tensor {
			for i := range tensors {
				tensors[i].Name = strings.NewReplacer(pairs...).Replace(tensors[i].Name)
			}
			return tensors
		}
	}
	tests := map[string]func([]weightstest.Tensor) []weightstest.Tensor{
		"adapter name":                     rename("lora_A.", "lora_A.default.", "lora_B.", "lora_B.default."),
		"trained on the bare encoder":      rename("model.bert.", "model."),
		"modules_to_save":                  rename("classifier.", "classifier.modules_to_save."),
		"modules_to_save and adapter name": rename("classifier.", "classifier.modules_to_save.my-adapter."),
		"bias all": func(tensors []weightstest.Tensor) []weightstest.Tensor {
			bias := *find(t, tensors, peftPrefix+"classifier.bias")
			bias.Name = peftPrefix + "classifier.modules_to_save.bias"
			original := weightstest.F32(peftPrefix+"classifier.original_module.bias", []int{1}, []float32{9})
			query := *find(t, weightstest.Tensors(tinySpec()), query0+".bias")
			query.Name = peftPrefix + "bert." + query0 + ".base_layer.bias"
			return append(tensors, bias, original, query)
		},
	}
	for name, edit := range tests {
		m := openModel(t, dir, Options{Adapter: adapterDir(t, nil, edit)})
		for i, tensor := range m.Tensors {
			if !bytes.Equal(tensor.Data, want.Tensors[i].Data) {
				t.Errorf("%s: %s differs", name, tensor.Name)
			}
		}
	}
}

// TestAdapterBias checks that trained biases replace the base's, and that the
// modules inside a saved module are found.
func TestAdapterBias(t *testing.T) {
	t.Parallel()
	eight := func(v float32) []float32 { return slices.Repeat([]float32{v}, 8) }
	adapter := adapterDir(t, map[string]any{"bias": "all"}, func(tensors []weightstest.Tensor) []weightstest.Tensor {
		return append(tensors,
			weightstest.F32(peftPrefix+"bert."+query0+".base_layer.bias", []int{8}, eight(1)),
			weightstest.F32(peftPrefix+"bert.embeddings.LayerNorm.bias", []int{8}, eight(2)),
			weightstest.F32(peftPrefix+"bert.pooler.modules_to_save.default.dense.bias", []int{8}, eight(3)),
		)
	})
	m := openModel(t, tinyDir(t), Options{Adapter: adapter})
	for name, want := range map[string]float32{query0 + ".bias": 1, "embeddings.LayerNorm.bias": 2, "pooler.dense.bias": 3} {
		if got := values(t, m, name); !slices.Equal(got, eight(want)) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// TestAdapterLabels gives a model with one label a classifier with three.
func TestAdapterLabels(t *testing.T) {
	t.Parallel()
	three := tinySpec()
	three.Config["id2label"] = map[string]any{"0": "a", "1": "b", "2": "c"}
	adapter := filepath.Join(t.TempDir(), "adapter")
	weightstest.WriteAdapter(t, adapter, weightstest.AdapterConfig(3, 6), weightstest.LoRA(three, 3, 11))
	m := openModel(t, tinyDir(t), Options{Adapter: adapter})
	if last := m.Tensors[len(m.Tensors)-2]; m.Config.Labels != 3 || m.Scoring != ScoringRaw || !slices.Equal(last.Shape, []int{3, 8}) {
		t.Errorf("%d labels, scoring %q, classifier %v", m.Config.Labels, m.Scoring, last.Shape)
	}
}

// TestAdapterHalfPrecision merges 16-bit factors and a 16-bit base in float32.
func TestAdapterHalfPrecision(t *testing.T) {
	t.Parallel()
	all := func(dtype DType) func([]weightstest.Tensor) []weightstest.Tensor {
		return func(tensors []weightstest.Tensor) []weightstest.Tensor {
			for i := range tensors {
				tensors[i] = narrow(tensors[i], dtype)
			}
			return tensors
		}
	}
	for dtype, tolerance := range map[DType]float64{F16: 4e-3, BF16: 3e-2} {
		dir := tinyDir(t)
		rewrite(t, dir, all(dtype))
		m := openModel(t, dir, Options{Adapter: adapterDir(t, nil, all(dtype))})
		got := values(t, m, query0+".weight")
		if d := worst(t, got, reference(t, query0, 2)); d == 0 || d > tolerance {
			t.Errorf("%s: differs by %g, want at most %g and not 0", dtype, d, tolerance)
		}
		for _, tensor := range m.Tensors {
			want := dtype
			if strings.HasSuffix(tensor.Name, "query.weight") || strings.HasSuffix(tensor.Name, "value.weight") {
				want = F32
			}
			if tensor.DType != want {
				t.Errorf("%s is %s, want %s", tensor.Name, tensor.DType, want)
			}
		}
	}
}

func TestAdapterBad(t *testing.T) {
	t.Parallel()
	tensors := func(edit func([]weightstest.Tensor) []weightstest.Tensor) func(*testing.T) string {
		return func(t *testing.T) string { return adapterDir(t, nil, edit) }
	}
	config := func(key string, value any) func(*testing.T) string {
		return func(t *testing.T) string { return adapterDir(t, map[string]any{key: value}, nil) }
	}
	without := func(name string) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := adapterDir(t, nil, nil)
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}
	with := func(name string, shape []int, n int) func(*testing.T) string {
		return tensors(func(ts []weightstest.Tensor) []weightstest.Tensor {
			return append(ts, weightstest.F32(name, shape, make([]float32, n)))
		})
	}
	drop := func(name string) func(*testing.T) string {
		return tensors(func(ts []weightstest.Tensor) []weightstest.Tensor {
			return slices.DeleteFunc(ts, func(x weightstest.Tensor) bool { return x.Name == name })
		})
	}
	other := weightstest.Spec{Config: weightstest.Tiny(12, 2, 2)}
	deeper := weightstest.Spec{Config: weightstest.Tiny(8, 2, 3)}
	adapterFor := func(spec weightstest.Spec) func(*testing.T) string {
		return tensors(func([]weightstest.Tensor) []weightstest.Tensor { return weightstest.LoRA(spec, 3, 1) })
	}
	spoil := func(bits uint32) func(*testing.T) string {
		return tensors(func(ts []weightstest.Tensor) []weightstest.Tensor {
			binary.LittleEndian.PutUint32(ts[0].Data[20:], bits)
			return ts
		})
	}
	tests := []struct {
		name    string
		adapter func(*testing.T) string
		want    []string
	}{
		{"no directory", func(*testing.T) string { return "/no/such/adapter" }, []string{`adapter "/no/such/adapter"`, "no such directory"}},
		{"no config", without(adapterConfigFile), []string{"adapter_config.json is missing"}},
		{"no tensors", without(adapterFile), []string{"adapter_model.safetensors is missing"}},
		{"pickled tensors", func(t *testing.T) string {
			dir := without(adapterFile)(t)
			weightstest.WriteFile(t, filepath.Join(dir, "adapter_model.bin"), nil)
			return dir
		}, []string{"adapter_model.bin", "safe_serialization"}},
		{"config not JSON", func(t *testing.T) string {
			dir := adapterDir(t, nil, nil)
			weightstest.WriteFile(t, filepath.Join(dir, adapterConfigFile), []byte(`{"r":`))
			return dir
		}, []string{"adapter_config.json", "not valid JSON"}},
		{"tensors truncated", func(t *testing.T) string {
			dir := adapterDir(t, nil, nil)
			if err := os.Truncate(filepath.Join(dir, adapterFile), 2000); err != nil {
				t.Fatal(err)
			}
			return dir
		}, []string{"adapter_model.safetensors", "truncated"}},
		{"other method", config("peft_type", "IA3"), []string{"adapter_config.json", `peft_type "IA3" is not supported`}},
		{"DoRA", config("use_dora", true), []string{`"use_dora"`, "not supported"}},
		{"biases in the factors", config("lora_bias", true), []string{`"lora_bias"`, "not supported"}},
		{"layer replication", config("layer_replication", []any{[]int{0, 1}}), []string{`"layer_replication"`, "not supported"}},
		{"parameters", config("target_parameters", []string{"w"}), []string{`"target_parameters"`}},
		{"unknown setting", config("use_qzlora", true), []string{`"use_qzlora"`, "true is not supported"}},
		{"an initialisation that changes the base", config("init_lora_weights", "pissa"), []string{`"init_lora_weights"`, `"pissa" is not supported`}},
		{"rank zero", config("r", 0), []string{"r is 0"}},
		{"rank too large", config("r", 1<<30), []string{"r is 1073741824"}},
		{"rank by pattern", config("rank_pattern", map[string]any{"query": 0.5}), []string{"rank_pattern", "0.5"}},
		{"alpha not a number", config("lora_alpha", "six"), []string{`"lora_alpha"`}},
		{"alpha infinite", config("alpha_pattern", map[string]any{"query": 1e300}), []string{"merged", "expected only finite"}},
		{"pattern not an expression", config("alpha_pattern", map[string]any{"(": 1}), []string{`pattern "("`, "regular expression"}},
		{"pattern beyond RE2", config("alpha_pattern", map[string]any{"(?!query)": 1}), []string{"regular expression"}},
		{"pattern with a count", config("alpha_pattern", map[string]any{"(x{100}){10}": 1}), []string{"counted repetition"}},
		{"pattern too long", config("alpha_pattern", map[string]any{strings.Repeat("x", 300): 1}), []string{"300 bytes"}},
		{"pattern without a number", config("rank_pattern", map[string]any{"query": "x"}), []string{`pattern "query"`}},
		{"rank of another adapter", config("r", 4), []string{queryA, "shape [3 8], expected [4 8]", "rank 4"}},
		{"another base, wider", adapterFor(other), []string{`adapter for "some/base"`, "classifier.weight", "shape [1 12], expected [1 8]"}},
		{"another base, wider, no classifier", tensors(func([]weightstest.Tensor) []weightstest.Tensor {
			ts := weightstest.LoRA(other, 3, 1)
			return ts[:len(ts)-2]
		}), []string{`adapter for "some/base"`, queryA, "shape [3 12], expected [3 8]", "[8 8]"}},
		{"another base, deeper", adapterFor(deeper), []string{`adapter for "some/base"`, "layer.2.attention.self.query", "the model has no weight"}},
		{"lora_B missing", drop(strings.Replace(queryA, "_A", "_B", 1)), []string{queryA, "lora_B is missing"}},
		{"lora_A missing", drop(queryA), []string{"query.lora_B.weight", "lora_A is missing"}},
		{"two names of a factor", with(strings.Replace(queryA, "lora_A.", "lora_A.default.", 1), []int{3, 8}, 24), []string{"same tensor", queryA}},
		{"no prefix", with("bert.pooler.dense.bias", []int{8}, 8), []string{`"bert.pooler.dense.bias"`, "base_model.model."}},
		{"unknown tensor", with("base_model.model.score.weight", []int{1, 8}, 8), []string{`"base_model.model.score.weight"`, "no such tensor"}},
		{"tensor saved twice", with("base_model.model.bert.classifier.bias", []int{1}, 1), []string{"twice"}},
		{"embedding factors", with("base_model.model.bert.embeddings.word_embeddings.lora_embedding_A", []int{3, 1000}, 3000), []string{"lora_embedding_A", "expected lora_A or lora_B"}},
		{"factors of an embedding", tensors(func(ts []weightstest.Tensor) []weightstest.Tensor {
			const module = "base_model.model.bert.embeddings.word_embeddings"
			return append(ts, weightstest.F32(module+".lora_A.weight", []int{3, 8}, make([]float32, 24)), weightstest.F32(module+".lora_B.weight", []int{1000, 3}, make([]float32, 3000)))
		}), []string{"not the weight of a dense layer"}},
		{"magnitudes", with("base_model.model.bert.pooler.dense.lora_magnitude_vector", []int{8}, 8), []string{"lora_magnitude_vector"}},
		{"bias of a factor", with(strings.Replace(queryA, "weight", "bias", 1), []int{3}, 3), []string{"lora_A.bias", "only its weight"}},
		{"both replaced and updated", with("base_model.model.bert."+query0+".weight", []int{8, 8}, 64), []string{"both replaces and updates"}},
		{"original without replacement", with("base_model.model.bert.pooler.original_module.dense.bias", []int{8}, 8), []string{"no replacement for"}},
		{"no labels", tensors(func(ts []weightstest.Tensor) []weightstest.Tensor {
			*find(t, ts, peftPrefix+"classifier.weight") = weightstest.F32(peftPrefix+"classifier.weight", []int{0, 8}, nil)
			return ts
		}), []string{"classifier.weight", "shape [0 8]", "1 to 4096 labels"}},
		{"integer tensors", tensors(func(ts []weightstest.Tensor) []weightstest.Tensor {
			ts[0].DType = "I32"
			return ts
		}), []string{queryA, "dtype I32"}},
		{"NaN", spoil(math.Float32bits(float32(math.NaN()))), []string{queryA, "NaN at index 5"}},
		{"overflow", spoil(math.Float32bits(math.MaxFloat32)), []string{query0, "merged with", "expected only finite"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			adapter := test.adapter(t)
			m, err := Open(t.Context(), tinyDir(t), Options{Adapter: adapter})
			if err == nil {
				closeModel(t, m)
			}
			wantError(t, err, append(test.want, adapter)...)
		})
	}
}

// TestAdapterWithoutClassifier checks the error if neither the base nor the
// adapter has a head.
func TestAdapterWithoutClassifier(t *testing.T) {
	t.Parallel()
	dir := tinyDir(t)
	headless := func(tensors []weightstest.Tensor) []weightstest.Tensor { return tensors[:len(tensors)-2] }
	rewrite(t, dir, headless)
	adapter := adapterDir(t, nil, headless)
	_, err := Open(t.Context(), dir, Options{Adapter: adapter})
	wantError(t, err, dir, adapter, "2 of 41 tensors missing: classifier.weight, classifier.bias")
}

// TestMergeRow compares every remainder of the unrolled loop with a simple loop.
func TestMergeRow(t *testing.T) {
	t.Parallel()
	const n = 37
	for rank := range 20 {
		a := weightstest.Values("a", []int{max(rank, 1), n}, 1)[:rank*n]
		b := weightstest.Values("b", []int{1, 20}, 2)[:rank]
		from := weightstest.Values("w", []int{1, n}, 3)
		got, want := slices.Repeat([]float32{float32(math.NaN())}, n), make([]float32, n)
		mergeRow(got, from, a, b)
		for i := range want {
			sum := float64(from[i])
			for k := range rank {
				sum += float64(b[k]) * float64(a[k*n+i])
			}
			want[i] = float32(sum)
		}
		if d := worst(t, got, want); !(d < 2e-6) {
			t.Errorf("rank %d differs by %g", rank, d)
		}
	}
}
