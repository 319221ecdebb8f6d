package weights

import (
	"fmt"
	"slices"
	"strings"
)

// An architecture describes the models of a model_type of transformers: what their
// config.json says of the graph, and how their checkpoints name the tensors.
type architecture struct {
	modelType  string
	classifier string   // the class with a head
	encoders   []string // classes without it; an adapter or modules must bring a head

	// fields maps BERT's names of config.json's fields to this model_type's names.
	fields map[string]string
	// eps is the default of layer_norm_eps, and its value if fixedEps.
	eps      float64
	fixedEps bool
	// positions is the source of a token's position.
	positions positions
	// noTypes reports that type ids have no embeddings.
	noTypes bool
	// paddingID is the default of pad_token_id.
	paddingID int
	// describe, if set, reads what only this model_type has.
	describe func(*fieldReader, *modelConfig)
	// head lists the steps of the classifier's head. Sizes are set later: the last
	// step makes the labels, the others keep HiddenSize.
	head []HeadStep

	prefix  string            // of the encoder's tensors in a checkpoint of the classifier
	layers  string            // before the number of a layer
	modules map[string]string // names of modules, below prefix and layers, where they differ from BERT's
}

// positions names the source of a token's position.
type positions string

// The kinds of positions.
const (
	absolute     positions = "position embeddings from row 0"
	afterPadding positions = "position embeddings from row pad_token_id + 1"
	rotary       positions = "rotary positions"
)

// architectures lists what is supported. docs/user/models.md has the same list.
var architectures = []*architecture{
	{
		modelType: "bert", classifier: "BertForSequenceClassification", encoders: []string{"BertModel", "BertForMaskedLM", "BertForPreTraining"},
		eps: 1e-12, positions: absolute, paddingID: 0,
		head:   []HeadStep{{Name: "pooler.dense", Activation: Tanh}, {Name: "classifier", Activation: Identity}},
		prefix: "bert.", layers: bertLayers,
	},
	robertaLike("roberta", "Roberta"),
	robertaLike("xlm-roberta", "XLMRoberta"),
	robertaLike("camembert", "Camembert"),
	{
		modelType: "distilbert", classifier: "DistilBertForSequenceClassification", encoders: []string{"DistilBertModel", "DistilBertForMaskedLM"},
		fields: map[string]string{
			"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
			"intermediate_size": "hidden_dim", "hidden_act": "activation",
		},
		eps: 1e-12, fixedEps: true, positions: absolute, noTypes: true, paddingID: 0,
		head:   []HeadStep{{Name: "pre_classifier", Activation: ReLU}, {Name: "classifier", Activation: Identity}},
		prefix: "distilbert.", layers: "transformer.layer.",
		modules: map[string]string{
			"attention.q_lin": query, "attention.k_lin": key, "attention.v_lin": value, "attention.out_lin": attentionOutput,
			"sa_layer_norm": "attention.output.LayerNorm", "ffn.lin1": intermediate, "ffn.lin2": output, "output_layer_norm": "output.LayerNorm",
		},
	},
	{
		modelType: "electra", classifier: "ElectraForSequenceClassification", encoders: []string{"ElectraModel", "ElectraForPreTraining", "ElectraForMaskedLM"},
		eps: 1e-12, positions: absolute, paddingID: 0, describe: describeElectra,
		head:   []HeadStep{{Name: "classifier.dense", Activation: GELU}, {Name: "classifier.out_proj", Activation: Identity}},
		prefix: "electra.", layers: bertLayers,
	},
	{
		modelType: "modernbert", classifier: "ModernBertForSequenceClassification", encoders: []string{"ModernBertModel", "ModernBertForMaskedLM"},
		fields: map[string]string{"hidden_act": "hidden_activation", "layer_norm_eps": "norm_eps"},
		eps:    1e-5, positions: rotary, noTypes: true, paddingID: 50283, describe: describeModernBERT,
		head:   []HeadStep{{Name: "head.dense", Activation: GELU}, {Name: "head.norm", LayerNorm: true}, {Name: "classifier", Activation: Identity}},
		prefix: "model.", layers: "layers.",
		modules: map[string]string{
			"embeddings.tok_embeddings": "embeddings.word_embeddings", "embeddings.norm": "embeddings.LayerNorm",
			"attn_norm": "attention.LayerNorm", "attn.Wqkv": fusedQKV, "attn.Wo": attentionOutput,
			"mlp_norm": "LayerNorm", "mlp.Wi": intermediate, "mlp.Wo": output, "final_norm": "encoder.LayerNorm",
		},
	},
}

// Canonical names of a layer's modules.
const (
	bertLayers      = "encoder.layer."
	query           = "attention.self.query"
	key             = "attention.self.key"
	value           = "attention.self.value"
	fusedQKV        = "attention.self.qkv" // rows of query, key and value, one after the other
	attentionOutput = "attention.output.dense"
	intermediate    = "intermediate.dense"
	output          = "output.dense"
)

// robertaLike returns the architecture of RoBERTa and the models that share its code.
func robertaLike(modelType, class string) *architecture {
	return &architecture{
		modelType: modelType, classifier: class + "ForSequenceClassification", encoders: []string{class + "Model", class + "ForMaskedLM"},
		eps: 1e-12, positions: afterPadding, paddingID: 1,
		head:   []HeadStep{{Name: "classifier.dense", Activation: Tanh}, {Name: "classifier.out_proj", Activation: Identity}},
		prefix: "roberta.", layers: bertLayers,
	}
}

// findArchitecture returns the architecture of a model_type, nil if it is not supported.
func findArchitecture(modelType string) *architecture {
	i := slices.IndexFunc(architectures, func(a *architecture) bool { return a.modelType == modelType })
	if i < 0 {
		return nil
	}
	return architectures[i]
}

// modelTypes lists the supported model_types.
func modelTypes() []string {
	var names []string
	for _, a := range architectures {
		names = append(names, fmt.Sprintf("%q", a.modelType))
	}
	return names
}

// field returns the name of a field that BERT calls name.
func (a *architecture) field(name string) string {
	if other, ok := a.fields[name]; ok {
		return other
	}
	return name
}

// canonical returns the name that a tensor of a checkpoint has in the graph. It
// removes what depends on how the checkpoint was saved: the prefix of the encoder
// inside a classifier, and TensorFlow's names of LayerNorm's parameters.
func (a *architecture) canonical(name string) string {
	name = strings.TrimPrefix(name, a.prefix)
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return name
	}
	module, parameter := name[:dot], name[dot+1:]
	if strings.HasSuffix(module, ".LayerNorm") {
		switch parameter {
		case "gamma":
			parameter = "weight"
		case "beta":
			parameter = "bias"
		}
	}
	return a.module(module) + "." + parameter
}

func (a *architecture) module(name string) string {
	layer := ""
	if rest, ok := strings.CutPrefix(name, a.layers); ok {
		number, inner, ok := strings.Cut(rest, ".")
		if !ok {
			return name
		}
		layer, name = bertLayers+number+".", inner
	}
	if other, ok := a.modules[name]; ok {
		name = other
	}
	return layer + name
}

// describeElectra reads the width of ELECTRA's embeddings.
func describeElectra(r *fieldReader, c *modelConfig) {
	c.EmbeddingSize = r.size("embedding_size", 128, maxHidden)
}

// describeModernBERT reads ModernBERT's attention, feed-forward, biases and head.
func describeModernBERT(r *fieldReader, c *modelConfig) {
	c.PreNorm, c.Gated = true, true
	c.bare = biases{
		attention:   !readField(r, "attention_bias", false),
		feedForward: !readField(r, "mlp_bias", false),
		norm:        !readField(r, "norm_bias", false),
	}
	if width := c.HiddenSize / max(1, c.Heads); width%2 != 0 {
		r.fail("hidden_size %d with num_attention_heads %d makes heads of %d numbers, expected an even number for rotary positions", c.HiddenSize, c.Heads, width)
	}
	r.readAttention(c)
	r.readRope(c)
	act := readField(r, "classifier_activation", "gelu")
	var ok bool
	if c.Head[0].Activation, ok = headActivations[act]; !ok {
		r.fail("classifier_activation %q is not supported, expected one of %s", act, strings.Join(sortedKeys(headActivations), ", "))
	}
	c.Head[1].Epsilon = c.LayerNormEps
	c.bareSteps = map[string]bool{
		c.Head[0].Name: !readField(r, "classifier_bias", false), c.Head[1].Name: c.bare.norm,
	}
	switch pooling := readField(r, "classifier_pooling", "cls"); pooling {
	case "cls":
	case "mean":
		c.Pooling = PoolMean
	default:
		r.fail("classifier_pooling is %q, expected \"cls\" or \"mean\"", pooling)
	}
}

// readAttention reads which layers of ModernBERT are local, and their window.
func (r *fieldReader) readAttention(c *modelConfig) {
	every := r.size("global_attn_every_n_layers", 3, maxLayers)
	if types := readField[[]string](r, "layer_types", nil); types != nil && r.err == nil {
		every = r.globalEvery(types, c.Layers)
	}
	window := r.size("local_attention", 128, 1<<20)
	if r.err != nil || every == 1 || c.Layers == 1 {
		return // no local layers
	}
	if window%2 != 0 {
		r.fail("local_attention is %d, expected an even number: half of it on each side of a token", window)
	}
	c.Window, c.GlobalEvery = window/2, every
}

// globalEvery returns the n of which the indices of the global layers are the multiples.
func (r *fieldReader) globalEvery(types []string, layers int) int {
	if len(types) != layers {
		r.fail("layer_types has %d layers, expected num_hidden_layers %d", len(types), layers)
		return 1
	}
	const global, local = "full_attention", "sliding_attention"
	every := layers
	if i := slices.Index(types[1:], global); i >= 0 {
		every = i + 1
	}
	for i, t := range types {
		want := local
		if i%every == 0 {
			want = global
		}
		switch {
		case t != global && t != local:
			r.fail("layer_types: layer %d is %q, expected %q or %q", i, t, global, local)
		case t != want:
			r.fail("layer_types: layer %d is %q, expected %q: other patterns than one global layer in every n are not supported", i, t, want)
		}
	}
	return every
}

// readRope reads the bases of ModernBERT's rotary positions: rope_parameters of
// transformers 5, or else the fields of older versions.
func (r *fieldReader) readRope(c *modelConfig) {
	if scaling := readField[map[string]any](r, "rope_scaling", nil); len(scaling) > 0 {
		r.checkRopeKind("rope_scaling", scaling)
	}
	params := readField[map[string]map[string]any](r, "rope_parameters", nil)
	for _, kind := range []struct {
		name, old string
		base      float64
		to        *float64
	}{
		{"full_attention", "global_rope_theta", 160000, &c.RopeBase},
		{"sliding_attention", "local_rope_theta", 10000, &c.LocalRopeBase},
	} {
		field := kind.old
		if string(r.fields[field]) == "null" {
			r.fail("%s is null, expected a number; remove it for the default, %v", field, kind.base)
		}
		*kind.to = readField(r, field, kind.base)
		own := params[kind.name]
		r.checkRopeKind("rope_parameters."+kind.name, own)
		if theta, ok := own["rope_theta"]; ok {
			field = "rope_parameters." + kind.name + ".rope_theta"
			if *kind.to, ok = theta.(float64); !ok {
				r.fail("%s is %v, expected a number", field, theta)
			}
		}
		if !(*kind.to > 0 && *kind.to < 1e12) {
			r.fail("%s is %v, expected a number above 0 and below 1e12", field, *kind.to)
		}
		delete(params, kind.name)
	}
	for _, name := range sortedKeys(params) {
		r.fail("rope_parameters.%s is unknown, expected full_attention and sliding_attention", name)
	}
}

// checkRopeKind rejects scaled rotary positions.
func (r *fieldReader) checkRopeKind(field string, parameters map[string]any) {
	for _, name := range sortedKeys(parameters) {
		switch value := parameters[name]; {
		case name == "rope_theta":
		case (name == "rope_type" || name == "type") && value == "default":
		default:
			r.fail("%s: %s %v is not supported, expected rotary positions without scaling (rope_type \"default\")", field, name, value)
		}
	}
}
