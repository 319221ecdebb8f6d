package engine

import "time"

// Timings divides a request's latency into stages. An instant counts for the first
// of inference, tokenization and queue wait that applies, else for other.
type Timings struct {
	Latency      time.Duration // from admission to scores
	Inference    time.Duration // at least one batch with its pairs was executing
	Tokenization time.Duration // tokenizer workers had its pairs
	QueueWait    time.Duration // its tokenised pairs waited for a batch
	Other        time.Duration // planning, scatter, activation, sorting
}

// A stage is a stage of a request.
type stage int

const (
	other stage = iota
	inference
	tokenization
	queueWait
	stages // their number
)

// A stopwatch adds up the time in each stage. Its caller reports every change of
// stage in the order of time, so that the stages add up to the latency.
type stopwatch struct {
	start, last time.Time
	now         stage
	spent       [stages]time.Duration
}

func startStopwatch(at time.Time) stopwatch { return stopwatch{start: at, last: at} }

// enter ends the current stage.
func (w *stopwatch) enter(s stage, at time.Time) {
	w.spent[w.now] += at.Sub(w.last)
	w.last, w.now = at, s
}

// finish ends the watch of a request whose stages were added up: the rest is other.
func (w *stopwatch) finish(at time.Time) {
	w.spent[other] = 0
	rest := at.Sub(w.start)
	for _, d := range w.spent {
		rest -= d
	}
	w.spent[other], w.last = rest, at
}

// timings returns the times from the start to the last change.
func (w *stopwatch) timings() Timings {
	return Timings{
		Latency:      w.last.Sub(w.start),
		Inference:    w.spent[inference],
		Tokenization: w.spent[tokenization],
		QueueWait:    w.spent[queueWait],
		Other:        w.spent[other],
	}
}

// add adds time that the caller's goroutine spent on the result.
func (t *Timings) add(d time.Duration) {
	t.Other += d
	t.Latency += d
}
