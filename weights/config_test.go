package weights

import (
	"encoding/json"
	"maps"
	"reflect"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// configWith returns config.json of the tiny model with changes; a nil value
// removes the field.
func configWith(t testing.TB, changes map[string]any) []byte {
	t.Helper()
	c := map[string]any{"model_type": "bert", "architectures": []string{"BertForSequenceClassification"}}
	maps.Copy(c, weightstest.Tiny(8, 2, 2))
	for k, v := range changes {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tinyConfig returns the Config of the tiny model with another number of labels.
func tinyConfig(labels int) Config {
	return Config{
		VocabSize: 1000, HiddenSize: 8, Layers: 2, Heads: 2, IntermediateSize: 32, MaxPositions: 128,
		TypeVocabSize: 2, Labels: labels, LayerNormEps: 1e-12, Activation: GELU,
		EmbeddingSize: 8, Pooling: PoolCLS,
		Head: []HeadStep{
			{Name: "pooler.dense", Out: 8, Activation: Tanh},
			{Name: "classifier", Out: labels, Activation: Identity},
		},
	}
}

func TestParseConfig(t *testing.T) {
	t.Parallel()
	base := tinyConfig(1)
	with := func(change func(*Config)) Config {
		c := base
		change(&c)
		return c
	}
	tests := []struct {
		name    string
		changes map[string]any
		want    Config
	}{
		{"unchanged", nil, base},
		{"defaults of Hugging Face", map[string]any{"type_vocab_size": nil, "layer_norm_eps": nil, "hidden_act": nil, "architectures": nil}, base},
		{"explicit position embeddings", map[string]any{"position_embedding_type": "absolute"}, base},
		{"epsilon", map[string]any{"layer_norm_eps": 1e-5}, with(func(c *Config) { c.LayerNormEps = 1e-5 })},
		{"gelu_new", map[string]any{"hidden_act": "gelu_new"}, with(func(c *Config) { c.Activation = GELUTanh })},
		{"gelu_pytorch_tanh", map[string]any{"hidden_act": "gelu_pytorch_tanh"}, with(func(c *Config) { c.Activation = GELUTanh })},
		{"relu", map[string]any{"hidden_act": "relu"}, with(func(c *Config) { c.Activation = ReLU })},
		{"labels by name", map[string]any{"id2label": map[string]string{"0": "a", "1": "b", "2": "c"}, "num_labels": 9}, tinyConfig(3)},
		{"labels by number", map[string]any{"id2label": nil, "num_labels": 4}, tinyConfig(4)},
		{"no labels given", map[string]any{"id2label": nil}, tinyConfig(2)},
		{"labels of an encoder", map[string]any{"id2label": nil, "architectures": []string{"BertModel"}}, base},
	}
	for _, test := range tests {
		got, err := parseConfig(configWith(t, test.changes))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if !reflect.DeepEqual(got.Config, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got.Config, test.want)
		}
	}
}

func TestParseConfigBad(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		changes map[string]any
		want    []string
	}{
		{"no model type", map[string]any{"model_type": nil}, []string{`model_type ""`, `"bert"`}},
		{"other model type", map[string]any{"model_type": "deberta-v2"}, []string{`model_type "deberta-v2" is not supported`, `"xlm-roberta"`, `"modernbert"`}},
		{"other architecture", map[string]any{"architectures": []string{"BertForTokenClassification"}}, []string{`"BertForTokenClassification" is not supported`, "BertForSequenceClassification"}},
		{"relative positions", map[string]any{"position_embedding_type": "relative_key"}, []string{`position_embedding_type "relative_key" is not supported`}},
		{"decoder", map[string]any{"is_decoder": true}, []string{"is_decoder"}},
		{"pruned", map[string]any{"pruned_heads": map[string]any{"0": []int{0}}}, []string{"pruned_heads"}},
		{"gptq", map[string]any{"quantization_config": map[string]any{"bits": 4, "quant_method": "gptq", "group_size": 128}}, []string{"quantization_config", `"gptq"`, "model quantize"}},
		{"awq", map[string]any{"quantization_config": map[string]any{"quant_method": "awq"}}, []string{"quantization_config", `"awq"`}},
		{"bitsandbytes", map[string]any{"quantization_config": map[string]any{"load_in_8bit": true, "quant_method": "bitsandbytes"}}, []string{`"bitsandbytes"`}},
		{"fp8", map[string]any{"quantization_config": map[string]any{"quant_method": "fp8"}}, []string{`"fp8"`}},
		{"mxfp4", map[string]any{"quantization": map[string]any{"group_size": 32, "bits": 4, "mode": "mxfp4"}}, []string{"quantization", `"mxfp4"`}},
		{"nvfp4", map[string]any{"quantization": map[string]any{"group_size": 16, "bits": 4, "mode": "nvfp4"}}, []string{`"nvfp4"`}},
		{"unknown scheme", map[string]any{"quantization_config": map[string]any{"zero": true}}, []string{"quantization_config", "zero", "MLX"}},
		{"bits", map[string]any{"quantization": map[string]any{"group_size": 64, "bits": 3}}, []string{"bits is 3", "8 or 4"}},
		{"groups", map[string]any{"quantization": map[string]any{"group_size": 128, "bits": 8}}, []string{"group_size is 128", "32 or 64"}},
		{"mixed bits", map[string]any{"quantization": map[string]any{"group_size": 64, "bits": 4, "classifier": map[string]any{"group_size": 64, "bits": 8}}}, []string{"classifier", "bits 8", "settings of their own"}},
		{"activation", map[string]any{"hidden_act": "silu"}, []string{`hidden_act "silu" is not supported`, "gelu_pytorch_tanh"}},
		{"size missing", map[string]any{"hidden_size": nil}, []string{`"hidden_size" is missing`}},
		{"size zero", map[string]any{"num_hidden_layers": 0}, []string{"num_hidden_layers is 0, expected 1 to 256"}},
		{"size negative", map[string]any{"vocab_size": -5}, []string{"vocab_size is -5"}},
		{"size too large", map[string]any{"max_position_embeddings": 1 << 40}, []string{"max_position_embeddings is 1099511627776"}},
		{"size not an integer", map[string]any{"intermediate_size": 1.5}, []string{"intermediate_size", "1.5"}},
		{"size is a string", map[string]any{"num_attention_heads": "two"}, []string{"num_attention_heads", "string"}},
		{"heads do not divide", map[string]any{"num_attention_heads": 3}, []string{"hidden_size 8 is not a multiple of num_attention_heads 3"}},
		{"no token type", map[string]any{"type_vocab_size": 0}, []string{"type_vocab_size is 0, expected 1 to 1024"}},
		{"code", map[string]any{"auto_map": map[string]any{"AutoModel": "modeling_own.Model"}}, []string{"AutoModel modeling_own.Model", "trust_remote_code", "runs no code"}},
		{"padding beyond the vocabulary", map[string]any{"pad_token_id": 1000}, []string{"pad_token_id is 1000, expected 0 to 999, less than vocab_size"}},
		{"epsilon zero", map[string]any{"layer_norm_eps": 0}, []string{"layer_norm_eps is 0"}},
		{"epsilon large", map[string]any{"layer_norm_eps": 2}, []string{"layer_norm_eps is 2"}},
		{"too many labels", map[string]any{"id2label": nil, "num_labels": 1 << 20}, []string{"num_labels is 1048576"}},
		{"scoring activation", map[string]any{"sentence_transformers": map[string]any{"activation_fn": 3}}, []string{"sentence_transformers.activation_fn is 3"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseConfig(configWith(t, test.changes))
			wantError(t, err, test.want...)
		})
	}
	_, err := parseConfig([]byte(`{"model_type":"bert"} {}`))
	wantError(t, err, "not valid JSON near byte 23")
	_, err = parseConfig([]byte(`[]`))
	wantError(t, err, "array")
}

// TestTorchScoring checks that a torch class is recognised by every name under
// which it can be imported, and by no other.
func TestTorchScoring(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Scoring{
		"torch.nn.modules.linear.Identity":     ScoringRaw,
		"torch.nn.Identity":                    ScoringRaw,
		"torch.nn.modules.activation.Sigmoid":  ScoringSigmoid,
		"torch.nn.modules.Tanh":                ScoringTanh,
		"torch.nn.ReLU":                        ScoringReLU,
		"torch.nn.modules.activation.Softmax":  ScoringSoftmax,
		"torch.nn.modules.linear.Sigmoid":      "",
		"torch.nn.modules.activation.Identity": "",
		"torch.nn.modules.activation.GELU":     "",
		"torch.sigmoid":                        "",
		"torch.":                               "",
		"torch.nn.":                            "",
	} {
		if got := torchScoring(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
