package engine

import (
	"sort"
	"time"
)

// Timings partition a request's latency: an instant counts for the first of
// inference, tokenization and queue wait that applies, else for other.
type Timings struct {
	Latency      time.Duration // accepted to scores ready
	Inference    time.Duration // at least one of its batches was executing
	Tokenization time.Duration // its pairs were being tokenised and assembled
	QueueWait    time.Duration // its tokenised pairs were waiting for a batch
	Other        time.Duration // planning, scatter, activation
}

type interval struct{ from, to time.Time }

// A timeline is when the stages of one request were.
type timeline struct {
	accepted, tokenised, planned, finished time.Time
	batches                                []interval // submitted to collected
}

func (t *timeline) timings() Timings {
	latency := t.finished.Sub(t.accepted)
	inference, lastSubmit := union(t.batches)
	out := Timings{
		Latency:      latency,
		Inference:    inference,
		Tokenization: t.tokenised.Sub(t.accepted),
	}
	if lastSubmit.After(t.planned) {
		// Pairs wait until the last of their batches is submitted; while an
		// earlier one executes, that counts as inference.
		out.QueueWait = lastSubmit.Sub(t.planned) - before(t.batches, lastSubmit)
	}
	out.Other = latency - out.Inference - out.Tokenization - out.QueueWait
	return out
}

// union is the time that at least one interval covers, and the latest start.
func union(intervals []interval) (covered time.Duration, latest time.Time) {
	sorted := append([]interval(nil), intervals...)
	sort.Slice(sorted, func(a, b int) bool { return sorted[a].from.Before(sorted[b].from) })
	var end time.Time
	for i, in := range sorted {
		if i == 0 || in.from.After(end) {
			covered += in.to.Sub(in.from)
			end = in.to
		} else if in.to.After(end) {
			covered += in.to.Sub(end)
			end = in.to
		}
		latest = in.from
	}
	return covered, latest
}

// before is the time that the intervals cover ahead of the given instant.
func before(intervals []interval, instant time.Time) time.Duration {
	var cut []interval
	for _, in := range intervals {
		if in.to.After(instant) {
			in.to = instant
		}
		if in.from.Before(in.to) {
			cut = append(cut, in)
		}
	}
	covered, _ := union(cut)
	return covered
}
