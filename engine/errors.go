package engine

import (
	"errors"
	"fmt"
	"time"
)

// Errors that callers distinguish by errors.Is.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("engine: closed")
	// ErrOverloaded reports that the queue has no room for the request now, or that
	// earlier work takes too long to meet the deadline of the request's context. Try
	// again later; an OverloadedError predicts when.
	ErrOverloaded = errors.New("engine: overloaded")
	// ErrTooLarge reports that the request is larger than the whole queue, or takes
	// longer than its context's deadline allows even alone. Split it.
	ErrTooLarge = errors.New("engine: request is too large")
	// ErrTooSlow reports an ErrTooLarge whose cause is time. With ScoreOptions.Partial
	// the request would get the scores of a part.
	ErrTooSlow = fmt.Errorf("%w for its deadline", ErrTooLarge)
	// ErrTooLong reports a pair of more tokens than the model takes, if
	// ScoreOptions do not allow truncation. Nothing of the request was executed. A
	// TextError has the index of the pair.
	ErrTooLong = errors.New("engine: pair is too long")
	// ErrText reports a text that cannot be tokenised. A TextError has its index.
	ErrText = errors.New("engine: text cannot be tokenised")
	// ErrActivation reports that the model's files name an activation that is not
	// supported; Config.Activation can name another one.
	ErrActivation = errors.New("engine: activation is not supported")
	// ErrNotFinite reports a NaN or infinite logit. It is a failure of the device if no
	// pair has a finite one.
	ErrNotFinite = errors.New("engine: logit is not finite")
	// ErrUnhealthy reports that the device has failed again after its session was
	// reopened, or that a batch hangs: it takes more than 10 s and 20 times its
	// prediction. Healthy tries the device once more, when nothing hangs any longer.
	ErrUnhealthy = errors.New("engine: unhealthy")
)

// An OverloadedError is an ErrOverloaded with a prediction: after RetryAfter the
// request can be admitted.
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

// A TextError is an ErrText or an ErrTooLong with the text that caused it.
type TextError struct {
	Index int   // of the pair, or of the document of Rerank, in the order given
	Query bool  // the pair's query is the cause, and not its document or both
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

// reindexed changes the index of a TextError from a part to its text. Other errors
// stay as they are.
func reindexed(err error, of func(index int) int) error {
	var text *TextError
	if !errors.As(err, &text) {
		return err
	}
	moved := *text
	moved.Index = of(text.Index)
	return &moved
}
