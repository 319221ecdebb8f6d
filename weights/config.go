package weights

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The files of a model directory, the limits and the defaults.
const (
	configFile          = "config.json"
	weightsFile         = "model.safetensors"
	maxConfig           = 4 << 20 // bytes; id2label may be long
	maxLabels           = 1 << 12
	classifierArch      = "BertForSequenceClassification"
	encoderArch         = "BertModel"
	defaultLabels       = 2 // as in transformers, without id2label and num_labels
	defaultTypeVocab    = 2
	defaultLayerNormEps = 1e-12
)

// Activation names the function between the two dense layers of a feed-forward
// block.
type Activation string

// The supported activations.
const (
	GELU     Activation = "gelu"      // exact, with erf
	GELUTanh Activation = "gelu_tanh" // the tanh approximation
	ReLU     Activation = "relu"
)

// activations maps the values of hidden_act to functions.
var activations = map[string]Activation{
	"gelu":              GELU,
	"gelu_python":       GELU,
	"gelu_new":          GELUTanh,
	"gelu_pytorch_tanh": GELUTanh,
	"gelu_python_tanh":  GELUTanh,
	"relu":              ReLU,
}

// A Config holds the sizes of a model's graph, read from config.json.
type Config struct {
	VocabSize        int // rows of the word embeddings
	HiddenSize       int // width of a token's vector, a multiple of Heads
	Layers           int
	Heads            int // attention heads per layer
	IntermediateSize int // inner width of a feed-forward block
	MaxPositions     int // rows of the position embeddings
	TypeVocabSize    int // rows of the token type embeddings
	Labels           int // logits per pair
	LayerNormEps     float64
	Activation       Activation
}

// configJSON holds the fields of config.json that are read.
type configJSON struct {
	ModelType             string         `json:"model_type"`
	Architectures         []string       `json:"architectures"`
	VocabSize             *int           `json:"vocab_size"`
	HiddenSize            *int           `json:"hidden_size"`
	Layers                *int           `json:"num_hidden_layers"`
	Heads                 *int           `json:"num_attention_heads"`
	IntermediateSize      *int           `json:"intermediate_size"`
	MaxPositions          *int           `json:"max_position_embeddings"`
	TypeVocabSize         *int           `json:"type_vocab_size"`
	LayerNormEps          *float64       `json:"layer_norm_eps"`
	HiddenAct             *string        `json:"hidden_act"`
	PositionEmbeddingType *string        `json:"position_embedding_type"`
	IsDecoder             bool           `json:"is_decoder"`
	AddCrossAttention     bool           `json:"add_cross_attention"`
	NumLabels             *int           `json:"num_labels"`
	ID2Label              map[string]any `json:"id2label"`
	Sentence              map[string]any `json:"sentence_transformers"`
	LegacyActivation      *string        `json:"sbert_ce_default_activation_function"`
	TokenizerClass        *string        `json:"tokenizer_class"`
	Quantization          map[string]any `json:"quantization_config"`
	PrunedHeads           map[string]any `json:"pruned_heads"`
}

// A modelConfig is everything that config.json sets: sizes, the scoring
// function, label names and the tokenizer class.
type modelConfig struct {
	Config
	scoring        namedScoring
	id2label       map[string]any
	tokenizerClass string // "" for none
}

// labelNames returns a name for each logit.
func (c modelConfig) labelNames() []string {
	names := make([]string, c.Labels)
	for i := range names {
		names[i] = fmt.Sprintf("LABEL_%d", i)
		if name, ok := c.id2label[strconv.Itoa(i)].(string); ok && len(c.id2label) == c.Labels {
			names[i] = name
		}
	}
	return names
}

// readConfig reads and checks config.json of a model directory.
func readConfig(dir string) (modelConfig, error) {
	path := filepath.Join(dir, configFile)
	data, err := readSmall(path, maxConfig)
	if err != nil {
		return modelConfig{}, missingFile(path, err, "every model directory needs one")
	}
	cfg, err := parseConfig(data)
	if err != nil {
		return cfg, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

// parseConfig decodes and checks config.json.
func parseConfig(data []byte) (modelConfig, error) {
	var c configJSON
	if err := json.Unmarshal(data, &c); err != nil {
		return modelConfig{}, jsonError(err)
	}
	if err := c.checkArchitecture(); err != nil {
		return modelConfig{}, err
	}
	cfg, err := c.sizes()
	if err != nil {
		return modelConfig{}, err
	}
	scoring, err := c.scoring()
	return modelConfig{
		Config: cfg, scoring: namedScoring{configFile, scoring}, id2label: c.ID2Label, tokenizerClass: valueOr(c.TokenizerClass, ""),
	}, err
}

// checkArchitecture rejects every model that is not a plain BERT encoder.
func (c *configJSON) checkArchitecture() error {
	if c.ModelType != "bert" {
		return fmt.Errorf("model_type %q is not supported, expected \"bert\"", c.ModelType)
	}
	for _, arch := range c.Architectures {
		if arch != classifierArch && arch != encoderArch {
			return fmt.Errorf("architecture %q is not supported, expected %s or %s", arch, classifierArch, encoderArch)
		}
	}
	if t := c.PositionEmbeddingType; t != nil && *t != "absolute" {
		return fmt.Errorf("position_embedding_type %q is not supported, expected \"absolute\"", *t)
	}
	if c.IsDecoder || c.AddCrossAttention {
		return fmt.Errorf("is_decoder and add_cross_attention are not supported, expected an encoder")
	}
	if len(c.PrunedHeads) > 0 {
		return fmt.Errorf("pruned_heads is not supported, expected all attention heads")
	}
	if len(c.Quantization) > 0 {
		return fmt.Errorf("quantization_config is not supported, expected weights in floating point")
	}
	return nil
}

// sizes returns the checked Config.
func (c *configJSON) sizes() (Config, error) {
	var cfg Config
	types := valueOr(c.TypeVocabSize, defaultTypeVocab)
	fields := []struct {
		name  string
		value *int
		to    *int
		max   int
	}{
		{"vocab_size", c.VocabSize, &cfg.VocabSize, 1 << 22},
		{"hidden_size", c.HiddenSize, &cfg.HiddenSize, 1 << 14},
		{"num_hidden_layers", c.Layers, &cfg.Layers, 1 << 8},
		{"num_attention_heads", c.Heads, &cfg.Heads, 1 << 10},
		{"intermediate_size", c.IntermediateSize, &cfg.IntermediateSize, 1 << 16},
		{"max_position_embeddings", c.MaxPositions, &cfg.MaxPositions, 1 << 17},
		{"type_vocab_size", &types, &cfg.TypeVocabSize, 1 << 10},
		{"num_labels", c.labels(), &cfg.Labels, maxLabels},
	}
	for _, f := range fields {
		if f.value == nil {
			return cfg, fmt.Errorf("field %q is missing", f.name)
		}
		if *f.value < 1 || *f.value > f.max {
			return cfg, fmt.Errorf("%s is %d, expected 1 to %d", f.name, *f.value, f.max)
		}
		*f.to = *f.value
	}
	if cfg.TypeVocabSize < 2 {
		return cfg, fmt.Errorf("type_vocab_size is %d, expected at least 2: one for the query, one for the document", cfg.TypeVocabSize)
	}
	if cfg.HiddenSize%cfg.Heads != 0 {
		return cfg, fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", cfg.HiddenSize, cfg.Heads)
	}
	cfg.LayerNormEps = valueOr(c.LayerNormEps, defaultLayerNormEps)
	if !(cfg.LayerNormEps > 0 && cfg.LayerNormEps <= 1) {
		return cfg, fmt.Errorf("layer_norm_eps is %v, expected more than 0 and at most 1", cfg.LayerNormEps)
	}
	act, ok := activations[valueOr(c.HiddenAct, "gelu")]
	if !ok {
		return cfg, fmt.Errorf("hidden_act %q is not supported, expected one of %s", *c.HiddenAct, strings.Join(sortedKeys(activations), ", "))
	}
	cfg.Activation = act
	return cfg, nil
}

// labels returns the number of logits. Hugging Face takes it from id2label, or
// else from num_labels, or else 2. sentence-transformers adds a head with one
// label to a model that is not a classifier.
func (c *configJSON) labels() *int {
	n := defaultLabels
	switch {
	case slices.Contains(c.Architectures, encoderArch):
		n = 1
	case len(c.ID2Label) > 0:
		n = len(c.ID2Label)
	case c.NumLabels != nil:
		n = *c.NumLabels
	}
	return &n
}

// scoring returns the name of the scoring function in config.json, nil for none:
// sentence_transformers.activation_fn, or the key that sentence-transformers
// used before version 4.
func (c *configJSON) scoring() (*string, error) {
	value, ok := c.Sentence["activation_fn"]
	if !ok {
		return c.LegacyActivation, nil
	}
	if value == nil {
		return nil, nil
	}
	name, ok := value.(string)
	if !ok {
		return nil, fmt.Errorf("sentence_transformers.activation_fn is %v, expected a string", value)
	}
	return &name, nil
}
