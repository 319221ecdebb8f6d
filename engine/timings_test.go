package engine

import (
	"math/rand/v2"
	"testing"
	"time"
)

var zero = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

func TestTimings(t *testing.T) {
	for name, test := range map[string]struct {
		line timeline
		want [4]int // inference, tokenization, queue wait, other in ms
	}{
		"one batch": {timeline{at(0), at(4), at(5), at(30), []interval{{at(7), at(28)}}}, [4]int{21, 4, 2, 3}},
		// The second batch waits until 10, but from 7 on the first executes.
		"overlapping": {timeline{at(0), at(4), at(5), at(30), []interval{{at(7), at(20)}, {at(10), at(29)}}}, [4]int{22, 4, 2, 2}},
		"a gap":       {timeline{at(0), at(4), at(5), at(40), []interval{{at(7), at(20)}, {at(25), at(40)}}}, [4]int{28, 4, 7, 1}},
		"no pairs":    {timeline{at(0), at(0), at(1), at(1), nil}, [4]int{0, 0, 0, 1}},
	} {
		got := test.line.timings()
		for i, d := range []time.Duration{got.Inference, got.Tokenization, got.QueueWait, got.Other} {
			if want := time.Duration(test.want[i]) * time.Millisecond; d != want {
				t.Errorf("%s: stage %d took %v, want %v", name, i, d, want)
			}
		}
	}
}

// stageAt is the stage an instant belongs to, straight from the definition.
func (t *timeline) stageAt(instant time.Time) string {
	waiting := false
	for _, b := range t.batches {
		if !instant.Before(b.from) && instant.Before(b.to) {
			return "inference"
		}
		waiting = waiting || instant.Before(b.from)
	}
	switch {
	case instant.Before(t.tokenised):
		return "tokenization"
	case waiting && !instant.Before(t.planned):
		return "queue wait"
	}
	return "other"
}

func TestTimingsPartitionTheLatency(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		line := timeline{accepted: at(0), tokenised: at(r.IntN(10))}
		now := int(line.tokenised.Sub(zero)/time.Millisecond) + r.IntN(4)
		line.planned = at(now)
		for range r.IntN(6) {
			from := now + r.IntN(12)
			to := from + 1 + r.IntN(20)
			line.batches = append(line.batches, interval{at(from), at(to)})
			now = from
		}
		end := now + 25 + r.IntN(5)
		line.finished = at(end)
		want := make(map[string]time.Duration)
		for ms := range end {
			want[line.stageAt(at(ms))] += time.Millisecond
		}
		got := line.timings()
		if got.Inference != want["inference"] || got.Tokenization != want["tokenization"] ||
			got.QueueWait != want["queue wait"] || got.Other != want["other"] || got.Latency != at(end).Sub(zero) {
			t.Fatalf("%+v: got %+v, want %v", line, got, want)
		}
	}
}
