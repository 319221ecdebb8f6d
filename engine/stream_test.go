package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"
)

type testWindow struct {
	number int
	pairs  []Pair
}

// testWindows reads windows of some pairs, each taking a while to read, and
// then fails if it is told how.
func testWindows(n int, reading time.Duration, err error) iter.Seq2[testWindow, error] {
	return func(yield func(testWindow, error) bool) {
		for i := range n {
			time.Sleep(reading)
			w := testWindow{i, []Pair{{"0s 1", fmt.Sprintf("0s %d", 10+i)}, {"0s 2", fmt.Sprintf("0s %d %d", 10+i, i)}}}
			if !yield(w, nil) {
				return
			}
		}
		if err != nil {
			yield(testWindow{}, err)
		}
	}
}

func windowPairsOf(w testWindow) []Pair { return w.pairs }

func TestStreamKeepsOrderAndOverlaps(t *testing.T) {
	b := batchesOf(10 * time.Millisecond)
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		start, next := time.Now(), 0
		for scored, err := range Stream(context.Background(), e, testWindows(20, 8*time.Millisecond, nil), windowPairsOf) {
			if err != nil {
				t.Fatal(err)
			}
			if scored.Chunk.number != next {
				t.Fatalf("window %d, want %d", scored.Chunk.number, next)
			}
			checkFakeScores(t, scored.Chunk.pairs, scored.Result)
			time.Sleep(time.Millisecond) // the caller's work
			next++
		}
		// Reading, executing and the caller one after another would take 380 ms.
		if took := time.Since(start); next != 20 || took > 230*time.Millisecond {
			t.Errorf("%d windows in %v", next, took)
		}
	})
}

func TestStreamEnds(t *testing.T) {
	broken := errors.New("line 7 is no JSON")
	for name, test := range map[string]struct {
		windows iter.Seq2[testWindow, error]
		stop    int // results taken
		want    error
	}{
		"nothing to read": {testWindows(0, 0, nil), 100, nil},
		"reader fails":    {testWindows(5, 0, broken), 100, broken},
		"caller stops":    {testWindows(100, 0, nil), 3, nil},
	} {
		bubble(t, fakeSettings(), batchesOf(time.Millisecond), func(t *testing.T, e *Engine) {
			var got error
			taken := 0
			for _, err := range Stream(context.Background(), e, test.windows, windowPairsOf) {
				if got = err; err == nil {
					taken++
				}
				if taken == test.stop {
					break
				}
			}
			if !errors.Is(got, test.want) || test.want != nil && taken != 5 {
				t.Errorf("%s: %v after %d results", name, got, taken)
			}
			if live := e.Stats().Live; live != 0 {
				t.Errorf("%s: %d requests left behind", name, live)
			}
		})
	}
	bubble(t, fakeSettings(), batchesOf(time.Second), func(t *testing.T, e *Engine) {
		// The first window's pairs may be tokenised apart, and fall into two batches.
		ctx, cancel := context.WithTimeout(context.Background(), 2500*time.Millisecond)
		defer cancel()
		start, taken := time.Now(), 0
		var last error
		for _, err := range Stream(ctx, e, testWindows(100, 0, nil), windowPairsOf) {
			if last = err; err == nil {
				taken++
			}
		}
		if !errors.Is(last, context.DeadlineExceeded) || taken < 1 || time.Since(start) != 2500*time.Millisecond {
			t.Errorf("%v after %d results and %v", last, taken, time.Since(start))
		}
	})
}

// A stream whose windows do not fit side by side goes through one by one.
func TestStreamInASmallQueue(t *testing.T) {
	s := fakeSettings()
	s.capacity = 30 // the two pairs of a window may have 26
	bubble(t, s, batchesOf(time.Millisecond), func(t *testing.T, e *Engine) {
		taken := 0
		for scored, err := range Stream(context.Background(), e, testWindows(10, 0, nil), windowPairsOf) {
			if err != nil {
				t.Fatal(err)
			}
			checkFakeScores(t, scored.Chunk.pairs, scored.Result)
			taken++
		}
		if taken != 10 || e.Stats().Overloaded == 0 {
			t.Errorf("%d windows, %d refused on the way", taken, e.Stats().Overloaded)
		}
	})
}
