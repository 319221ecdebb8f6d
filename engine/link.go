package engine

// The linker finds the tokenizer library where make build leaves it. Programs
// outside this repository set CGO_LDFLAGS, which mlxrank env prints.

// #cgo LDFLAGS: -L${SRCDIR}/../build/tokenizers
import "C"
