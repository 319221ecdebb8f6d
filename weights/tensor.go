package weights

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// DType names the element type of a tensor as safetensors spells it.
type DType string

// The supported element types of a model's tensors.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// A Tensor holds a named array, little-endian and row-major. Data may alias a
// mapped file; it is read-only and valid until Model.Close.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// elementBits is the size of an element of each type that safetensors defines.
var elementBits = map[DType]uint64{
	"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
	F16: 16, BF16: 16, F32: 32, "F64": 64, "C64": 64,
	"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}

// floats returns the values of a tensor as float32. It aliases an aligned F32
// tensor, since every host that MLX runs on is little-endian.
func floats(t Tensor) []float32 {
	if t.DType == F32 {
		if view, ok := view32(t.Data); ok {
			return view
		}
	}
	out := make([]float32, len(t.Data)*8/int(elementBits[t.DType]))
	for i := range out {
		switch t.DType {
		case F32:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		case F16:
			out[i] = fromF16(binary.LittleEndian.Uint16(t.Data[2*i:]))
		case BF16:
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*i:])) << 16)
		}
	}
	return out
}

// view32 returns data as float32 values if its alignment allows that.
func view32(data []byte) ([]float32, bool) {
	p := unsafe.Pointer(unsafe.SliceData(data))
	if uintptr(p)%unsafe.Alignof(float32(0)) != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(data)/4), true
}

// fromF16 converts an IEEE 754 half-precision number without rounding.
func fromF16(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exp {
	case 0: // zero or subnormal: frac * 2^-24
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}
