package engine

import (
	"errors"
	"fmt"
	"time"
)

// Errors that callers may want to tell apart, by errors.Is.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("engine: closed")
	// ErrOverloaded says that the queue has no room for the request now, or that
	// it cannot be answered before its context's deadline for the work ahead of
	// it. It can be tried again later; an OverloadedError says when.
	ErrOverloaded = errors.New("engine: overloaded")
	// ErrTooLarge says that the request is larger than the whole queue, or takes
	// longer than its context's deadline allows even alone. Split it.
	ErrTooLarge = errors.New("engine: request is too large")
	// ErrTooLong is of a pair of more tokens than the model takes, where
	// ScoreOptions forbid to truncate it. Nothing of the request was executed. A
	// TextError says which pair.
	ErrTooLong = errors.New("engine: pair is too long")
	// ErrText is of a text that cannot be tokenised. A TextError says which.
	ErrText = errors.New("engine: text cannot be tokenised")
	// ErrActivation reports that the model's files name an activation that is not
	// supported; Config.Activation can name another one.
	ErrActivation = errors.New("engine: activation is not supported")
	// ErrNotFinite is of logits that are no numbers to rank by.
	ErrNotFinite = errors.New("engine: logit is not finite")
	// ErrUnhealthy says that the device has failed again after its session was
	// opened anew. Healthy tries it once more.
	ErrUnhealthy = errors.New("engine: unhealthy")
)

// An OverloadedError is an ErrOverloaded that predicts when the request can be
// taken in.
type OverloadedError struct {
	RetryAfter time.Duration
	reason     string
}

func (e *OverloadedError) Error() string { return ErrOverloaded.Error() + ": " + e.reason }

// Unwrap returns ErrOverloaded.
func (e *OverloadedError) Unwrap() error { return ErrOverloaded }

func overloaded(retryAfter time.Duration, format string, args ...any) error {
	return &OverloadedError{RetryAfter: retryAfter, reason: fmt.Sprintf(format, args...) + "; try again later"}
}

// A TextError is an ErrText or an ErrTooLong that says which text is at fault.
type TextError struct {
	Index int   // of the pair, or of the document of Rerank, as given
	Query bool  // the pair's query is at fault, and not its document or both
	Kind  error // ErrText or ErrTooLong
	Err   error // the reason
}

func (e *TextError) Error() string {
	what := fmt.Sprintf("pair %d", e.Index)
	if e.Query {
		what = fmt.Sprintf("the query of pair %d", e.Index)
	}
	return fmt.Sprintf("%v: %s: %v", e.Kind, what, e.Err)
}

// Unwrap returns the kind and the reason.
func (e *TextError) Unwrap() []error { return []error{e.Kind, e.Err} }

// reindexed gives a TextError another index, that of the text which the part at
// fault is of. Other errors stay as they are.
func reindexed(err error, of func(index int) int) error {
	var text *TextError
	if !errors.As(err, &text) {
		return err
	}
	moved := *text
	moved.Index = of(text.Index)
	return &moved
}
