package engine

import "time"

// Timings partition a request's latency: an instant counts for the first of
// inference, tokenization and queue wait that applies, else for other.
type Timings struct {
	Latency      time.Duration // accepted to scores ready
	Inference    time.Duration // at least one batch with its pairs was executing
	Tokenization time.Duration // its pairs were with the tokenizer workers
	QueueWait    time.Duration // its tokenised pairs were waiting for a batch
	Other        time.Duration // planning, scatter, activation, sorting
}

// A stage is what a request is at.
type stage int

const (
	other stage = iota
	inference
	tokenization
	queueWait
	stages // how many there are
)

// A stopwatch adds up the time spent in each stage. It is told of every change
// of stage, in the order of time, so that the stages add up to the latency.
type stopwatch struct {
	start, last time.Time
	now         stage
	spent       [stages]time.Duration
}

func startStopwatch(at time.Time) stopwatch { return stopwatch{start: at, last: at} }

// enter ends the stage so far.
func (w *stopwatch) enter(s stage, at time.Time) {
	w.spent[w.now] += at.Sub(w.last)
	w.last, w.now = at, s
}

// timings are those from the start to the last change.
func (w *stopwatch) timings() Timings {
	return Timings{
		Latency:      w.last.Sub(w.start),
		Inference:    w.spent[inference],
		Tokenization: w.spent[tokenization],
		QueueWait:    w.spent[queueWait],
		Other:        w.spent[other],
	}
}

// add counts time in that the caller's goroutine spent on the result.
func (t *Timings) add(d time.Duration) {
	t.Other += d
	t.Latency += d
}
