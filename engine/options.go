package engine

import (
	"fmt"
	"strings"
)

// Truncation selects how a pair that is longer than the maximum length is cut.
type Truncation string

// TruncateRight and TruncateLeft cut "longest first": they shorten the longer text
// until both are equally long, then both.
const (
	TruncateRight Truncation = "right" // cuts the ends
	TruncateLeft  Truncation = "left"  // cuts the beginnings
	TruncateNot   Truncation = "not"   // refuses the request with ErrTooLong before any pair is executed
)

// ScoreOptions select how pairs are truncated and scored.
type ScoreOptions struct {
	// Truncation "" is the side that the model's files name, most often
	// TruncateRight. With DocumentTokens it is TruncateRight.
	Truncation Truncation
	// Activation makes the scores of this request: Raw, SigmoidScores or Softmax;
	// "" is the engine's.
	Activation Activation
	// AllLabels asks for the scores by every label, in Result.ByLabel.
	AllLabels bool
	// DocumentTokens keeps only the first tokens of a document, before the pair is
	// truncated; 0 keeps all.
	DocumentTokens int
	// Progress, if set, receives how many of the call's distinct pairs are scored.
	// The goroutine that made the call calls it after batches, but not when all
	// pairs are scored.
	Progress func(done, total int)
}

func (o ScoreOptions) check() error {
	switch o.Truncation {
	case "", TruncateRight, TruncateLeft, TruncateNot:
	default:
		return fmt.Errorf("engine: truncation %q is none of %s, %s, %s", o.Truncation, TruncateRight, TruncateLeft, TruncateNot)
	}
	if o.DocumentTokens < 0 {
		return fmt.Errorf("engine: DocumentTokens is %d; it must not be negative", o.DocumentTokens)
	}
	if o.DocumentTokens > 0 && o.Truncation == TruncateLeft {
		return fmt.Errorf("engine: DocumentTokens %d and truncation on the left exclude each other; set one of them", o.DocumentTokens)
	}
	return nil
}

// IsEmpty reports whether a text is empty or only white space. An empty document
// is scored, as sentence-transformers scores it; answers mark it, because such a
// score does not depend on a text.
func IsEmpty(text string) bool { return strings.TrimSpace(text) == "" }
