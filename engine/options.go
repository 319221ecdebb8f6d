package engine

import (
	"fmt"
	"strings"
)

// Truncation says what becomes of a pair that does not fit into the maximum
// length.
type Truncation string

// TruncateRight and TruncateLeft count tokens "longest first": the longer
// text gives way until both are as long, then both do.
const (
	TruncateRight Truncation = "right" // the ends are cut off
	TruncateLeft  Truncation = "left"  // the beginnings are
	TruncateNot   Truncation = "not"   // the request is refused with ErrTooLong, and nothing of it is executed
)

// ScoreOptions choose how pairs are made to fit.
type ScoreOptions struct {
	Truncation Truncation // "" is the side that the model's files name, most often TruncateRight; with DocumentTokens it is TruncateRight
	// Activation makes the scores of this request: "raw", "sigmoid" or "softmax";
	// "" is the engine's.
	Activation string
	// AllLabels asks for the scores by every label, in Result.ByLabel.
	AllLabels bool
	// DocumentTokens is how many tokens of a document count, from its beginning,
	// before it meets the query; 0 is all.
	DocumentTokens int
	// Progress, if set, is told by the goroutine that made the call, after batches
	// with pairs of it, how many of its distinct pairs are scored. That all are is
	// told by the result.
	Progress func(done, total int)
}

func (o ScoreOptions) check() error {
	switch o.Truncation {
	case "", TruncateRight, TruncateLeft, TruncateNot:
	default:
		return fmt.Errorf("engine: truncation %q is none of %s, %s, %s", o.Truncation, TruncateRight, TruncateLeft, TruncateNot)
	}
	if o.DocumentTokens < 0 {
		return fmt.Errorf("engine: %d tokens of a document are too few", o.DocumentTokens)
	}
	if o.DocumentTokens > 0 && o.Truncation == TruncateLeft {
		return fmt.Errorf("engine: a document's first %d tokens and truncation on the left exclude each other", o.DocumentTokens)
	}
	return nil
}

// IsEmpty reports whether a text has nothing to score: nothing, or white space
// only. An empty document is scored, as sentence-transformers scores it; every
// answer that has one marks it, since such a score says nothing about the query.
func IsEmpty(text string) bool { return strings.TrimSpace(text) == "" }
