package engine

import "errors"

// Errors that callers may want to tell apart, by errors.Is.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("engine: closed")
	// ErrOverloaded says that the queue has no room for the request now. Nothing
	// of it was executed; it can be tried again later.
	ErrOverloaded = errors.New("engine: overloaded")
	// ErrTooLarge says that the request is larger than the whole queue. It never
	// fits: split it.
	ErrTooLarge = errors.New("engine: request is too large")
	// ErrTooLong is of a pair of more tokens than the model takes, where
	// ScoreOptions forbid to truncate it. Nothing of the request was executed.
	ErrTooLong = errors.New("engine: pair is too long")
	// ErrText is of a text that cannot be tokenised.
	ErrText = errors.New("engine: text cannot be tokenised")
	// ErrNotFinite is of logits that are no numbers to rank by.
	ErrNotFinite = errors.New("engine: logit is not finite")
	// ErrUnhealthy says that the device has failed again after its session was
	// opened anew. Healthy tries it once more.
	ErrUnhealthy = errors.New("engine: unhealthy")
)
