package records

// A Record is a line of input and what it holds.
type Record struct {
	Line int    // from 1
	Text []byte // as it stands, without its newline

	// Err says what is wrong with the line. The fields below are then empty.
	Err error

	Query, Document     string
	QueryID, DocumentID string // "" where the format has none
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
	// AppendScored appends the line of a record with its score.
	AppendScored(dst []byte, r *Record, score float32) ([]byte, error)
	// AppendFailed appends what stands in the place of a record with an error.
	AppendFailed(dst []byte, r *Record) ([]byte, error)
}

// ScorePolicy says what to do about a score that a line has already.
type ScorePolicy int

// The policies.
const (
	RefuseScore  ScorePolicy = iota // it is an error
	ReplaceScore                    // the new one takes its place
	IgnoreScore                     // it is a field like others
)
