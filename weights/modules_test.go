package weights

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A tinyModule is a module of sentence-transformers with its files.
type tinyModule struct {
	path, kind string
	config     map[string]any
	tensors    map[string][]int
}

// tinyStack returns the modules of a model like an Ettin reranker.
func tinyStack() []tinyModule {
	return []tinyModule{
		{"", "sentence_transformers.base.modules.transformer.Transformer", nil, nil},
		{"1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling", map[string]any{"embedding_dimension": 8, "pooling_mode": "cls", "include_prompt": true}, nil},
		{"2_Dense", "sentence_transformers.base.modules.dense.Dense", map[string]any{
			"in_features": 8, "out_features": 8, "bias": false, "activation_function": "torch.nn.modules.activation.GELU",
			"module_input_name": "sentence_embedding", "module_output_name": nil,
		}, map[string][]int{"linear.weight": {8, 8}}},
		{"3_LayerNorm", "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm", map[string]any{"dimension": 8}, map[string][]int{"norm.weight": {8}, "norm.bias": {8}}},
		{"4_Dense", "sentence_transformers.base.modules.dense.Dense", map[string]any{
			"in_features": 8, "out_features": 1, "bias": true, "activation_function": "torch.nn.modules.linear.Identity",
			"module_input_name": "sentence_embedding", "module_output_name": "scores",
		}, map[string][]int{"linear.weight": {1, 8}, "linear.bias": {1}}},
	}
}

// stackDir writes a ModernBERT with modules, as CrossEncoder saves it.
func stackDir(t testing.TB, modules []tinyModule, config map[string]any) string {
	t.Helper()
	model := tinyModernbert()
	model.config["architectures"] = []string{"ModernBertModel"}
	delete(model.config, "id2label")
	encoder := map[string][]int{}
	for name, shape := range model.tensors {
		if name, ok := strings.CutPrefix(name, "model."); ok {
			encoder[name] = shape
		}
	}
	model.tensors = encoder
	root := model.write(t)
	settings := map[string]any{"model_type": "CrossEncoder", "prompts": map[string]any{}, "default_prompt_name": nil}
	maps.Copy(settings, config)
	weightstest.WriteJSON(t, filepath.Join(root, sentenceConfigFile), settings)
	weightstest.WriteJSON(t, filepath.Join(root, sentenceBertFile), map[string]any{
		"transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
		"modality_config": map[string]any{"text": map[string]any{"method": "forward", "method_output_name": "last_hidden_state"}},
	})
	var list []map[string]any
	for i, m := range modules {
		list = append(list, map[string]any{"idx": i, "name": m.path, "path": m.path, "type": m.kind})
		m.write(t, filepath.Join(root, m.path))
	}
	weightstest.WriteJSON(t, filepath.Join(root, modulesFile), list)
	return root
}

func (m tinyModule) write(t testing.TB, dir string) {
	t.Helper()
	if m.path == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if m.config != nil {
		weightstest.WriteJSON(t, filepath.Join(dir, configFile), m.config)
	}
	if m.tensors != nil {
		weightstest.WriteFile(t, filepath.Join(dir, weightsFile), weightstest.Encode(m.checkpoint()))
	}
}

func (m tinyModule) checkpoint() []weightstest.Tensor {
	return tinyModel{tensors: m.tensors}.checkpoint()
}

// TestOpenModules opens a chain of modules and compares its head.
func TestOpenModules(t *testing.T) {
	t.Parallel()
	modules := tinyStack()
	dir := stackDir(t, modules, map[string]any{
		"activation_fn": "torch.nn.modules.linear.Identity", "prompts": map[string]any{"query": "q: "}, "default_prompt_name": "query",
	})
	m := openModel(t, dir, Options{})
	want := tinyModernbert().want
	want.Pooling = PoolCLS
	want.Head = []HeadStep{
		{Name: "2_Dense.linear", Out: 8, Activation: GELU},
		{Name: "3_LayerNorm.norm", Out: 8, LayerNorm: true, Epsilon: 1e-5},
		{Name: "4_Dense.linear", Out: 1, Activation: Identity},
	}
	if !reflect.DeepEqual(m.Config, want) {
		t.Errorf("config\n%+v, want\n%+v", m.Config, want)
	}
	if m.Scoring != ScoringRaw || m.Prompt != "q: " || m.Architecture != "ModernBertModel" || !slices.Equal(m.Modules, []string{"Pooling", "Dense", "LayerNorm", "Dense"}) {
		t.Errorf("scoring %q, prompt %q, %s with %v", m.Scoring, m.Prompt, m.Architecture, m.Modules)
	}
	for name, source := range map[string]string{"2_Dense.linear.weight": "linear.weight", "4_Dense.linear.bias": "linear.bias", "3_LayerNorm.norm.weight": "norm.weight"} {
		module := modules[slices.IndexFunc(modules, func(m tinyModule) bool { return m.path != "" && strings.HasPrefix(name, m.path+".") })]
		if got := values(t, m, name); !slices.Equal(got, floats(Tensor{DType: F32, Data: find(t, module.checkpoint(), source).Data})) {
			t.Errorf("%s differs", name)
		}
	}
	if bias := values(t, m, "2_Dense.linear.bias"); !slices.Equal(bias, make([]float32, 8)) {
		t.Errorf("a Dense without a bias has %v", bias)
	}
	for _, path := range []string{"1_Pooling/config.json", "2_Dense/config.json", "4_Dense/model.safetensors"} {
		if m.Files[filepath.Join(dir, path)] == "" {
			t.Errorf("the fingerprint lacks %s", path)
		}
	}
	checkShapes(t, m)
}

// TestOpenModulesInFolder opens a model whose Transformer has a folder of its own.
func TestOpenModulesInFolder(t *testing.T) {
	t.Parallel()
	modules := tinyStack()
	modules[0].path = "0_Transformer"
	dir := stackDir(t, modules, nil)
	for _, name := range []string{configFile, tokenizerFile, tokenizerConfigFile, weightsFile, sentenceBertFile} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "0_Transformer", name)); err != nil {
			t.Fatal(err)
		}
	}
	m := openModel(t, dir, Options{})
	if m.Dir != dir || len(m.Config.Head) != 3 || m.Files[filepath.Join(dir, "0_Transformer", weightsFile)] == "" {
		t.Errorf("dir %s, head %+v, files %v", m.Dir, m.Config.Head, m.Files)
	}
}

// TestOpenModulesVariants opens chains of other modules and settings.
func TestOpenModulesVariants(t *testing.T) {
	t.Parallel()
	edit := func(i int, changes map[string]any) []tinyModule {
		modules := tinyStack()
		maps.Copy(modules[i].config, changes)
		for k, v := range changes {
			if v == nil && k != "module_output_name" {
				delete(modules[i].config, k)
			}
		}
		return modules
	}
	dropout := tinyModule{"5_Dropout", "sentence_transformers.models.Dropout", map[string]any{"dropout": 0.1}, nil}
	wide := edit(1, map[string]any{"pooling_mode": []string{"cls", "max", "mean"}})
	wide[2].config["in_features"], wide[2].tensors["linear.weight"] = 24, []int{8, 24}
	tests := []struct {
		name    string
		modules []tinyModule
		check   func(*Model) bool
	}{
		{"dropout", slices.Insert(tinyStack(), 2, dropout), func(m *Model) bool { return len(m.Config.Head) == 3 && len(m.Modules) == 5 }},
		{"dropout at the end", append(tinyStack(), dropout), func(m *Model) bool { return len(m.Config.Head) == 3 && len(m.Modules) == 5 }},
		{"several poolings", wide, func(m *Model) bool { return m.Config.Pooling == PoolCLS|PoolMax|PoolMean }},
		{"old poolings", edit(1, map[string]any{"embedding_dimension": nil, "word_embedding_dimension": 8, "pooling_mode": nil, "pooling_mode_cls_token": false, "pooling_mode_lasttoken": true}), func(m *Model) bool { return m.Config.Pooling == PoolLast }},
		{"old poolings, all off", edit(1, map[string]any{"pooling_mode": nil, "pooling_mode_cls_token": false}), func(m *Model) bool { return m.Config.Pooling == PoolMean }},
		{"new setting before old ones", edit(1, map[string]any{"pooling_mode": "max", "pooling_mode_cls_token": true}), func(m *Model) bool { return m.Config.Pooling == PoolMax }},
		{"prompt left out, without a prompt", edit(1, map[string]any{"include_prompt": false}), func(m *Model) bool { return m.Config.Pooling == PoolCLS }},
		{"default activation", edit(2, map[string]any{"activation_function": nil}), func(m *Model) bool { return m.Config.Head[0].Activation == Tanh }},
		{"activation from elsewhere", edit(2, map[string]any{"activation_function": "own.Mish"}), func(m *Model) bool {
			return m.Config.Head[0].Activation == Tanh && strings.Contains(strings.Join(m.Warnings, " "), `"own.Mish" is not a class of torch`)
		}},
		{"residual", edit(2, map[string]any{"use_residual": true}), func(m *Model) bool { return m.Config.Head[0].Residual }},
		{"unknown setting", edit(2, map[string]any{"extra": 1}), func(m *Model) bool { return strings.Contains(strings.Join(m.Warnings, " "), `"extra"`) }},
		{"sigmoid by default", tinyStack(), func(m *Model) bool { return m.Scoring == ScoringSigmoid && m.Prompt == "" }},
	}
	for _, test := range tests {
		m := openModel(t, stackDir(t, test.modules, nil), Options{})
		if !test.check(m) {
			t.Errorf("%s: %+v, modules %v, warnings %q", test.name, m.Config, m.Modules, m.Warnings)
		}
	}
}

// TestOpenModulesBad damages one thing at a time.
func TestOpenModulesBad(t *testing.T) {
	t.Parallel()
	edit := func(i int, change func(*tinyModule)) []tinyModule {
		modules := tinyStack()
		change(&modules[i])
		return modules
	}
	set := func(i int, field string, value any) []tinyModule {
		return edit(i, func(m *tinyModule) { m.config[field] = value })
	}
	swap := func(i, j int) []tinyModule {
		modules := tinyStack()
		modules[i], modules[j] = modules[j], modules[i]
		return modules
	}
	normalize := tinyModule{"2_Normalize", "sentence_transformers.base.modules.normalize.Normalize", map[string]any{}, nil}
	prompt := map[string]any{"prompts": map[string]any{"query": "q: "}, "default_prompt_name": "query"}
	tests := []struct {
		name    string
		modules []tinyModule
		config  map[string]any
		want    []string
	}{
		{"own code", edit(2, func(m *tinyModule) { m.kind = "modeling_own.Dense" }), nil, []string{"modules.json", `module "modeling_own.Dense"`, "trust_remote_code"}},
		{"unknown module", slices.Insert(tinyStack(), 2, normalize), nil, []string{"modules.json", `module 2 is "Normalize", which is not supported there`, "Dense, LayerNorm and Dropout"}},
		{"no Transformer", tinyStack()[1:], nil, []string{`module 0 is "Pooling"`, "a Transformer first"}},
		{"no Pooling", slices.Delete(tinyStack(), 1, 2), nil, []string{`module 1 is "Dense"`, "a Pooling after the Transformer"}},
		{"folder outside", edit(2, func(m *tinyModule) { m.path = "../2_Dense" }), nil, []string{"modules.json", `path of module 2 is "../2_Dense"`}},
		{"folder empty", edit(3, func(m *tinyModule) { m.path = "" }), nil, []string{"path of module 3 (LayerNorm) is empty"}},
		{"config missing", edit(3, func(m *tinyModule) { m.config = nil }), nil, []string{filepath.Join("3_LayerNorm", configFile) + " is missing", "module 3 of modules.json (LayerNorm) needs it"}},
		{"weights missing", edit(4, func(m *tinyModule) { m.tensors = nil }), nil, []string{filepath.Join("4_Dense", weightsFile) + " is missing"}},
		{"tensor missing", edit(4, func(m *tinyModule) { delete(m.tensors, "linear.bias") }), nil, []string{filepath.Join("4_Dense", weightsFile), "lacks tensors of module 4 of modules.json (Dense): linear.bias"}},
		{"tensor too many", edit(2, func(m *tinyModule) { m.tensors["linear.bias"] = []int{8} }), nil, []string{`tensor "linear.bias" is unknown, expected linear.weight`}},
		{"shape", edit(2, func(m *tinyModule) { m.tensors["linear.weight"] = []int{8, 9} }), nil, []string{"2_Dense", `tensor "linear.weight": shape [8 9], expected [8 8]`}},
		{"pooling of another size", set(1, "embedding_dimension", 9), nil, []string{"1_Pooling", "embedding_dimension is 9, expected 8, the hidden_size of config.json"}},
		{"pooling of unknown kind", set(1, "pooling_mode", "median"), nil, []string{"1_Pooling", `pooling_mode is "median", expected cls, max`}},
		{"poolings in another order", set(1, "pooling_mode", []string{"mean", "cls"}), nil, []string{"pooling_mode", "in the order cls, max, mean"}},
		{"no pooling", set(1, "pooling_mode", []string{}), nil, []string{"pooling_mode is empty"}},
		{"unknown setting of a pooling", set(1, "pool", 1), nil, []string{"1_Pooling", `unknown field "pool"`}},
		{"prompt left out", set(1, "include_prompt", false), prompt, []string{"1_Pooling", "include_prompt is false, expected true"}},
		{"sizes differ", set(4, "in_features", 9), nil, []string{filepath.Join("4_Dense", configFile), "in_features is 9, expected 8, the size of what module 3 of modules.json (LayerNorm) makes"}},
		{"dimension differs", set(3, "dimension", 16), nil, []string{filepath.Join("3_LayerNorm", configFile), "dimension is 16, expected 8, the size of what module 2 of modules.json (Dense) makes"}},
		{"size missing", edit(2, func(m *tinyModule) { delete(m.config, "out_features") }), nil, []string{"2_Dense", `field "out_features" is missing`}},
		{"size zero", set(2, "out_features", 0), nil, []string{"out_features is 0, expected 1"}},
		{"residual of other sizes", edit(4, func(m *tinyModule) { m.config["use_residual"] = true }), nil, []string{"4_Dense", "use_residual with in_features 8 and out_features 1"}},
		{"activation", set(2, "activation_function", "torch.nn.modules.activation.Mish"), nil, []string{"2_Dense", "Mish", "expected one of GELU, Identity, ReLU, SiLU, Sigmoid, Tanh of torch.nn"}},
		{"activation null", set(2, "activation_function", nil), nil, []string{"2_Dense", "activation_function null is not supported"}},
		{"reads tokens", set(2, "module_input_name", "token_embeddings"), nil, []string{"2_Dense", `reads "token_embeddings", expected "sentence_embedding"`}},
		{"makes no scores", set(4, "module_output_name", nil), nil, []string{"modules.json", `the last module makes "sentence_embedding", expected a Dense with module_output_name "scores"`}},
		{"scores too early", swap(3, 4), nil, []string{"3_LayerNorm", `reads "sentence_embedding", expected "scores"`}},
		{"too many labels", edit(4, func(m *tinyModule) { m.config["out_features"] = 5000 }), nil, []string{"the last module makes 5000 scores, expected at most 4096"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(t.Context(), stackDir(t, test.modules, test.config), Options{})
			wantError(t, err, test.want...)
		})
	}
	dir := stackDir(t, tinyStack(), nil)
	weightstest.WriteJSON(t, filepath.Join(dir, sentenceBertFile), map[string]any{"transformer_task": "sequence-classification"})
	_, err := Open(t.Context(), dir, Options{})
	wantError(t, err, sentenceBertFile, `transformer_task is "sequence-classification", expected "feature-extraction"`)
	if err := os.Remove(filepath.Join(dir, "2_Dense", configFile)); err != nil {
		t.Fatal(err)
	}
	weightstest.WriteJSON(t, filepath.Join(dir, sentenceBertFile), map[string]any{"max_seq_length": 64})
	if _, err = Open(t.Context(), dir, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

// TestOpenModulesLength checks that max_seq_length limits the tokens.
func TestOpenModulesLength(t *testing.T) {
	t.Parallel()
	dir := stackDir(t, tinyStack(), nil)
	if m := openModel(t, dir, Options{}); m.MaxLength != 8192 || m.MaxLengthFile != configFile {
		t.Errorf("length %d from %s, want 8192", m.MaxLength, m.MaxLengthFile)
	}
	weightstest.WriteJSON(t, filepath.Join(dir, sentenceBertFile), map[string]any{"max_seq_length": 64, "do_lower_case": false})
	if m := openModel(t, dir, Options{}); m.MaxLength != 64 || m.MaxLengthFile != sentenceBertFile {
		t.Errorf("length %d from %s, want 64", m.MaxLength, m.MaxLengthFile)
	}
}

// FuzzModules checks that any modules.json gives either an error or folders below the
// model's.
func FuzzModules(f *testing.F) {
	f.Add([]byte(`[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]`))
	f.Add([]byte(`[{"path":"../x","type":"sentence_transformers.models.Dense"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		modules, err := parseModules(data)
		if err != nil {
			return
		}
		for i, m := range modules {
			if m.path != "" && !filepath.IsLocal(m.path) || m.index != i || m.kind == "" || len(m.path) > maxModulePath {
				t.Errorf("module %d is %+v", i, m)
			}
		}
	})
}

// FuzzModuleConfig checks that any config.json of a module gives either an error or
// sizes within bounds.
func FuzzModuleConfig(f *testing.F) {
	for _, m := range tinyStack()[1:] {
		f.Add(encodeJSON(f, m.config))
	}
	f.Add([]byte(`{"word_embedding_dimension":8,"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := splitFields(data)
		if err != nil {
			return
		}
		checkModuleConfig(t, fields)
	})
}

func checkModuleConfig(t *testing.T, fields map[string]jsontext.Value) {
	const most = maxSteps * maxHidden
	if p, err := parsePooling(fields); err == nil && (p.modes < 1 || p.modes >= PoolLast<<1 || p.width < 1 || p.width > most) {
		t.Errorf("pooling %+v", p)
	}
	if d, err := parseDense(fields); err == nil && (min(d.in, d.out) < 1 || max(d.in, d.out) > most || d.activation == "") {
		t.Errorf("dense %+v", d)
	}
	if width, err := parseLayerNorm(fields); err == nil && (width < 1 || width > most) {
		t.Errorf("size %d of a LayerNorm", width)
	}
}
