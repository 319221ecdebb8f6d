package weights

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
)

// A lane describes the exponents of the values in a 64-bit word: adding carry
// to the word without its signs sets the bits of overflow for those values
// whose exponent is all ones, that is infinities and NaNs. No carry leaves its
// value.
type lane struct{ magnitude, carry, overflow uint64 }

var lanes = map[DType]lane{
	F32:  {0x7fffffff_7fffffff, 0x00800000_00800000, 0x80000000_80000000},
	F16:  {0x7fff7fff_7fff7fff, 0x04000400_04000400, 0x80008000_80008000},
	BF16: {0x7fff7fff_7fff7fff, 0x00800080_00800080, 0x80008000_80008000},
}

// finite reports whether data holds finite values only. It reads words of 64
// bits whatever the alignment, and is bound by memory.
func (l lane) finite(data []byte) bool {
	var seen uint64
	for len(data) >= 32 {
		a := binary.LittleEndian.Uint64(data)
		b := binary.LittleEndian.Uint64(data[8:])
		c := binary.LittleEndian.Uint64(data[16:])
		d := binary.LittleEndian.Uint64(data[24:])
		seen |= (a&l.magnitude + l.carry) | (b&l.magnitude + l.carry) |
			(c&l.magnitude + l.carry) | (d&l.magnitude + l.carry)
		data = data[32:]
	}
	var rest [32]byte // zero is finite
	copy(rest[:], data)
	for i := 0; i < len(rest); i += 8 {
		seen |= binary.LittleEndian.Uint64(rest[i:])&l.magnitude + l.carry
	}
	return seen&l.overflow == 0
}

// checkFinite refuses tensors with a NaN or an infinity, naming the first.
// Their types are F32, F16 or BF16.
func checkFinite(entries []entry) error {
	const block = 1 << 20 // bytes, a multiple of every element size
	type piece struct{ tensor, begin int }
	var pieces []piece
	for i, e := range entries {
		for begin := 0; begin < len(e.Data); begin += block {
			pieces = append(pieces, piece{i, begin})
		}
	}
	var first atomic.Int64
	first.Store(int64(len(pieces)))
	parallel(len(pieces), func(i int) {
		e, begin := entries[pieces[i].tensor], pieces[i].begin
		if lanes[e.DType].finite(e.Data[begin:min(begin+block, len(e.Data))]) {
			return
		}
		lower(&first, int64(i))
	})
	if int(first.Load()) == len(pieces) {
		return nil
	}
	p := pieces[first.Load()]
	e := entries[p.tensor]
	for i, v := range floats(Tensor{DType: e.DType, Data: e.Data[p.begin:min(p.begin+block, len(e.Data))]}) {
		if v-v != 0 {
			return e.errorf("value %v at index %d, expected finite values only", v, p.begin*8/int(bitsOf[e.DType])+i)
		}
	}
	return nil
}

// lower sets v to n if that is less.
func lower(v *atomic.Int64, n int64) {
	for {
		if at := v.Load(); at <= n || v.CompareAndSwap(at, n) {
			return
		}
	}
}

// parallel calls f(0) ... f(n-1) from as many goroutines as there are
// processors to run them.
func parallel(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}
