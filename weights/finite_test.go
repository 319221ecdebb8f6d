package weights

import (
	"encoding/binary"
	"math"
	"testing"
)

// TestFiniteEveryPattern tries all 65,536 bit patterns of the 16-bit types, and
// the F32 patterns with the same upper half, at every offset in a word.
func TestFiniteEveryPattern(t *testing.T) {
	t.Parallel()
	exponent := map[DType]uint32{F16: 0x7c00, BF16: 0x7f80, F32: 0x7f800000}
	for dtype, mask := range exponent {
		size := int(elementBits[dtype] / 8)
		for pattern := range uint32(1 << 16) {
			bits := pattern
			if dtype == F32 {
				bits |= pattern << 16
			}
			want := bits&mask != mask
			data := make([]byte, 40+size)
			for _, at := range []int{0, 8 - size, 32, 40} {
				clear(data)
				for i := range size {
					data[at+i] = byte(bits >> (8 * i))
				}
				if got := floatMasks[dtype].finite(data); got != want {
					t.Fatalf("%s %#x at byte %d: finite is %v, want %v", dtype, bits, at, got, want)
				}
			}
		}
	}
}

// TestCheckFiniteNamesFirst checks that the error names the first of several
// faults in large tensors.
func TestCheckFiniteNamesFirst(t *testing.T) {
	t.Parallel()
	entries := make([]entry, 3)
	for i := range entries {
		entries[i] = entry{Tensor: Tensor{DType: F32, Data: make([]byte, 5<<20)}, file: "f", raw: string(rune('a' + i))}
	}
	if err := checkFinite(entries); err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct{ tensor, index int }{{2, 0}, {1, 1310719}, {1, 900000}} {
		binary.LittleEndian.PutUint32(entries[at.tensor].Data[4*at.index:], math.Float32bits(float32(math.NaN())))
		name := entries[at.tensor].raw
		err := checkFinite(entries)
		wantError(t, err, `tensor "`+name+`"`)
	}
	wantError(t, checkFinite(entries), `tensor "b"`, "NaN at index 900000")
}

func TestFromF16(t *testing.T) {
	t.Parallel()
	tests := map[uint16]float64{
		0x0000: 0, 0x0001: 0x1p-24, 0x8001: -0x1p-24, 0x03ff: 0x1.ff8p-15, 0x0400: 0x1p-14,
		0x3c00: 1, 0xc000: -2, 0x3555: 0x1.554p-2, 0x7bff: 65504, 0x7c00: math.Inf(1), 0xfc00: math.Inf(-1),
	}
	for bits, want := range tests {
		if got := fromF16(bits); float64(got) != want {
			t.Errorf("%#04x is %v, want %v", bits, got, want)
		}
	}
	if got := fromF16(0x7e00); got == got {
		t.Errorf("0x7e00 is %v, want NaN", got)
	}
	if got := math.Float32bits(fromF16(0x8000)); got != 1<<31 {
		t.Errorf("negative zero is %#x", got)
	}
}

// TestFloatsUnaligned reads values at every alignment.
func TestFloatsUnaligned(t *testing.T) {
	t.Parallel()
	for shift := range 8 {
		data := make([]byte, shift+12)
		for i, v := range []float32{1.5, -2, 3e-9} {
			binary.LittleEndian.PutUint32(data[shift+4*i:], math.Float32bits(v))
		}
		got := floats(Tensor{DType: F32, Data: data[shift:]})
		if len(got) != 3 || got[0] != 1.5 || got[1] != -2 || got[2] != 3e-9 {
			t.Errorf("shift %d: %v", shift, got)
		}
	}
}
