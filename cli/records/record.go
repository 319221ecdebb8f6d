// Package records reads and writes files of query-document pairs, one record per line:
// JSONL, TSV, MS MARCO's top-1000 layout, and TREC runs. A record keeps its line
// unchanged, so that the output differs from the input only by the score.
package records

// A Record is a line of input and its pair.
type Record struct {
	Line int    // from 1
	Text []byte // unchanged, without the newline

	// Err is the error of the line. The fields below are then empty.
	Err error

	// Header marks the row of column names, which is not a pair.
	Header bool

	Query, Document     string
	QueryID, DocumentID string // "" if the format has none

	// Source names the fields or columns of Document, such as "title and text".
	Source string
}

// A parser reads the lines of a format.
type parser interface {
	// blank reports whether a line is empty and is skipped.
	blank(line []byte) bool
	// parse fills a record from its text.
	parse(r *Record) error
}

// A Layout writes records with their scores.
type Layout interface {
	// AppendHeader appends the row of column names.
	AppendHeader(dst []byte, r *Record) []byte
	// AppendScored appends the line of a record with its score.
	AppendScored(dst []byte, r *Record, v Value) ([]byte, error)
	// AppendFailed appends a line in place of a record with an error.
	AppendFailed(dst []byte, r *Record) ([]byte, error)
}

// A Value is the model's result for a pair. A TREC run has the logits, since the
// scores of very large or very small logits round to equal numbers.
type Value struct {
	Score, Logit float32
	Empty        bool // the document has no text
}

// ScorePolicy selects the handling of a score that a line has already.
type ScorePolicy int

// The policies.
const (
	RefuseScore  ScorePolicy = iota // an error
	ReplaceScore                    // replaced by the new score
	IgnoreScore                     // kept like any other field
)

// HeaderPolicy selects the handling of the first row of a file of columns.
type HeaderPolicy int

// The policies.
const (
	GuessHeader HeaderPolicy = iota // a pair; HeaderLike reports a row that looks like a header
	SkipHeader                      // a header
	NoHeader                        // a pair
)
