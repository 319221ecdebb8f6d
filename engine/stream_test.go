package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"
)

type testChunk struct {
	number int
	pairs  []Pair
}

// testChunks reads n chunks, each for the given time, and then fails with err if
// it is not nil.
func testChunks(n int, reading time.Duration, err error) iter.Seq2[testChunk, error] {
	return func(yield func(testChunk, error) bool) {
		for i := range n {
			time.Sleep(reading)
			c := testChunk{i, []Pair{{"0s 1", fmt.Sprintf("0s %d", 10+i)}, {"0s 2", fmt.Sprintf("0s %d %d", 10+i, i)}}}
			if !yield(c, nil) {
				return
			}
		}
		if err != nil {
			yield(testChunk{}, err)
		}
	}
}

func testChunkPairs(c testChunk) []Pair { return c.pairs }

func TestStreamKeepsOrderAndOverlaps(t *testing.T) {
	t.Parallel()
	b := newTimedBackend(10 * time.Millisecond)
	bubble(t, fakeSettings(), b, func(t *testing.T, e *Engine) {
		start, next := time.Now(), 0
		for scored, err := range Stream(context.Background(), e, testChunks(20, 8*time.Millisecond, nil), testChunkPairs) {
			if err != nil {
				t.Fatal(err)
			}
			if scored.Chunk.number != next {
				t.Fatalf("chunk %d, want %d", scored.Chunk.number, next)
			}
			checkFakeScores(t, scored.Chunk.pairs, scored.Result)
			time.Sleep(time.Millisecond) // the caller's own work
			next++
		}
		// Without overlap, reading, executing and the caller would take 380 ms.
		if took := time.Since(start); next != 20 || took > 230*time.Millisecond {
			t.Errorf("%d chunks in %v", next, took)
		}
	})
}

func TestStreamEnds(t *testing.T) {
	t.Parallel()
	broken := errors.New("line 7 is not JSON")
	for name, test := range map[string]struct {
		chunks iter.Seq2[testChunk, error]
		stop   int // after this many results
		want   error
	}{
		"nothing to read": {testChunks(0, 0, nil), 100, nil},
		"reader fails":    {testChunks(5, 0, broken), 100, broken},
		"caller stops":    {testChunks(100, 0, nil), 3, nil},
	} {
		bubble(t, fakeSettings(), newTimedBackend(time.Millisecond), func(t *testing.T, e *Engine) {
			var got error
			taken := 0
			for _, err := range Stream(context.Background(), e, test.chunks, testChunkPairs) {
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
				t.Errorf("%s: %d requests remain", name, live)
			}
		})
	}
	bubble(t, fakeSettings(), newTimedBackend(time.Second), func(t *testing.T, e *Engine) {
		// The first chunk's pairs may be tokenised separately and execute in two batches.
		ctx, cancel := context.WithTimeout(context.Background(), 2500*time.Millisecond)
		defer cancel()
		start, taken := time.Now(), 0
		var last error
		for _, err := range Stream(ctx, e, testChunks(100, 0, nil), testChunkPairs) {
			if last = err; err == nil {
				taken++
			}
		}
		if !errors.Is(last, context.DeadlineExceeded) || taken < 1 || time.Since(start) != 2500*time.Millisecond {
			t.Errorf("%v after %d results and %v", last, taken, time.Since(start))
		}
	})
}

// If the queue has no room for two chunks, a stream scores one after another.
func TestStreamInASmallQueue(t *testing.T) {
	t.Parallel()
	s := fakeSettings()
	s.capacity = 30 // the two pairs of a chunk count as 26 at most
	bubble(t, s, newTimedBackend(time.Millisecond), func(t *testing.T, e *Engine) {
		taken := 0
		for scored, err := range Stream(context.Background(), e, testChunks(10, 0, nil), testChunkPairs) {
			if err != nil {
				t.Fatal(err)
			}
			checkFakeScores(t, scored.Chunk.pairs, scored.Result)
			taken++
		}
		if taken != 10 || e.Stats().Overloaded == 0 {
			t.Errorf("%d chunks, %d refused by the queue", taken, e.Stats().Overloaded)
		}
	})
}
