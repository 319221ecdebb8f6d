package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A slot is a place in the graph that a tensor fills.
type slot struct {
	name  string
	shape []int
}

// layout lists the slots of the graph that cfg describes, in canonical order.
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

// canonical strips what only tells how a checkpoint was saved: the prefix of
// the encoder inside a classifier, and the names LayerNorm's parameters had in
// TensorFlow.
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

// An entry is a tensor under its canonical name and, for errors, where it was
// found under which name.
type entry struct {
	Tensor
	file, raw string
}

func (e entry) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: tensor %q: %w", e.file, e.raw, fmt.Errorf(format, args...))
}

// A tensorFile is the content of one safetensors file.
type tensorFile struct {
	name    string
	tensors []Tensor
}

// mapFile maps and parses a safetensors file for the life of m.
func (m *Model) mapFile(path string) (*tensorFile, error) {
	mem, err := mapPath(path)
	if err != nil {
		return nil, explainWeights(path, err)
	}
	m.owned = append(m.owned, mem)
	tensors, err := parseSafetensors(mem.data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &tensorFile{name: path, tensors: tensors}, nil
}

// index returns the tensors of all files by canonical name.
func index(files []*tensorFile) (map[string]entry, error) {
	found := map[string]entry{}
	for _, f := range files {
		for _, t := range f.tensors {
			e := entry{t, f.name, t.Name}
			e.Name = canonical(t.Name)
			if twin, ok := found[e.Name]; ok {
				return nil, e.errorf("names the same tensor as %q of %s", twin.raw, twin.file)
			}
			found[e.Name] = e
		}
	}
	return found, nil
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

// unused names what a file holds beside the graph, sorted.
func unused(slots []slot, found map[string]entry) []string {
	used := make(map[string]bool, len(slots))
	for _, s := range slots {
		used[s.name] = true
	}
	var names []string
	for name, e := range found {
		if !used[name] {
			names = append(names, e.raw)
		}
	}
	slices.Sort(names)
	return names
}

// few joins the first names of a list that may be long.
func few(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
