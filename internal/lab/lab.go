// Package lab holds what an engine has only for benchmarks, experiments and checks of
// this module. No version promises it.
package lab

import "github.com/mlxrank/mlxrank/mlx"

// Options change how an engine makes batches and what it measures.
type Options struct {
	InOrder     bool // pairs go in the order of their arrival, not by length
	Profile     bool // times the native pass on the CPU, which costs some of the speed
	LastLayer   bool // leaves out all of the head but its last layer, such as BERT's pooler
	ChooseOnCPU bool // chooses a variant of the CPU's unfused graph too, as on a GPU
}

// Profile records where the time of the native pass went.
type Profile = mlx.Profile

// A Key is an argument of the methods that only this module may call.
type Key struct{ _ int }

// A Piece is an element of a pair's template: the query, the document or a special
// token.
type Piece struct {
	Query, Document bool
	ID, TypeID      int32 // ID is a special token's
}

// A Spelling leaves out steps of a model's tokenizer.
type Spelling struct {
	KeepCase      bool // no lower-casing
	KeepAccents   bool // accents stay
	PlainSpecials bool // special tokens in a text are text
}
