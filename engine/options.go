package engine

import (
	"fmt"
	"strings"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
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

// Priority selects who goes first when several requests want the device.
type Priority string

// PriorityInteractive is the default. It waits for little work of PriorityBatch: at
// most a quarter of the time that a usual interactive request takes, or one pair.
// PriorityBatch has the device when no interactive pair waits, and else an eighth of it.
const (
	PriorityInteractive Priority = "interactive" // somebody waits for the answer
	PriorityBatch       Priority = "batch"       // throughput matters, latency does not
)

// level returns the scheduler's priority.
func (p Priority) level() schedule.Priority {
	if p == PriorityBatch {
		return schedule.PriorityBatch
	}
	return schedule.PriorityInteractive
}

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
	// Priority "" is PriorityInteractive.
	Priority Priority
	// Partial returns what is scored shortly before the deadline of the call's
	// context, instead of an error: a tenth of the time earlier, at least 1 ms and
	// at most 50 ms. Pairs that cannot be scored by then are not executed.
	// Result.Unscored lists the pairs without a score.
	Partial bool
	// NoCache computes the pairs although Config.Cache is set, and keeps nothing.
	NoCache bool
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
	switch o.Priority {
	case "", PriorityInteractive, PriorityBatch:
	default:
		return fmt.Errorf("engine: priority %q is neither %s nor %s", o.Priority, PriorityInteractive, PriorityBatch)
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
