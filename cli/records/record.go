package records

// A Record is a line of input and what it holds.
type Record struct {
	Line int    // from 1
	Text []byte // as it stands, without its newline

	// Err reports what is wrong with the line. The fields below are then empty.
	Err error

	// Header marks the row of column names, which is not a pair.
	Header bool

	Query, Document     string
	QueryID, DocumentID string // "" where the format has none

	// Source names the fields or columns that Document was made of, such as
	// "title and text".
	Source string
}

// A parser reads the lines of a format.
type parser interface {
	// blank reports whether a line holds nothing and is to be passed over.
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
	// AppendFailed appends what stands in the place of a record with an error.
	AppendFailed(dst []byte, r *Record) ([]byte, error)
}

// A Value is what the model says of a pair. Scores of far-off logits round to
// the same number, so a TREC run has the logits.
type Value struct {
	Score, Logit float32
	Empty        bool // the document holds nothing to score
}

// ScorePolicy selects what to do about a score that a line has already.
type ScorePolicy int

// The policies.
const (
	RefuseScore  ScorePolicy = iota // it is an error
	ReplaceScore                    // the new one takes its place
	IgnoreScore                     // it is a field like others
)

// HeaderPolicy selects whether the first row of a file of columns names them.
type HeaderPolicy int

// The policies.
const (
	GuessHeader HeaderPolicy = iota // it is a pair like others; HeaderLike reports one that looks like names
	SkipHeader                      // it does
	NoHeader                        // it does not
)
