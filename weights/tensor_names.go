package weights

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// A slot is a tensor that the graph needs: its canonical name and its shape.
type slot struct {
	name  string
	shape []int
	zeros bool     // not in the checkpoint: all values are zero
	parts []string // names of the tensors that equal shares of its rows make
}

const wordEmbeddings = "embeddings.word_embeddings.weight"

// layout returns the slots of the graph that c describes, in canonical order.
func layout(c *modelConfig) []slot {
	h, emb := c.HiddenSize, c.EmbeddingSize
	l := &slots{}
	l.add(wordEmbeddings, c.VocabSize, emb)
	if c.arch.positions != rotary {
		l.add("embeddings.position_embeddings.weight", c.FirstPosition+c.MaxPositions, emb)
	}
	l.add("embeddings.token_type_embeddings.weight", c.TypeVocabSize, emb)
	l.last().zeros = c.arch.noTypes
	l.module("embeddings.LayerNorm", c.bare.norm, emb)
	if emb != h {
		l.module("embeddings_project", false, h, emb)
	}
	for i := range c.Layers {
		l.layer(fmt.Sprintf("%s%d.", bertLayers, i), c, i)
	}
	if c.PreNorm {
		l.module("encoder.LayerNorm", c.bare.norm, h)
	}
	l.head(c)
	return l.list
}

// slots collects slots.
type slots struct{ list []slot }

func (l *slots) add(name string, shape ...int) {
	l.list = append(l.list, slot{name: name, shape: shape})
}

func (l *slots) last() *slot { return &l.list[len(l.list)-1] }

// module adds the weight and the bias of a module. bare says that the checkpoint
// has no bias.
func (l *slots) module(name string, bare bool, shape ...int) {
	l.add(name+".weight", shape...)
	l.add(name+".bias", shape[0])
	l.last().zeros = bare
}

// layer adds the modules of layer i.
func (l *slots) layer(name string, c *modelConfig, i int) {
	h, inner := c.HiddenSize, c.IntermediateSize
	if c.Gated {
		inner *= 2
	}
	if c.PreNorm && i > 0 { // the embeddings are normalised already
		l.module(name+"attention.LayerNorm", c.bare.norm, h)
	}
	if c.arch.fused() {
		l.fused(name, c.bare.attention, h)
	} else {
		for _, module := range []string{query, key, value} {
			l.module(name+module, c.bare.attention, h, h)
		}
	}
	l.module(name+attentionOutput, c.bare.attention, h, h)
	if c.PreNorm {
		l.module(name+"LayerNorm", c.bare.norm, h)
	} else {
		l.module(name+"attention.output.LayerNorm", c.bare.norm, h)
	}
	l.module(name+intermediate, c.bare.feedForward, inner, h)
	l.module(name+output, c.bare.feedForward, h, c.IntermediateSize)
	if !c.PreNorm {
		l.module(name+"output.LayerNorm", c.bare.norm, h)
	}
}

// fused adds a module that holds the rows of query, key and value.
func (l *slots) fused(layer string, bare bool, h int) {
	l.module(layer+fusedQKV, bare, 3*h, h)
	for i, parameter := range []string{".weight", ".bias"} {
		s := &l.list[len(l.list)-2+i]
		s.parts = []string{layer + query + parameter, layer + key + parameter, layer + value + parameter}
	}
}

// fused reports whether the checkpoint stores query, key and value as one module.
func (a *architecture) fused() bool {
	for _, module := range a.modules {
		if module == fusedQKV {
			return true
		}
	}
	return false
}

// head adds the steps of the head.
func (l *slots) head(c *modelConfig) {
	width := c.pooledWidth()
	for _, step := range c.Head {
		if step.LayerNorm {
			l.module(step.Name, c.bareSteps[step.Name], width)
			continue
		}
		l.module(step.Name, c.bareSteps[step.Name], step.Out, width)
		width = step.Out
	}
}

// pooledWidth returns the size of what the head reads of a pair.
func (c Config) pooledWidth() int { return bits.OnesCount(uint(c.Pooling)) * c.HiddenSize }

// errMissing is wrapped by the error that lists missing tensors.
var errMissing = errors.New("missing")

// pick fills every slot, in order. Tensors that are missing are reported
// together. Slots of zeros share their data. q describes the small weights among the
// tensors.
func pick(slots []slot, found map[string]entry, q Quantization) ([]entry, error) {
	picked := make([]entry, 0, len(slots))
	var missing []string
	zeros := zeroData(slots)
	for _, s := range slots {
		if s.zeros {
			data := zeros[:4*elements(s.shape)]
			picked = append(picked, entry{Tensor: Tensor{Name: s.name, DType: F32, Shape: s.shape, Data: data}, file: "zeros", raw: s.name})
			continue
		}
		e, ok := found[s.name]
		if !ok {
			missing = append(missing, s.name)
			continue
		}
		if e.DType == U32 {
			packed, err := pickPacked(s, e, found, q)
			if err != nil {
				return nil, err
			}
			picked = append(picked, packed)
			continue
		}
		if e.DType != F32 && e.DType != F16 && e.DType != BF16 {
			return nil, e.errorf("dtype %s, expected F32, F16 or BF16", e.DType)
		}
		if !slices.Equal(e.Shape, s.shape) {
			return nil, e.errorf("shape %v, expected %v%s", e.Shape, s.shape, s.origin())
		}
		picked = append(picked, e)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d of %d tensors %w: %s", len(missing), stored(slots), errMissing, few(missing))
	}
	return picked, nil
}

// origin names the fields of config.json behind the shape of an embedding.
func (s slot) origin() string {
	switch s.name {
	case wordEmbeddings:
		return fmt.Sprintf(": vocab_size of %s is %d", configFile, s.shape[0])
	case "embeddings.position_embeddings.weight":
		return fmt.Sprintf(": max_position_embeddings of %s is %d", configFile, s.shape[0])
	}
	return ""
}

// stored counts the slots that a checkpoint fills.
func stored(slots []slot) int {
	n := 0
	for _, s := range slots {
		if !s.zeros {
			n++
		}
	}
	return n
}

// zeroData returns the data of the largest slot of zeros.
func zeroData(slots []slot) []byte {
	most := 0
	for _, s := range slots {
		if s.zeros {
			most = max(most, elements(s.shape))
		}
	}
	return make([]byte, 4*most)
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// split returns the tensors of the graph: the entries that fill the slots, or their
// parts. A part aliases the rows of its entry.
func split(slots []slot, picked []entry) []Tensor {
	var tensors []Tensor
	for i, e := range picked {
		parts := slots[i].parts
		if parts == nil {
			tensors = append(tensors, e.tensors()...)
			continue
		}
		for k, name := range parts {
			for _, t := range e.tensors() {
				tensors = append(tensors, t.part(k, len(parts), name))
			}
		}
	}
	return tensors
}

// part returns the k-th of n equal shares of a tensor's rows, as the parameter of that
// name, or as its scales or biases.
func (t Tensor) part(k, n int, name string) Tensor {
	shape := slices.Clone(t.Shape)
	shape[0] /= n
	size := len(t.Data) / n
	if dot := strings.LastIndexByte(t.Name, '.'); t.DType != U32 && t.Name[dot:] != name[strings.LastIndexByte(name, '.'):] {
		name = strings.TrimSuffix(name, ".weight") + t.Name[dot:]
	}
	return Tensor{Name: name, DType: t.DType, Shape: shape, Data: t.Data[k*size : (k+1)*size : (k+1)*size]}
}

// few joins the first names of a list and counts the rest.
func few(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
