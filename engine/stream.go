package engine

import (
	"context"
	"errors"
	"iter"
)

// A Scored is a chunk of a stream with its result.
type Scored[C any] struct {
	Chunk C
	*Result
}

// streamChunks is how many chunks of a stream are live at once: while one
// executes, the next is read and tokenised.
const streamChunks = 2

// Stream scores chunks of pairs, for example of a file too large for memory, and
// yields the results in the order of the chunks. It reads ahead: while the caller
// has one result, up to two chunks are live, so that the device waits neither for
// the reader nor for the caller. A chunk of about a thousand pairs is a good size,
// because lengths are grouped among the live pairs.
//
// The first error ends the stream: of the chunks, of scoring or of ctx. A chunk
// that finds no room in the queue is tried once more when no other chunk of the
// stream is live.
func Stream[C any](ctx context.Context, e *Engine, chunks iter.Seq2[C, error], pairs func(C) []Pair) iter.Seq2[Scored[C], error] {
	return func(yield func(Scored[C], error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		next, stop := iter.Pull2(chunks)
		defer stop()
		var ahead []*streamed[C] // live chunks, in order
		defer func() {           // no goroutine is left behind
			cancel()
			for _, s := range ahead {
				<-s.done
			}
		}()
		for more := true; more || len(ahead) > 0; {
			if more && len(ahead) < streamChunks {
				var s streamed[C]
				if s.chunk, s.err, more = next(); more {
					more = s.err == nil
					s.start(ctx, e, pairs)
					ahead = append(ahead, &s)
				}
				continue
			}
			s := ahead[0]
			<-s.done
			if errors.Is(s.err, ErrOverloaded) && !s.again {
				for _, other := range ahead {
					<-other.done
				}
				s.again, s.err = true, nil
				s.start(ctx, e, pairs)
				continue
			}
			ahead = ahead[1:]
			if !yield(Scored[C]{s.chunk, s.result}, s.err) || s.err != nil {
				return
			}
		}
	}
}

// A streamed is a live chunk; result and err are set once done is closed.
type streamed[C any] struct {
	chunk  C
	again  bool // tried once more
	done   chan struct{}
	result *Result
	err    error
}

// start scores the chunk, unless reading it has failed.
func (s *streamed[C]) start(ctx context.Context, e *Engine, pairs func(C) []Pair) {
	s.done = make(chan struct{})
	if s.err != nil {
		close(s.done)
		return
	}
	list := pairs(s.chunk)
	go func() {
		defer close(s.done)
		s.result, s.err = e.Score(ctx, list)
	}()
}
