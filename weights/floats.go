package weights

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// floats returns the values of a tensor as float32. An aligned F32 tensor is
// aliased, not copied: the hosts that MLX runs on are little-endian.
func floats(t Tensor) []float32 {
	if t.DType == F32 {
		if view, ok := view32(t.Data); ok {
			return view
		}
	}
	out := make([]float32, len(t.Data)*8/int(bitsOf[t.DType]))
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

// view32 returns the float32 values that data holds if it is aligned for them.
func view32(data []byte) ([]float32, bool) {
	p := unsafe.Pointer(unsafe.SliceData(data))
	if uintptr(p)%unsafe.Alignof(float32(0)) != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(data)/4), true
}

// fromF16 widens an IEEE 754 half-precision number, exactly.
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
