package weights

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A tinyModel is a model of one architecture with transformers' names of its tensors.
type tinyModel struct {
	name   string
	config map[string]any
	want   Config
	// tensors lists the shapes of the checkpoint's tensors.
	tensors map[string][]int
	// same maps canonical names to names of the checkpoint, for some tensors of each kind.
	same map[string]string
}

const (
	tinyHidden = 8
	tinyInner  = 32
)

// bertBody lists the tensors of a body with BERT's names and one layer.
func bertBody(prefix string, embedding, positions, types int) map[string][]int {
	list := map[string][]int{
		"embeddings.word_embeddings.weight":       {1000, embedding},
		"embeddings.position_embeddings.weight":   {positions, embedding},
		"embeddings.token_type_embeddings.weight": {types, embedding},
		"embeddings.LayerNorm.weight":             {embedding},
		"embeddings.LayerNorm.bias":               {embedding},
	}
	layer := "encoder.layer.0."
	for _, name := range []string{"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"} {
		linear(list, layer+name, tinyHidden, tinyHidden)
	}
	linear(list, layer+"intermediate.dense", tinyInner, tinyHidden)
	linear(list, layer+"output.dense", tinyHidden, tinyInner)
	linear(list, layer+"attention.output.LayerNorm", tinyHidden)
	linear(list, layer+"output.LayerNorm", tinyHidden)
	return prefixed(prefix, list)
}

// linear adds the weight and the bias of a module.
func linear(list map[string][]int, name string, shape ...int) {
	list[name+".weight"], list[name+".bias"] = shape, shape[:1]
}

func prefixed(prefix string, list map[string][]int) map[string][]int {
	to := map[string][]int{}
	for name, shape := range list {
		to[prefix+name] = shape
	}
	return to
}

// tinySizes returns the sizes of a config with BERT's names.
func tinySizes(modelType, class string) map[string]any {
	return map[string]any{
		"model_type": modelType, "architectures": []string{class},
		"vocab_size": 1000, "hidden_size": tinyHidden, "num_hidden_layers": 1, "num_attention_heads": 2,
		"intermediate_size": tinyInner, "max_position_embeddings": 64, "type_vocab_size": 2,
		"hidden_act": "gelu", "pad_token_id": 1, "id2label": map[string]any{"0": "LABEL_0"},
	}
}

// tinyModels returns a model of each architecture, and variants with other options.
func tinyModels() []tinyModel {
	return []tinyModel{tinyRoberta(), tinyCamembert(), tinyDistilbert(), tinyElectra(), tinyModernbert(), tinyModernbertBiases()}
}

func tinyRoberta() tinyModel {
	m := tinyModel{
		name: "xlm-roberta", config: tinySizes("xlm-roberta", "XLMRobertaForSequenceClassification"),
		want: Config{
			VocabSize: 1000, HiddenSize: 8, EmbeddingSize: 8, Layers: 1, Heads: 2, IntermediateSize: 32, TypeVocabSize: 2, Labels: 1,
			MaxPositions: 62, FirstPosition: 2, LayerNormEps: 1e-5, Activation: GELU, Pooling: PoolCLS,
			Head: []HeadStep{{Name: "classifier.dense", Out: 8, Activation: Tanh}, {Name: "classifier.out_proj", Out: 1, Activation: Identity}},
		},
		tensors: bertBody("roberta.", tinyHidden, 64, 2),
		same: map[string]string{
			"embeddings.position_embeddings.weight":   "roberta.embeddings.position_embeddings.weight",
			"encoder.layer.0.attention.self.key.bias": "roberta.encoder.layer.0.attention.self.key.bias",
			"classifier.out_proj.weight":              "classifier.out_proj.weight",
		},
	}
	m.config["layer_norm_eps"] = 1e-5
	linear(m.tensors, "classifier.dense", tinyHidden, tinyHidden)
	linear(m.tensors, "classifier.out_proj", 1, tinyHidden)
	m.tensors["lm_head.bias"] = []int{1000} // unused
	return m
}

func tinyCamembert() tinyModel {
	m := tinyRoberta()
	m.name = "camembert"
	m.config = maps.Clone(m.config)
	m.config["model_type"], m.config["architectures"] = "camembert", []string{"CamembertForSequenceClassification"}
	delete(m.config, "pad_token_id") // 1 by default
	return m
}

func tinyDistilbert() tinyModel {
	m := tinyModel{
		name: "distilbert",
		config: map[string]any{
			"model_type": "distilbert", "architectures": []string{"DistilBertForSequenceClassification"},
			"vocab_size": 1000, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 64,
			"activation": "relu", "pad_token_id": 0, "num_labels": 3, "sinusoidal_pos_embds": true,
		},
		want: Config{
			VocabSize: 1000, HiddenSize: 8, EmbeddingSize: 8, Layers: 1, Heads: 2, IntermediateSize: 32, TypeVocabSize: 2, Labels: 3,
			MaxPositions: 64, LayerNormEps: 1e-12, Activation: ReLU, Pooling: PoolCLS,
			Head: []HeadStep{{Name: "pre_classifier", Out: 8, Activation: ReLU}, {Name: "classifier", Out: 3, Activation: Identity}},
		},
		tensors: map[string][]int{
			"distilbert.embeddings.word_embeddings.weight": {1000, 8}, "distilbert.embeddings.position_embeddings.weight": {64, 8},
		},
		same: map[string]string{
			"encoder.layer.0.attention.self.query.weight":     "distilbert.transformer.layer.0.attention.q_lin.weight",
			"encoder.layer.0.attention.output.dense.bias":     "distilbert.transformer.layer.0.attention.out_lin.bias",
			"encoder.layer.0.attention.output.LayerNorm.bias": "distilbert.transformer.layer.0.sa_layer_norm.bias",
			"encoder.layer.0.output.dense.weight":             "distilbert.transformer.layer.0.ffn.lin2.weight",
			"encoder.layer.0.output.LayerNorm.weight":         "distilbert.transformer.layer.0.output_layer_norm.weight",
			"pre_classifier.weight":                           "pre_classifier.weight",
			"embeddings.token_type_embeddings.weight":         "",
		},
	}
	layer := "distilbert.transformer.layer.0."
	for _, name := range []string{"q_lin", "k_lin", "v_lin", "out_lin"} {
		linear(m.tensors, layer+"attention."+name, 8, 8)
	}
	linear(m.tensors, layer+"ffn.lin1", 32, 8)
	linear(m.tensors, layer+"ffn.lin2", 8, 32)
	linear(m.tensors, layer+"sa_layer_norm", 8)
	linear(m.tensors, layer+"output_layer_norm", 8)
	linear(m.tensors, "distilbert.embeddings.LayerNorm", 8)
	linear(m.tensors, "pre_classifier", 8, 8)
	linear(m.tensors, "classifier", 3, 8)
	return m
}

func tinyElectra() tinyModel {
	m := tinyModel{
		name: "electra", config: tinySizes("electra", "ElectraForSequenceClassification"),
		want: Config{
			VocabSize: 1000, HiddenSize: 8, EmbeddingSize: 4, Layers: 1, Heads: 2, IntermediateSize: 32, TypeVocabSize: 2, Labels: 1,
			MaxPositions: 64, LayerNormEps: 1e-12, Activation: GELU, Pooling: PoolCLS,
			Head: []HeadStep{{Name: "classifier.dense", Out: 8, Activation: GELU}, {Name: "classifier.out_proj", Out: 1, Activation: Identity}},
		},
		tensors: bertBody("electra.", 4, 64, 2),
		same: map[string]string{
			"embeddings_project.weight":  "electra.embeddings_project.weight",
			"embeddings.LayerNorm.bias":  "electra.embeddings.LayerNorm.bias",
			"classifier.dense.weight":    "classifier.dense.weight",
			"classifier.out_proj.weight": "classifier.out_proj.weight",
		},
	}
	m.config["embedding_size"] = 4
	linear(m.tensors, "electra.embeddings_project", 8, 4)
	linear(m.tensors, "classifier.dense", 8, 8)
	linear(m.tensors, "classifier.out_proj", 1, 8)
	return m
}

// tinyModernbert has the names of fields that transformers 4 wrote.
func tinyModernbert() tinyModel {
	m := tinyModel{
		name: "modernbert",
		config: map[string]any{
			"model_type": "modernbert", "architectures": []string{"ModernBertForSequenceClassification"}, "vocab_size": 1000,
			"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 8192,
			"hidden_activation": "gelu", "norm_eps": 1e-6, "norm_bias": false, "attention_bias": false, "mlp_bias": false,
			"classifier_bias": false, "classifier_activation": "silu", "classifier_pooling": "mean", "local_attention": 10,
			"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 9000.0, "pad_token_id": 3,
			"position_embedding_type": "sans_pos", "tie_word_embeddings": true, "decoder_bias": true, "id2label": map[string]any{"0": "LABEL_0"},
		},
		want: Config{
			VocabSize: 1000, HiddenSize: 8, EmbeddingSize: 8, Layers: 4, Heads: 2, IntermediateSize: 12, TypeVocabSize: 2, Labels: 1,
			MaxPositions: 8192, LayerNormEps: 1e-6, Activation: GELU, Pooling: PoolMean, PreNorm: true, Gated: true,
			Window: 5, GlobalEvery: 3, RopeBase: 160000, LocalRopeBase: 9000,
			Head: []HeadStep{
				{Name: "head.dense", Out: 8, Activation: SiLU}, {Name: "head.norm", Out: 8, LayerNorm: true, Epsilon: 1e-6},
				{Name: "classifier", Out: 1, Activation: Identity},
			},
		},
		tensors: map[string][]int{
			"model.embeddings.tok_embeddings.weight": {1000, 8}, "model.embeddings.norm.weight": {8}, "model.final_norm.weight": {8},
			"head.dense.weight": {8, 8}, "head.norm.weight": {8}, "classifier.weight": {1, 8}, "classifier.bias": {1},
		},
		same: map[string]string{
			"embeddings.word_embeddings.weight":             "model.embeddings.tok_embeddings.weight",
			"embeddings.LayerNorm.weight":                   "model.embeddings.norm.weight",
			"embeddings.LayerNorm.bias":                     "",
			"embeddings.token_type_embeddings.weight":       "",
			"encoder.layer.1.attention.LayerNorm.weight":    "model.layers.1.attn_norm.weight",
			"encoder.layer.1.attention.self.query.bias":     "",
			"encoder.layer.3.attention.output.dense.weight": "model.layers.3.attn.Wo.weight",
			"encoder.layer.3.intermediate.dense.weight":     "model.layers.3.mlp.Wi.weight",
			"encoder.layer.3.output.dense.weight":           "model.layers.3.mlp.Wo.weight",
			"encoder.layer.0.LayerNorm.weight":              "model.layers.0.mlp_norm.weight",
			"encoder.LayerNorm.weight":                      "model.final_norm.weight",
			"head.dense.bias":                               "",
			"head.norm.weight":                              "head.norm.weight",
			"classifier.bias":                               "classifier.bias",
		},
	}
	for i := range 4 {
		layer := fmt.Sprintf("model.layers.%d.", i)
		if i > 0 {
			m.tensors[layer+"attn_norm.weight"] = []int{8}
		}
		maps.Copy(m.tensors, map[string][]int{
			layer + "attn.Wqkv.weight": {24, 8}, layer + "attn.Wo.weight": {8, 8}, layer + "mlp_norm.weight": {8},
			layer + "mlp.Wi.weight": {24, 8}, layer + "mlp.Wo.weight": {8, 12},
		})
	}
	return m
}

// tinyModernbertBiases has every bias, and the fields that transformers 5 writes.
func tinyModernbertBiases() tinyModel {
	m := tinyModernbert()
	m.name = "modernbert with biases"
	for _, name := range []string{"norm_bias", "attention_bias", "mlp_bias", "classifier_bias"} {
		m.config[name] = true
	}
	for _, name := range []string{"global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"} {
		delete(m.config, name)
	}
	m.config["layer_types"] = []string{"full_attention", "sliding_attention", "full_attention", "sliding_attention"}
	m.config["rope_parameters"] = map[string]any{
		"full_attention":    map[string]any{"rope_type": "default", "rope_theta": 160000.0},
		"sliding_attention": map[string]any{"rope_type": "default", "rope_theta": 10000.0},
	}
	m.want.GlobalEvery, m.want.LocalRopeBase = 2, 10000
	for _, name := range slices.Collect(maps.Keys(m.tensors)) {
		if module, ok := strings.CutSuffix(name, ".weight"); ok && module != "model.embeddings.tok_embeddings" {
			m.tensors[module+".bias"] = m.tensors[name][:1]
		}
	}
	for canonical, name := range map[string]string{
		"embeddings.LayerNorm.bias": "model.embeddings.norm.bias", "head.dense.bias": "head.dense.bias",
		"encoder.layer.2.output.dense.bias": "model.layers.2.mlp.Wo.bias",
	} {
		m.same[canonical] = name
	}
	delete(m.same, "encoder.layer.1.attention.self.query.bias")
	return m
}

// write makes the directory of the model.
func (m tinyModel) write(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.ReplaceAll(m.name, " ", "-"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	weightstest.WriteJSON(t, filepath.Join(dir, configFile), m.config)
	weightstest.WriteJSON(t, filepath.Join(dir, tokenizerFile), weightstest.Tokenizer(1000))
	weightstest.WriteJSON(t, filepath.Join(dir, tokenizerConfigFile), map[string]any{"tokenizer_class": "BertTokenizer", "do_lower_case": true})
	weightstest.WriteFile(t, filepath.Join(dir, weightsFile), weightstest.Encode(m.checkpoint()))
	return dir
}

// checkpoint returns the tensors of the model.
func (m tinyModel) checkpoint() []weightstest.Tensor {
	var list []weightstest.Tensor
	for _, name := range sortedKeys(m.tensors) {
		list = append(list, weightstest.F32(name, m.tensors[name], weightstest.Values(name+".bias", m.tensors[name], 3)))
	}
	return list
}

// TestArchitectures opens a model of each architecture and compares the description and
// the tensors with transformers' names.
func TestArchitectures(t *testing.T) {
	t.Parallel()
	for _, model := range tinyModels() {
		t.Run(model.name, func(t *testing.T) {
			t.Parallel()
			m := openModel(t, model.write(t), Options{})
			if !reflect.DeepEqual(m.Config, model.want) {
				t.Errorf("config\n%+v, want\n%+v", m.Config, model.want)
			}
			checkpoint := model.checkpoint()
			for canonical, name := range model.same {
				got := values(t, m, canonical)
				want := make([]float32, len(got))
				if name != "" {
					want = floats(Tensor{DType: F32, Data: find(t, checkpoint, name).Data})
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s differs from %q", canonical, name)
				}
			}
			checkShapes(t, m)
			parameters := 0
			for name, shape := range model.tensors {
				if !strings.HasPrefix(name, "lm_head.") {
					parameters += elements(shape)
				}
			}
			if m.Parameters != parameters || m.Architecture != model.config["architectures"].([]string)[0] {
				t.Errorf("%s with %d parameters, want %d", m.Architecture, m.Parameters, parameters)
			}
		})
	}
}

// checkShapes checks that tensors are unique, and that their data fits their shapes.
func checkShapes(t *testing.T, m *Model) {
	t.Helper()
	seen := map[string]bool{}
	for _, tensor := range m.Tensors {
		if seen[tensor.Name] || len(tensor.Data) != 4*elements(tensor.Shape) {
			t.Errorf("%s %v has %d bytes, or occurs twice", tensor.Name, tensor.Shape, len(tensor.Data))
		}
		seen[tensor.Name] = true
	}
}

// TestFusedRows checks that query, key and value alias the rows of the fused matrix.
func TestFusedRows(t *testing.T) {
	t.Parallel()
	model := tinyModernbertBiases()
	m := openModel(t, model.write(t), Options{})
	for _, parameter := range []string{"weight", "bias"} {
		var all []byte
		for _, part := range []string{"query", "key", "value"} {
			i := slices.IndexFunc(m.Tensors, func(x Tensor) bool { return x.Name == "encoder.layer.2.attention.self."+part+"."+parameter })
			if got := m.Tensors[i]; got.Shape[0] != 8 {
				t.Errorf("%s has shape %v", got.Name, got.Shape)
			}
			all = append(all, m.Tensors[i].Data...)
		}
		if !bytes.Equal(all, find(t, model.checkpoint(), "model.layers.2.attn.Wqkv."+parameter).Data) {
			t.Errorf("the rows of %s differ", parameter)
		}
	}
}

// TestConfigOfArchitecture checks settings that only some architectures have.
func TestConfigOfArchitecture(t *testing.T) {
	t.Parallel()
	modern := func(changes map[string]any) map[string]any {
		c := maps.Clone(tinyModernbert().config)
		maps.Copy(c, changes)
		maps.DeleteFunc(c, func(_ string, value any) bool { return value == nil })
		return c
	}
	tests := []struct {
		name   string
		config map[string]any
		check  func(Config) bool
	}{
		{"all global", modern(map[string]any{"global_attn_every_n_layers": 1}), func(c Config) bool { return c.Window == 0 && c.GlobalEvery == 0 }},
		{"all global by layer", modern(map[string]any{"layer_types": slices.Repeat([]string{"full_attention"}, 4)}), func(c Config) bool { return c.Window == 0 }},
		{"first layer global", modern(map[string]any{"layer_types": append([]string{"full_attention"}, slices.Repeat([]string{"sliding_attention"}, 3)...)}), func(c Config) bool { return c.Window == 5 && c.GlobalEvery == 4 }},
		{"more than the layers", modern(map[string]any{"global_attn_every_n_layers": 22}), func(c Config) bool { return c.GlobalEvery == 22 }},
		{"defaults", modern(map[string]any{"local_attention": nil, "global_attn_every_n_layers": nil, "global_rope_theta": nil, "local_rope_theta": nil, "classifier_pooling": nil, "classifier_activation": nil, "norm_eps": nil}), func(c Config) bool {
			return c.Window == 64 && c.GlobalEvery == 3 && c.RopeBase == 160000 && c.LocalRopeBase == 10000 && c.Pooling == PoolCLS &&
				c.Head[0].Activation == GELU && c.Head[1].Epsilon == 1e-5 && c.LayerNormEps == 1e-5
		}},
		{"encoder", modern(map[string]any{"architectures": []string{"ModernBertForMaskedLM"}, "id2label": nil}), func(c Config) bool { return c.Labels == 1 }},
	}
	for _, test := range tests {
		data := encodeJSON(t, test.config)
		if c, err := parseConfig(data); err != nil || !test.check(c.Config) {
			t.Errorf("%s: %+v, %v", test.name, c.Config, err)
		}
	}
}

// TestConfigOfArchitectureBad changes one setting at a time.
func TestConfigOfArchitectureBad(t *testing.T) {
	t.Parallel()
	types := func(list ...string) map[string]any { return map[string]any{"layer_types": list} }
	rope := func(value any) map[string]any { return map[string]any{"rope_parameters": value} }
	const full, local = "full_attention", "sliding_attention"
	tests := []struct {
		name    string
		model   tinyModel
		changes map[string]any
		want    []string
	}{
		{"positions all padding", tinyRoberta(), map[string]any{"max_position_embeddings": 2}, []string{"max_position_embeddings is 2, expected more than pad_token_id + 1 = 2"}},
		{"padding negative", tinyRoberta(), map[string]any{"pad_token_id": -1}, []string{"pad_token_id is -1, expected 0 to 999"}},
		{"padding by default", tinyModernbert(), map[string]any{"pad_token_id": nil}, []string{"pad_token_id is 50283, expected 0 to 999, less than vocab_size"}},
		{"relative positions", tinyElectra(), map[string]any{"position_embedding_type": "relative_key"}, []string{`position_embedding_type "relative_key"`}},
		{"another class", tinyElectra(), map[string]any{"architectures": []string{"ElectraForTokenClassification"}}, []string{"ElectraForTokenClassification", "ElectraForSequenceClassification"}},
		{"embedding size", tinyElectra(), map[string]any{"embedding_size": 0}, []string{"embedding_size is 0"}},
		{"heads of DistilBERT", tinyDistilbert(), map[string]any{"n_heads": 3}, []string{"dim 8 is not a multiple of n_heads 3"}},
		{"no dim", tinyDistilbert(), map[string]any{"dim": nil}, []string{`field "dim" is missing`}},
		{"activation of DistilBERT", tinyDistilbert(), map[string]any{"activation": "silu"}, []string{`activation "silu" is not supported`}},
		{"odd heads", tinyModernbert(), map[string]any{"num_attention_heads": 8}, []string{"heads of 1 numbers", "even"}},
		{"window 0", tinyModernbert(), map[string]any{"local_attention": 0}, []string{"local_attention is 0, expected 1"}},
		{"window odd", tinyModernbert(), map[string]any{"local_attention": 127}, []string{"local_attention is 127, expected an even number"}},
		{"global every 0", tinyModernbert(), map[string]any{"global_attn_every_n_layers": 0}, []string{"global_attn_every_n_layers is 0, expected 1"}},
		{"too few layer types", tinyModernbert(), types(full), []string{"layer_types has 1 layers, expected num_hidden_layers 4"}},
		{"unknown layer type", tinyModernbert(), types(full, local, "chunked_attention", local), []string{`layer 2 is "chunked_attention"`}},
		{"first layer local", tinyModernbert(), types(local, full, local, full), []string{`layer 0 is "sliding_attention", expected "full_attention"`}},
		{"no pattern", tinyModernbert(), types(full, local, full, full), []string{`layer 3 is "full_attention", expected "sliding_attention"`, "one global layer in every n"}},
		{"pooling", tinyModernbert(), map[string]any{"classifier_pooling": "max"}, []string{`classifier_pooling is "max", expected "cls" or "mean"`}},
		{"activation of the head", tinyModernbert(), map[string]any{"classifier_activation": "mish"}, []string{`classifier_activation "mish"`, "tanh"}},
		{"rope scaling", tinyModernbert(), map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 4.0}}, []string{"rope_scaling: factor 4 is not supported"}},
		{"rope of unknown kind", tinyModernbert(), rope(map[string]any{full: map[string]any{"rope_type": "llama3"}}), []string{"rope_parameters.full_attention: rope_type llama3 is not supported"}},
		{"rope base", tinyModernbert(), rope(map[string]any{local: map[string]any{"rope_theta": 0}}), []string{"rope_parameters.sliding_attention.rope_theta is 0"}},
		{"rope base a string", tinyModernbert(), rope(map[string]any{full: map[string]any{"rope_theta": "x"}}), []string{"rope_parameters.full_attention.rope_theta is x, expected a number"}},
		{"flat rope", tinyModernbert(), rope(map[string]any{"rope_type": "default"}), []string{`"rope_parameters"`, "string"}},
		{"rope of another layer type", tinyModernbert(), rope(map[string]any{"chunked_attention": map[string]any{}}), []string{"rope_parameters.chunked_attention is unknown"}},
		{"old rope base", tinyModernbert(), map[string]any{"local_rope_theta": -1.0}, []string{"local_rope_theta is -1"}},
		{"no rope base", tinyModernbert(), map[string]any{"global_rope_theta": nil}, []string{"global_rope_theta is null", "160000"}},
		{"epsilon", tinyModernbert(), map[string]any{"norm_eps": 0.0}, []string{"norm_eps is 0"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := maps.Clone(test.model.config)
			maps.Copy(c, test.changes)
			_, err := parseConfig(encodeJSON(t, c))
			wantError(t, err, test.want...)
		})
	}
}

// TestArchitecturesInShards opens weights in half precision and in several files.
func TestArchitecturesInShards(t *testing.T) {
	t.Parallel()
	for _, model := range tinyModels() {
		whole := openModel(t, model.write(t), Options{})
		for _, dtype := range []DType{F16, BF16} {
			dir := model.write(t)
			tensors := model.checkpoint()
			for i := range tensors {
				tensors[i] = narrow(tensors[i], dtype)
			}
			weightstest.Split(t, dir, tensors, 3)
			m := openModel(t, dir, Options{})
			for i, tensor := range m.Tensors {
				want := whole.Tensors[i]
				if d := worst(t, floats(tensor), floats(want)); tensor.Name != want.Name || !slices.Equal(tensor.Shape, want.Shape) || d > 0.001 {
					t.Errorf("%s in %s: %s %v differs by %g", model.name, dtype, tensor.Name, tensor.Shape, d)
				}
			}
		}
	}
}

// TestEncoderNeedsHead checks that a body without a classifier is refused, and that a
// wrong embedding is explained.
func TestEncoderNeedsHead(t *testing.T) {
	t.Parallel()
	for _, model := range tinyModels() {
		last := model.want.Head[len(model.want.Head)-1].Name
		delete(model.tensors, last+".weight")
		delete(model.tensors, last+".bias")
		_, err := Open(t.Context(), model.write(t), Options{})
		wantError(t, err, last+".weight, "+last+".bias", "adapter")
	}
	model := tinyRoberta()
	model.config["vocab_size"] = 1100
	_, err := Open(t.Context(), model.write(t), Options{})
	wantError(t, err, `"roberta.embeddings.word_embeddings.weight"`, "shape [1000 8], expected [1100 8]: vocab_size of config.json is 1100")
}

// TestAdapterOnArchitectures merges an adapter into a dense layer of each architecture
// and replaces the head.
func TestAdapterOnArchitectures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		model    tinyModel
		modules  []string // of the checkpoint
		merged   []string // the tensors that they change
		replaced []string
	}{
		{tinyRoberta(), []string{"roberta.encoder.layer.0.attention.self.value", "roberta.encoder.layer.0.intermediate.dense"},
			[]string{"encoder.layer.0.attention.self.value.weight", "encoder.layer.0.intermediate.dense.weight"},
			[]string{"classifier.dense", "classifier.out_proj"}},
		{tinyDistilbert(), []string{"distilbert.transformer.layer.0.attention.q_lin", "distilbert.transformer.layer.0.ffn.lin2"},
			[]string{"encoder.layer.0.attention.self.query.weight", "encoder.layer.0.output.dense.weight"},
			[]string{"pre_classifier", "classifier"}},
		{tinyElectra(), []string{"electra.embeddings_project"}, []string{"embeddings_project.weight"}, []string{"classifier.dense", "classifier.out_proj"}},
		{tinyModernbert(), []string{"model.layers.3.attn.Wqkv", "model.layers.0.attn.Wo", "model.layers.2.mlp.Wi", "model.layers.1.mlp.Wo"},
			[]string{
				"encoder.layer.3.attention.self.query.weight", "encoder.layer.3.attention.self.key.weight", "encoder.layer.3.attention.self.value.weight",
				"encoder.layer.0.attention.output.dense.weight", "encoder.layer.2.intermediate.dense.weight", "encoder.layer.1.output.dense.weight",
			}, []string{"classifier"}},
	}
	for _, test := range tests {
		t.Run(test.model.name, func(t *testing.T) {
			t.Parallel()
			dir := test.model.write(t)
			plain := openModel(t, dir, Options{})
			m := openModel(t, dir, Options{Adapter: test.model.adapter(t, test.modules, test.replaced, 2)})
			last := test.model.want.Head[len(test.model.want.Head)-1].Name
			if m.Config.Labels != 2 || m.Config.Head[len(m.Config.Head)-1].Out != 2 || len(values(t, m, last+".weight")) != 16 {
				t.Errorf("%d labels, head %+v, want 2", m.Config.Labels, m.Config.Head)
			}
			for i, tensor := range m.Tensors {
				isHead := slices.ContainsFunc(test.replaced, func(name string) bool { return strings.HasPrefix(tensor.Name, name+".") })
				same := bytes.Equal(tensor.Data, plain.Tensors[i].Data)
				if want := !isHead && !slices.Contains(test.merged, tensor.Name); same != want {
					t.Errorf("%s is unchanged: %t, want %t", tensor.Name, same, want)
				}
			}
			test.model.checkMerge(t, m, test.modules[0], test.merged)
		})
	}
}

// adapter writes a LoRA adapter of rank 1 and scale 2 for modules, whose factors are
// all 1, and a head with some labels.
func (m tinyModel) adapter(t testing.TB, modules, head []string, labels int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	var list []weightstest.Tensor
	for _, module := range modules {
		shape := m.tensors[module+".weight"]
		a, b := []int{1, shape[1]}, []int{shape[0], 1}
		list = append(list, weightstest.F32(peftPrefix+module+".lora_A.weight", a, slices.Repeat([]float32{1}, shape[1])),
			weightstest.F32(peftPrefix+module+".lora_B.weight", b, slices.Repeat([]float32{1}, shape[0])))
	}
	for i, module := range head {
		shape := slices.Clone(m.tensors[module+".weight"])
		if i == len(head)-1 {
			shape[0] = labels
		}
		list = append(list, weightstest.F32(peftPrefix+module+".weight", shape, weightstest.Values(module+".bias", shape, 9)),
			weightstest.F32(peftPrefix+module+".bias", shape[:1], weightstest.Values(module+".bias", shape[:1], 10)))
	}
	weightstest.WriteAdapter(t, dir, map[string]any{"peft_type": "LORA", "r": 1, "lora_alpha": 2}, list)
	return dir
}

// checkMerge checks that the weights of module have grown by 2.
func (m tinyModel) checkMerge(t *testing.T, opened *Model, module string, merged []string) {
	t.Helper()
	before := floats(Tensor{DType: F32, Data: find(t, m.checkpoint(), module+".weight").Data})
	parts := 1
	if strings.HasSuffix(module, "Wqkv") {
		parts = 3
	}
	var after []float32
	for _, name := range merged[:parts] {
		after = append(after, values(t, opened, name)...)
	}
	want := make([]float32, len(before))
	for i, v := range before {
		want[i] = v + 2
	}
	if d := worst(t, after, want); d > 1e-6 {
		t.Errorf("%s differs by %g", module, d)
	}
}

func encodeJSON(t testing.TB, v any) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.json")
	weightstest.WriteJSON(t, path, v)
	return readFile(t, path)
}
