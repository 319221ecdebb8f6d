package weights

import (
	"encoding/binary"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// A floatMask finds values with an exponent of all ones, that is infinities and
// NaNs, in a 64-bit word. Adding carry to the word without its sign bits sets the
// overflow bits of exactly these values. No carry crosses into another value.
type floatMask struct{ magnitude, carry, overflow uint64 }

var floatMasks = map[DType]floatMask{
	F32:  {0x7fffffff_7fffffff, 0x00800000_00800000, 0x80000000_80000000},
	F16:  {0x7fff7fff_7fff7fff, 0x04000400_04000400, 0x80008000_80008000},
	BF16: {0x7fff7fff_7fff7fff, 0x00800080_00800080, 0x80008000_80008000},
}

// finite reports whether data holds only finite values. It reads 64-bit words at
// any alignment; its speed is that of the memory.
func (m floatMask) finite(data []byte) bool {
	var seen uint64
	for len(data) >= 32 {
		a := binary.LittleEndian.Uint64(data)
		b := binary.LittleEndian.Uint64(data[8:])
		c := binary.LittleEndian.Uint64(data[16:])
		d := binary.LittleEndian.Uint64(data[24:])
		seen |= (a&m.magnitude + m.carry) | (b&m.magnitude + m.carry) |
			(c&m.magnitude + m.carry) | (d&m.magnitude + m.carry)
		data = data[32:]
	}
	var rest [32]byte // zero is finite
	copy(rest[:], data)
	for i := 0; i < len(rest); i += 8 {
		seen |= binary.LittleEndian.Uint64(rest[i:])&m.magnitude + m.carry
	}
	return seen&m.overflow == 0
}

// checkFinite rejects tensors with a NaN or an infinity; the error names the
// first one. The types of the tensors are F32, F16 or BF16.
func checkFinite(entries []entry) error {
	const block = 1 << 20 // bytes, a multiple of every element size
	type piece struct{ tensor, begin int }
	var pieces []piece
	for i, e := range entries {
		for begin := 0; begin < len(e.Data); begin += block {
			pieces = append(pieces, piece{i, begin})
		}
	}
	infinite := make([]bool, len(pieces))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range pieces {
		group.Go(func() error {
			e := entries[p.tensor]
			infinite[i] = !floatMasks[e.DType].finite(e.Data[p.begin:min(p.begin+block, len(e.Data))])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	first := slices.Index(infinite, true)
	if first < 0 {
		return nil
	}
	p := pieces[first]
	e := entries[p.tensor]
	for i, v := range floats(Tensor{DType: e.DType, Data: e.Data[p.begin:min(p.begin+block, len(e.Data))]}) {
		if v-v != 0 {
			return e.errorf("value %v at index %d, expected only finite values", v, p.begin*8/int(elementBits[e.DType])+i)
		}
	}
	return nil
}
