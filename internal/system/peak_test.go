package system

import (
	"runtime"
	"testing"
)

// The peak grows with memory that is written, and stays once the memory is gone.
func TestPeakMemory(t *testing.T) {
	const size = 64 << 20
	before, err := PeakMemory()
	if err != nil || before == 0 {
		t.Fatalf("%d bytes, error %v", before, err)
	}
	held := make([]byte, size+int(before)) // more than was ever resident
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	runtime.KeepAlive(held)
	after, err := PeakMemory()
	if err != nil || after < before+size/2 || after > before+4*size+2*before {
		t.Errorf("%d bytes after %d with %d more, error %v", after, before, len(held), err)
	}
}
