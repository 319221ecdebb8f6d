package test

import (
	"debug/elf"
	"os"
	"regexp"
	"slices"
	"testing"
)

// The library exports what the header declares, and nothing of Go, Rust or C.
func TestSymbolsAreTheHeaders(t *testing.T) {
	header, err := os.ReadFile("../mlxr.h")
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	for _, found := range regexp.MustCompile(`(?m)^(?:int32_t |const char \*)(mlxr_\w+)\(`).FindAllSubmatch(header, -1) {
		declared = append(declared, string(found[1]))
	}
	library, err := elf.Open(built(t).library())
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := library.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	if err := library.Close(); err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, symbol := range symbols {
		if symbol.Section != elf.SHN_UNDEF {
			shown = append(shown, symbol.Name)
		}
	}
	slices.Sort(declared)
	slices.Sort(shown)
	if len(declared) < 10 || !slices.Equal(shown, declared) {
		t.Errorf("the library exports %q, the header declares %q", shown, declared)
	}
}
