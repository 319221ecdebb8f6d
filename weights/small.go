package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pickPacked returns the entry of a slot whose weights are small, with their scales and
// biases.
func pickPacked(s slot, e entry, found map[string]entry, q Quantization) (entry, error) {
	if q.Bits == 0 || len(s.shape) != 2 {
		return e, e.errorf("dtype %s, expected F32, F16 or BF16; %s has no %q", e.DType, configFile, quantizationField)
	}
	rows, cols := s.shape[0], s.shape[1]
	if cols%q.GroupSize != 0 {
		return e, e.errorf("group_size %d of %s does not divide its %d columns", q.GroupSize, configFile, cols)
	}
	p := &packedMatrix{Quantization: q, rows: rows, cols: cols, numbers: e.Data}
	if want := []int{rows, cols * q.Bits / 32}; !slices.Equal(e.Shape, want) {
		return e, e.errorf("shape %v, expected %v: %d rows of %d numbers of %d bits%s", e.Shape, want, rows, cols, q.Bits, s.origin())
	}
	for _, part := range []struct {
		name string
		to   *Tensor
	}{{"scales", &p.scales}, {"biases", &p.biases}} {
		name := strings.TrimSuffix(e.Name, "weight") + part.name
		t, ok := found[name]
		if !ok {
			return e, e.errorf("its %s are missing: small weights need the tensor %q", part.name, name)
		}
		if floatMasks[t.DType] == (floatMask{}) {
			return e, t.errorf("dtype %s, expected F32, F16 or BF16", t.DType)
		}
		if want := []int{rows, p.groups()}; !slices.Equal(t.Shape, want) {
			return e, t.errorf("shape %v, expected %v: one for each %d of the %d columns", t.Shape, want, q.GroupSize, cols)
		}
		if err := checkFinite([]entry{t}); err != nil {
			return e, err
		}
		*part.to = t.Tensor
		part.to.Name = name
	}
	e.packed = p
	return e, nil
}

// quantization returns the format of the entries' small weights, the zero value if
// there are none.
func quantization(picked []entry) Quantization {
	for _, e := range picked {
		if e.packed != nil {
			return e.packed.Quantization
		}
	}
	return Quantization{}
}

// convert gives the entries the format that m was opened for. What needs new memory
// lies in mappings of m. Small weights that the graph does not read, such as position
// embeddings', become float32.
func (m *Model) convert(want []slot, picked []entry, opts Options) ([]entry, error) {
	stored := quantization(picked)
	bits := opts.Weights.bits()
	if bits > 0 && stored.Bits > 0 && bits != stored.Bits {
		return nil, fmt.Errorf("%s: its weights are %s, not %s; ask for %[2]s, or take the original model", m.Dir, stored.Format(), opts.Weights)
	}
	if stored.Bits > 0 && opts.Weights != FloatWeights {
		if err := checkUniform(want, picked, stored); err != nil {
			return nil, err
		}
	}
	picked = slices.Clone(picked)
	for i, e := range picked {
		if e.packed != nil && (opts.Weights == FloatWeights || !want[i].isSmall()) {
			if err := m.dequantize(&picked[i]); err != nil {
				return nil, err
			}
		}
	}
	if bits == 0 || stored.Bits > 0 {
		return picked, nil
	}
	q, err := chooseGroup(want, picked, Quantization{bits, opts.GroupSize})
	if err != nil {
		return nil, err
	}
	for i := range picked {
		if want[i].isSmall() {
			if err := m.quantize(&picked[i], q); err != nil {
				return nil, err
			}
		}
	}
	return picked, nil
}

// checkUniform rejects linear layers in floating point beside small ones: which number
// format such a model computes in has no name.
func checkUniform(want []slot, picked []entry, q Quantization) error {
	for i, e := range picked {
		if want[i].isSmall() && e.packed == nil && e.Name != wordEmbeddings {
			return e.errorf("dtype %s, but other layers have %s weights; mlxrank computes such a model as float32, float16 or bfloat16 only: choose one with --dtype", e.DType, q.Format())
		}
	}
	return nil
}

// chooseGroup returns q with a group size that divides the columns of all matrices: its
// own, or else the larger possible one.
func chooseGroup(want []slot, picked []entry, q Quantization) (Quantization, error) {
	sizes := []int{q.GroupSize}
	if q.GroupSize == 0 {
		sizes = []int{64, 32}
	}
	var err error
	for _, size := range sizes {
		q.GroupSize = size
		if err = q.check(); err != nil {
			return q, err
		}
		for i, s := range want {
			if s.isSmall() && s.shape[1]%size != 0 {
				err = errors.Join(err, picked[i].errorf("group size %d does not divide its %d columns", size, s.shape[1]))
				break
			}
		}
		if err == nil {
			return q, nil
		}
	}
	return q, err
}

// isSmall reports whether the graph reads the slot as small weights: a matrix of the
// encoder's linear layers, or the word embeddings.
func (s slot) isSmall() bool {
	inEncoder := strings.HasPrefix(s.name, bertLayers) || strings.HasPrefix(s.name, "embeddings_project.") || s.name == wordEmbeddings
	return inEncoder && len(s.shape) == 2 && !s.zeros
}

// dequantize replaces an entry by its weights in float32.
func (m *Model) dequantize(e *entry) error {
	p := e.packed
	mem, err := newMapping(4 * p.rows * p.cols)
	if err != nil {
		return err
	}
	m.owned = append(m.owned, mem)
	out, _ := view32(mem) // a mapping is aligned
	if err := p.dequantize(out); err != nil {
		return err
	}
	e.Tensor = Tensor{Name: e.Name, DType: F32, Shape: []int{p.rows, p.cols}, Data: mem}
	e.packed = nil
	return checkFinite([]entry{*e})
}

// quantize replaces the weights of an entry by small ones.
func (m *Model) quantize(e *entry, q Quantization) error {
	p := &packedMatrix{Quantization: q, rows: e.Shape[0], cols: e.Shape[1]}
	size, scales := p.rows*p.rowBytes(), 2*p.rows*p.groups()
	mem, err := newMapping(size + 2*scales)
	if err != nil {
		return err
	}
	m.owned = append(m.owned, mem)
	module := strings.TrimSuffix(e.Name, "weight")
	shape := []int{p.rows, p.groups()}
	p.numbers = mem[:size:size]
	p.scales = Tensor{Name: module + "scales", DType: F16, Shape: shape, Data: mem[size : size+scales : size+scales]}
	p.biases = Tensor{Name: module + "biases", DType: F16, Shape: shape, Data: mem[size+scales:]}
	if err := p.quantize(e.Tensor); err != nil {
		return e.errorf("%w", err)
	}
	e.DType, e.Shape, e.Data = U32, []int{p.rows, p.cols * q.Bits / 32}, p.numbers
	e.packed = p
	return nil
}

// tensors returns the tensors of an entry: itself, and the scales and biases of small
// weights.
func (e entry) tensors() []Tensor {
	if e.packed == nil {
		return []Tensor{e.Tensor}
	}
	return []Tensor{e.Tensor, e.packed.scales, e.packed.biases}
}
