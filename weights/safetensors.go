package weights

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
)

const (
	// maxHeader bounds the JSON header of a safetensors file, in bytes. The
	// largest supported model needs about 1 MB.
	maxHeader = 8 << 20
	maxDims   = 8
)

// A span locates the data of a tensor, in bytes after the header.
type span struct{ begin, end uint64 }

// parseSafetensors returns the tensors of a safetensors file in the order of
// their data, which they alias. The tensors must cover the data exactly, without
// a gap or an overlap.
func parseSafetensors(file []byte) ([]Tensor, error) {
	if len(file) < 8 {
		return nil, fmt.Errorf("truncated: %d bytes, expected at least the 8 bytes of the header length", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	if n > maxHeader {
		return nil, fmt.Errorf("not a safetensors file: header of %d bytes, expected at most %d", n, maxHeader)
	}
	if rest := uint64(len(file) - 8); n > rest {
		return nil, fmt.Errorf("truncated: header of %d bytes, found %d", n, rest)
	}
	header, data := file[8:8+n], file[8+n:]
	if len(header) == 0 || header[0] != '{' {
		return nil, fmt.Errorf("not a safetensors file: the header does not start with a JSON object")
	}
	members, err := splitObject(header)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var tensors []Tensor
	var spans []span
	for _, m := range members {
		if m.key == "__metadata__" {
			var text map[string]string
			if err := json.Unmarshal(m.value, &text); err != nil {
				return nil, fmt.Errorf("header: __metadata__: expected an object of strings: %w", jsonError(err))
			}
			continue
		}
		t, s, err := parseEntry(m)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", m.key, err)
		}
		tensors, spans = append(tensors, t), append(spans, s)
	}
	return place(tensors, spans, data)
}

// parseEntry decodes the header entry of one tensor, without its data.
func parseEntry(m member) (Tensor, span, error) {
	t := Tensor{Name: m.key}
	fields, err := splitObject(m.value)
	if err != nil {
		return t, span{}, err
	}
	var offsets []uint64
	for _, f := range fields {
		switch f.key {
		case "dtype":
			err = json.Unmarshal(f.value, &t.DType)
		case "shape":
			err = json.Unmarshal(f.value, &t.Shape)
		case "data_offsets":
			err = json.Unmarshal(f.value, &offsets)
		default:
			err = fmt.Errorf("unknown, expected dtype, shape or data_offsets")
		}
		if err != nil {
			return t, span{}, fmt.Errorf("field %q: %w", f.key, jsonError(err))
		}
	}
	if t.Shape == nil || len(t.Shape) > maxDims {
		return t, span{}, fmt.Errorf("shape %v, expected an array of at most %d sizes", t.Shape, maxDims)
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return t, span{}, fmt.Errorf("data_offsets %v, expected a begin and an end that is not before it", offsets)
	}
	s := span{offsets[0], offsets[1]}
	want, err := byteSize(t)
	if err != nil {
		return t, s, err
	}
	if got := s.end - s.begin; got != want {
		return t, s, fmt.Errorf("data_offsets %v hold %d bytes, expected %d for %s %v", offsets, got, want, t.DType, t.Shape)
	}
	return t, s, nil
}

// byteSize returns the number of bytes of a tensor's type and shape.
func byteSize(t Tensor) (uint64, error) {
	total, ok := elementBits[t.DType]
	if !ok {
		return 0, fmt.Errorf("unknown dtype %q", t.DType)
	}
	for _, d := range t.Shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative size", t.Shape)
		}
		hi, lo := bits.Mul64(total, uint64(d))
		if hi != 0 {
			return 0, fmt.Errorf("shape %v of %s overflows", t.Shape, t.DType)
		}
		total = lo
	}
	if total%8 != 0 {
		return 0, fmt.Errorf("shape %v of %s is not a whole number of bytes", t.Shape, t.DType)
	}
	return total / 8, nil
}

// place sets the data of each tensor.
func place(tensors []Tensor, spans []span, data []byte) ([]Tensor, error) {
	order := make([]int, len(tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(spans[a].begin, spans[b].begin), cmp.Compare(spans[a].end, spans[b].end))
	})
	placed := make([]Tensor, 0, len(tensors))
	size, next := uint64(len(data)), uint64(0)
	for _, i := range order {
		t, s := tensors[i], spans[i]
		if s.end > size {
			return nil, fmt.Errorf("tensor %q: truncated: data up to byte %d, found %d bytes of data", t.Name, s.end, size)
		}
		if s.begin != next {
			fault := "gap before it"
			if s.begin < next {
				fault = "overlaps the tensor before it"
			}
			return nil, fmt.Errorf("tensor %q: %s: data begins at byte %d, expected %d", t.Name, fault, s.begin, next)
		}
		t.Data = data[s.begin:s.end:s.end]
		placed = append(placed, t)
		next = s.end
	}
	if next != size {
		return nil, fmt.Errorf("%d bytes of data, expected %d: bytes after the last tensor", size, next)
	}
	return placed, nil
}
