package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// U32 is the element type of packed small weights.
const U32 DType = "U32"

// A Quantization describes small weights in MLX's affine format: numbers of Bits, of
// which GroupSize in a row share a scale and a bias. The zero value means weights in
// floating point.
type Quantization struct {
	Bits      int // 8 or 4
	GroupSize int // 32 or 64
}

// Format returns the format of the weights that q describes.
func (q Quantization) Format() WeightFormat {
	switch q.Bits {
	case 8:
		return Int8Weights
	case 4:
		return Int4Weights
	}
	return FloatWeights
}

// check rejects formats that no kernel of mlxrank reads.
func (q Quantization) check() error {
	if q.Bits != 8 && q.Bits != 4 {
		return fmt.Errorf("bits is %d, expected 8 or 4", q.Bits)
	}
	if q.GroupSize != 32 && q.GroupSize != 64 {
		return fmt.Errorf("group_size is %d, expected 32 or 64", q.GroupSize)
	}
	return nil
}

// WeightFormat selects how Model.Tensors holds the weights of the encoder's linear
// layers and the word embeddings. Other tensors are always in floating point.
type WeightFormat string

// The formats. StoredWeights keeps what the files have. FloatWeights turns small weights
// into float32. Int8Weights and Int4Weights quantize weights in floating point.
const (
	StoredWeights WeightFormat = ""
	FloatWeights  WeightFormat = "float"
	Int8Weights   WeightFormat = "int8w"
	Int4Weights   WeightFormat = "int4w"
)

// bits returns the bits of a format of small weights, 0 for another format.
func (f WeightFormat) bits() int {
	switch f {
	case Int8Weights:
		return 8
	case Int4Weights:
		return 4
	}
	return 0
}

// The fields of config.json on small weights. mlx-lm writes the same object to both.
// Other tools write the second only.
const (
	quantizationField  = "quantization"
	quantizationConfig = "quantization_config"
)

// quantization returns what config.json says of small weights in MLX's format. It
// rejects other schemes by name.
func (r *fieldReader) quantization() Quantization {
	name := quantizationField
	fields := readField[map[string]json.RawMessage](r, name, nil)
	if len(fields) == 0 {
		name = quantizationConfig
		fields = readField[map[string]json.RawMessage](r, name, nil)
	}
	if len(fields) == 0 || r.err != nil {
		return Quantization{}
	}
	q, err := parseQuantization(fields)
	if err != nil {
		r.fail("%s: %w", name, err)
	}
	return q
}

// errScheme ends the error about a scheme that is not MLX's.
var errScheme = errors.New(`mlxrank reads small weights in MLX's affine format only; take the original model, and make them with mlxrank model quantize`)

func parseQuantization(fields map[string]json.RawMessage) (Quantization, error) {
	r := &fieldReader{fields: fields}
	method, mode := readField(r, "quant_method", ""), readField(r, "mode", "affine")
	switch {
	case r.err != nil:
		return Quantization{}, r.err
	case method != "":
		return Quantization{}, fmt.Errorf("quant_method %.40q is not supported: %w", method, errScheme)
	case mode != "affine":
		return Quantization{}, fmt.Errorf("mode %.40q is not supported: %w", mode, errScheme)
	}
	if _, ok := fields["bits"]; !ok {
		return Quantization{}, fmt.Errorf("the scheme with the fields %.80s is not supported: %w", strings.Join(sortedKeys(fields), ", "), errScheme)
	}
	// MLX's default of group_size.
	q := Quantization{Bits: readField(r, "bits", 0), GroupSize: readField(r, "group_size", 64)}
	if r.err == nil {
		r.err = q.check()
	}
	for _, name := range sortedKeys(fields) {
		if !slices.Contains([]string{"bits", "group_size", "mode", "quant_method"}, name) && r.err == nil {
			r.err = q.checkLayer(name, fields[name])
		}
	}
	return q, r.err
}

// checkLayer rejects a layer whose settings differ from the others'. mlx-lm writes false
// for a layer in floating point, and an object for one of other bits.
func (q Quantization) checkLayer(name string, value json.RawMessage) error {
	var quantized bool
	if json.Unmarshal(value, &quantized) == nil {
		return nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return fmt.Errorf("field %.80q is unknown", name)
	}
	r := &fieldReader{fields: fields}
	own := Quantization{Bits: readField(r, "bits", q.Bits), GroupSize: readField(r, "group_size", q.GroupSize)}
	mode := readField(r, "mode", "affine")
	if r.err != nil {
		return fmt.Errorf("layer %.80q: %w", name, r.err)
	}
	if own != q || mode != "affine" {
		return fmt.Errorf("layer %.80q has bits %d, group_size %d and mode %.40q, the model %d, %d and \"affine\": layers with settings of their own are not supported; quantize the original model with mlxrank model quantize",
			name, own.Bits, own.GroupSize, mode, q.Bits, q.GroupSize)
	}
	return nil
}
