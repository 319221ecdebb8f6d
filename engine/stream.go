package engine

import (
	"context"
	"errors"
	"iter"
)

// A Scored is a window of a stream with its result.
type Scored[W any] struct {
	Window W
	*Result
}

// streamWindows is how many windows of a stream are at work at once: while one
// executes the next is read and tokenised.
const streamWindows = 2

// Stream scores windows of pairs, as of a file too large for memory, and gives
// the results in the order of the windows. It reads ahead: while the caller has
// one result, up to two windows are at work, so that the device waits neither
// for the reader nor for the caller. Windows of a thousand pairs are about
// right: lengths are grouped among the pairs at work.
//
// The first error ends the stream: of the windows, of scoring or of ctx. A
// window that finds no room in the queue is tried once more when no other of
// the stream is at work.
func Stream[W any](ctx context.Context, e *Engine, windows iter.Seq2[W, error], pairs func(W) []Pair) iter.Seq2[Scored[W], error] {
	return func(yield func(Scored[W], error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		next, stop := iter.Pull2(windows)
		defer stop()
		var ahead []*streamed[W] // windows at work, in order
		defer func() {           // none is left behind
			cancel()
			for _, s := range ahead {
				<-s.done
			}
		}()
		for more := true; more || len(ahead) > 0; {
			if more && len(ahead) < streamWindows {
				var s streamed[W]
				if s.window, s.err, more = next(); more {
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
			if !yield(Scored[W]{s.window, s.result}, s.err) || s.err != nil {
				return
			}
		}
	}
}

// A streamed is a window at work; result and err are there once done is closed.
type streamed[W any] struct {
	window W
	again  bool // tried once more
	done   chan struct{}
	result *Result
	err    error
}

// start scores the window, unless reading it has failed.
func (s *streamed[W]) start(ctx context.Context, e *Engine, pairs func(W) []Pair) {
	s.done = make(chan struct{})
	if s.err != nil {
		close(s.done)
		return
	}
	list := pairs(s.window)
	go func() {
		defer close(s.done)
		s.result, s.err = e.Score(ctx, list)
	}()
}
