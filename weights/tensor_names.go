package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A slot is a tensor that the graph needs: its canonical name and its shape.
type slot struct {
	name  string
	shape []int
}

// layout returns the slots of the graph that cfg describes, in canonical order.
func layout(cfg Config) []slot {
	h, ffn := cfg.HiddenSize, cfg.IntermediateSize
	slots := []slot{
		{"embeddings.word_embeddings.weight", []int{cfg.VocabSize, h}},
		{"embeddings.position_embeddings.weight", []int{cfg.MaxPositions, h}},
		{"embeddings.token_type_embeddings.weight", []int{cfg.TypeVocabSize, h}},
		{"embeddings.LayerNorm.weight", []int{h}},
		{"embeddings.LayerNorm.bias", []int{h}},
	}
	add := func(module string, shape ...int) {
		slots = append(slots, slot{module + ".weight", shape}, slot{module + ".bias", shape[:1]})
	}
	for i := range cfg.Layers {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		add(layer+"attention.self.query", h, h)
		add(layer+"attention.self.key", h, h)
		add(layer+"attention.self.value", h, h)
		add(layer+"attention.output.dense", h, h)
		add(layer+"attention.output.LayerNorm", h)
		add(layer+"intermediate.dense", ffn, h)
		add(layer+"output.dense", h, ffn)
		add(layer+"output.LayerNorm", h)
	}
	add("pooler.dense", h, h)
	add("classifier", cfg.Labels, h)
	return slots
}

// canonical removes from a tensor's name what depends on how the checkpoint was
// saved: the prefix of the encoder inside a classifier, and TensorFlow's names
// of LayerNorm's parameters.
func canonical(name string) string {
	name = strings.TrimPrefix(name, "bert.")
	if module, ok := strings.CutSuffix(name, ".LayerNorm.gamma"); ok {
		return module + ".LayerNorm.weight"
	}
	if module, ok := strings.CutSuffix(name, ".LayerNorm.beta"); ok {
		return module + ".LayerNorm.bias"
	}
	return name
}

// errMissing is wrapped by the error that lists missing tensors.
var errMissing = errors.New("missing")

// pick fills every slot, in order. Tensors that are missing are reported
// together.
func pick(slots []slot, found map[string]entry) ([]entry, error) {
	picked := make([]entry, 0, len(slots))
	var missing []string
	for _, s := range slots {
		e, ok := found[s.name]
		if !ok {
			missing = append(missing, s.name)
			continue
		}
		if e.DType != F32 && e.DType != F16 && e.DType != BF16 {
			return nil, e.errorf("dtype %s, expected F32, F16 or BF16", e.DType)
		}
		if !slices.Equal(e.Shape, s.shape) {
			return nil, e.errorf("shape %v, expected %v", e.Shape, s.shape)
		}
		picked = append(picked, e)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d of %d tensors %w: %s", len(missing), len(slots), errMissing, few(missing))
	}
	return picked, nil
}

// few joins the first names of a list and counts the rest.
func few(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
