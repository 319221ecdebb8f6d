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
	configFile       = "config.json"
	weightsFile      = "model.safetensors"
	maxConfig        = 4 << 20 // bytes; id2label may be long
	maxVocab         = 1 << 22
	maxHidden        = 1 << 14
	maxLayers        = 1 << 8
	maxHeads         = 1 << 10
	maxIntermediate  = 1 << 16
	maxPositions     = 1 << 17
	maxTypes         = 1 << 10
	maxLabels        = 1 << 12
	defaultLabels    = 2 // as in transformers, without id2label and num_labels
	defaultTypeVocab = 2
)

// Activation names a function of a number.
type Activation string

// The supported activations. Feed-forward blocks have one of the first three.
const (
	GELU     Activation = "gelu"      // exact, with erf
	GELUTanh Activation = "gelu_tanh" // the tanh approximation
	ReLU     Activation = "relu"
	SiLU     Activation = "silu" // x sigmoid(x)
	Tanh     Activation = "tanh"
	Sigmoid  Activation = "sigmoid"
	Identity Activation = "identity"
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

// headActivations maps the values of classifier_activation to functions.
var headActivations = map[string]Activation{
	"gelu": GELU, "gelu_python": GELU, "gelu_new": GELUTanh, "gelu_pytorch_tanh": GELUTanh, "gelu_python_tanh": GELUTanh,
	"relu": ReLU, "silu": SiLU, "swish": SiLU, "tanh": Tanh, "sigmoid": Sigmoid, "linear": Identity,
}

// A Config describes a model's graph: an encoder and the head that makes logits of a
// pair. It is read from config.json and the modules of sentence-transformers.
type Config struct {
	VocabSize        int // rows of the word embeddings
	HiddenSize       int // width of a token's vector, a multiple of Heads
	Layers           int
	Heads            int // attention heads per layer
	IntermediateSize int // inner width of a feed-forward block
	MaxPositions     int // tokens of the longest pair
	TypeVocabSize    int // rows of the token type embeddings
	Labels           int // logits per pair
	LayerNormEps     float64
	Activation       Activation

	EmbeddingSize int     // width of the embeddings; if not HiddenSize, they are projected
	FirstPosition int     // row of the position embeddings for a pair's first token
	PreNorm       bool    // LayerNorm before each block and at the end, not after each block
	Gated         bool    // feed-forward is output(activation(a) * b), for [a b] = intermediate(x)
	Window        int     // a local layer's token attends to so many on each side; 0: no local layers
	GlobalEvery   int     // with Window: layer i is global if i is a multiple of it
	RopeBase      float64 // of rotary positions in global layers; 0: position embeddings instead
	LocalRopeBase float64 // likewise in local layers
	Pooling       Pooling
	Head          []HeadStep // at least one
}

// Pooling describes what the head reads of a pair: a sum of the constants. Each makes a
// vector of HiddenSize; several lie end to end in the constants' order.
type Pooling int

// Poolings. The means are over the pair's tokens: PoolMeanSqrt divides their sum by the
// square root of their number, and PoolWeightedMean weights the token at position i
// by i + 1.
const (
	PoolCLS Pooling = 1 << iota
	PoolMax
	PoolMean
	PoolMeanSqrt
	PoolWeightedMean
	PoolLast
)

// String returns the names that sentence-transformers has for the poolings.
func (p Pooling) String() string {
	var names []string
	for _, mode := range poolingModes {
		if p&mode.pooling != 0 {
			names = append(names, mode.name)
		}
	}
	return strings.Join(names, "+")
}

// A HeadStep is a step of the head. The first one's input is what is pooled, the last
// one's result the logits. It has tensors Name.weight and Name.bias.
type HeadStep struct {
	Name      string
	Out       int  // columns of the result
	LayerNorm bool // else a dense layer: Activation(W x + b)
	Epsilon   float64

	Activation Activation // of a dense layer
	Residual   bool       // a dense layer then adds its input, which has Out columns
}

// A modelConfig is everything that config.json sets: the graph, how a checkpoint
// stores its tensors, the scoring function, label names and the tokenizer class.
type modelConfig struct {
	Config
	modelType      string
	arch           *architecture
	class          string          // of transformers
	bare           biases          // groups of modules without biases
	quantization   Quantization    // of small weights
	bareSteps      map[string]bool // steps of the head without biases
	stack          []moduleFile    // of the head's tensors, if modules of sentence-transformers make the head
	scoring        namedScoring
	id2label       map[string]any
	tokenizerClass string // "" for none
}

// biases lists groups of an encoder's modules.
type biases struct{ attention, feedForward, norm bool }

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

// setLabels sets the number of logits, which the head's last step makes.
func (c *modelConfig) setLabels(n int) {
	c.Labels = n
	c.Head = slices.Clone(c.Head)
	c.Head[len(c.Head)-1].Out = n
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
	r := &fieldReader{}
	if err := json.Unmarshal(data, &r.fields); err != nil {
		return modelConfig{}, jsonError(err)
	}
	arch := r.architecture()
	if r.err != nil {
		return modelConfig{}, r.err
	}
	c := modelConfig{
		modelType: arch.modelType, arch: arch, id2label: readField[map[string]any](r, "id2label", nil),
		scoring: namedScoring{configFile, r.scoring()}, tokenizerClass: readField(r, "tokenizer_class", ""),
	}
	c.class = r.class(arch)
	c.quantization = r.quantization()
	r.readSizes(&c)
	if r.err == nil && arch.describe != nil {
		arch.describe(r, &c)
	}
	return c, r.err
}

// A fieldReader reads the fields of config.json. It keeps the first error.
type fieldReader struct {
	fields map[string]json.RawMessage
	err    error
}

func (r *fieldReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// readField returns the value of a field, or otherwise if it is absent or null.
func readField[T any](r *fieldReader, name string, otherwise T) T {
	var value *T
	if raw, ok := r.fields[name]; ok {
		if err := json.Unmarshal(raw, &value); err != nil {
			r.fail("field %q: %w", name, jsonError(err))
			return otherwise
		}
	}
	return valueOr(value, otherwise)
}

// size returns a number from 1 to most. It is an error if the field is absent and
// otherwise is 0.
func (r *fieldReader) size(name string, otherwise, most int) int {
	value := readField[*int](r, name, nil)
	if value == nil {
		if otherwise == 0 {
			r.fail("field %q is missing", name)
		}
		return otherwise
	}
	if *value < 1 || *value > most {
		r.fail("%s is %d, expected 1 to %d", name, *value, most)
	}
	return *value
}

// architecture returns the model's architecture. It rejects models that are not
// supported.
func (r *fieldReader) architecture() *architecture {
	modelType := readField(r, "model_type", "")
	code := r.ownCode()
	a := findArchitecture(modelType)
	switch {
	case r.err != nil:
		return nil
	case code != "":
		r.fail("the model needs code of its own (auto_map: %s), which transformers runs with trust_remote_code; mlxrank runs no code of models", code)
		return nil
	case a == nil:
		r.fail("model_type %q is not supported, expected one of %s", modelType, strings.Join(modelTypes(), ", "))
		return nil
	}
	if t := readField(r, "position_embedding_type", "absolute"); t != "absolute" && a.readsPositionType() {
		r.fail("position_embedding_type %q is not supported, expected \"absolute\"", t)
	}
	if readField(r, "is_decoder", false) || readField(r, "add_cross_attention", false) {
		r.fail("is_decoder and add_cross_attention are not supported, expected an encoder")
	}
	if len(readField[map[string]any](r, "pruned_heads", nil)) > 0 {
		r.fail("pruned_heads is not supported, expected all attention heads")
	}
	return a
}

// readsPositionType reports whether position_embedding_type has a meaning.
func (a *architecture) readsPositionType() bool {
	return a.positions != rotary && a.modelType != "distilbert"
}

// ownCode returns the name of code in the model's repository that makes the model,
// "" for none.
func (r *fieldReader) ownCode() string {
	code := readField[map[string]any](r, "auto_map", nil)
	for _, class := range []string{"AutoModelForSequenceClassification", "AutoModel", "AutoConfig"} {
		if name, ok := code[class]; ok {
			return fmt.Sprintf("%s %v", class, name)
		}
	}
	return ""
}

// class returns the class of transformers that the checkpoint was saved from.
func (r *fieldReader) class(a *architecture) string {
	classes := readField[[]string](r, "architectures", nil)
	for _, class := range classes {
		if class != a.classifier && !slices.Contains(a.encoders, class) {
			r.fail("architecture %q is not supported, expected %s or %s", class, a.classifier, strings.Join(a.encoders, ", "))
		}
	}
	if len(classes) == 0 {
		return a.classifier
	}
	return classes[0]
}

// readSizes reads the sizes that all architectures have, and sets the head.
func (r *fieldReader) readSizes(c *modelConfig) {
	a := c.arch
	c.VocabSize = r.size("vocab_size", 0, maxVocab)
	c.HiddenSize = r.size(a.field("hidden_size"), 0, maxHidden)
	c.Layers = r.size(a.field("num_hidden_layers"), 0, maxLayers)
	c.Heads = r.size(a.field("num_attention_heads"), 0, maxHeads)
	c.IntermediateSize = r.size(a.field("intermediate_size"), 0, maxIntermediate)
	c.MaxPositions = r.size("max_position_embeddings", 0, maxPositions)
	// A tokenizer's template may have two types although the model ignores them.
	c.TypeVocabSize = defaultTypeVocab
	if !a.noTypes {
		c.TypeVocabSize = r.size("type_vocab_size", defaultTypeVocab, maxTypes)
	}
	c.Labels = r.labels(a)
	if r.err != nil {
		return
	}
	if c.HiddenSize%c.Heads != 0 {
		r.fail("%s %d is not a multiple of %s %d", a.field("hidden_size"), c.HiddenSize, a.field("num_attention_heads"), c.Heads)
	}
	c.LayerNormEps = a.eps
	if !a.fixedEps {
		c.LayerNormEps = readField(r, a.field("layer_norm_eps"), a.eps)
	}
	if !(c.LayerNormEps > 0 && c.LayerNormEps <= 1) {
		r.fail("%s is %v, expected more than 0 and at most 1", a.field("layer_norm_eps"), c.LayerNormEps)
	}
	name := readField(r, a.field("hidden_act"), "gelu")
	var ok bool
	if c.Activation, ok = activations[name]; !ok {
		r.fail("%s %q is not supported, expected one of %s", a.field("hidden_act"), name, strings.Join(sortedKeys(activations), ", "))
	}
	r.readPositions(c)
	c.EmbeddingSize, c.Pooling = c.HiddenSize, PoolCLS
	c.Head = slices.Clone(a.head)
	for i := range c.Head {
		c.Head[i].Out = c.HiddenSize
	}
	c.setLabels(c.Labels)
}

// readPositions sets the rows of the position embeddings. RoBERTa's begin after the
// row of padding.
func (r *fieldReader) readPositions(c *modelConfig) {
	padding := readField(r, "pad_token_id", c.arch.paddingID)
	if padding >= c.VocabSize || padding < 0 && c.arch.positions == afterPadding {
		r.fail("pad_token_id is %d, expected 0 to %d, less than vocab_size", padding, c.VocabSize-1)
	}
	if c.arch.positions != afterPadding {
		return
	}
	c.FirstPosition = padding + 1
	if c.MaxPositions <= c.FirstPosition {
		r.fail("max_position_embeddings is %d, expected more than pad_token_id + 1 = %d: the first token has that row", c.MaxPositions, c.FirstPosition)
	}
	c.MaxPositions -= c.FirstPosition
}

// labels returns the number of logits. Hugging Face takes it from id2label, or
// else from num_labels, or else 2. sentence-transformers adds a head with one
// label to a model that is not a classifier.
func (r *fieldReader) labels(a *architecture) int {
	classes := readField[[]string](r, "architectures", nil)
	if len(classes) > 0 && !slices.Contains(classes, a.classifier) {
		return 1
	}
	names := readField[map[string]any](r, "id2label", nil)
	if len(names) > maxLabels {
		r.fail("num_labels is %d, expected 1 to %d", len(names), maxLabels)
	}
	if len(names) > 0 {
		return len(names)
	}
	return r.size("num_labels", defaultLabels, maxLabels)
}

// scoring returns the name of the scoring function in config.json, nil for none:
// sentence_transformers.activation_fn, or the key that sentence-transformers
// used before version 4.
func (r *fieldReader) scoring() *string {
	value, ok := readField[map[string]any](r, "sentence_transformers", nil)["activation_fn"]
	if !ok {
		return readField[*string](r, "sbert_ce_default_activation_function", nil)
	}
	if value == nil {
		return nil
	}
	name, ok := value.(string)
	if !ok {
		r.fail("sentence_transformers.activation_fn is %v, expected a string", value)
	}
	return &name
}
