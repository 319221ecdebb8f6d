package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A do sends request i, waits for the answer and fills in everything except the
// times on the load's clock.
type do func(ctx context.Context, i int) (results.Request, error)

// A load sends requests and records them.
type load struct {
	settings experiment.Settings
	do       do
	start    time.Time // zero: when run begins

	mu       sync.Mutex
	requests []results.Request // in the order in which they ended
	pairs    int
	refused  int
	refusal  error
	failed   int // requests that a server answered without scores
	failure  error
	inARow   int // failed requests since the last answered one
}

// mostFailures in a row end a run. Otherwise a closed loop would send requests to a
// dead server as fast as they fail.
const mostFailures = 50

// A miss is a request that a server answered without scores. It is counted, and
// the run continues.
type miss struct {
	error
	refused bool          // the server is overloaded
	after   time.Duration // pause that the server asks for
}

func (m *miss) Unwrap() error { return m.error }

// run sends all requests and returns after the last answer. An error of the
// engine or the end of ctx ends it early. Refused requests and failures of a
// server are counted, up to mostFailures in a row.
func (l *load) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if l.start.IsZero() {
		l.start = time.Now()
	}
	if l.settings.Open() {
		l.open(ctx, cancel)
	} else {
		l.closed(ctx, cancel)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if len(l.requests) == 0 {
		return fmt.Errorf("none of %d requests was answered with scores: %w", l.refused+l.failed, cmp.Or(l.failure, l.refusal))
	}
	return nil
}

// more reports whether request i, at the given time, belongs to the run.
func (l *load) more(i int, at time.Time) bool {
	if l.settings.Duration > 0 {
		return at.Sub(l.start) < time.Duration(l.settings.Duration)
	}
	return i < l.settings.Requests
}

// closed runs as many senders as the concurrency. Each sends its next request
// after the answer to the one before.
func (l *load) closed(ctx context.Context, cancel context.CancelCauseFunc) {
	var next atomic.Int64
	var senders sync.WaitGroup
	for range l.settings.Concurrency {
		senders.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				at := time.Now()
				if !l.more(i, at) {
					return
				}
				if after := l.send(ctx, cancel, i, at); after > 0 {
					telemetry.SleepUntil(ctx, l.pause(after))
				}
			}
		})
	}
	senders.Wait()
}

// open sends requests at the times of a Poisson process, whether or not earlier
// ones were answered. Latency counts from those times, so that a stall counts for
// every request that it delays.
func (l *load) open(ctx context.Context, cancel context.CancelCauseFunc) {
	random := rand.New(rand.NewPCG(l.settings.Seed, 0))
	var senders sync.WaitGroup
	at := l.start
	for i := 0; ; i++ {
		at = at.Add(time.Duration(random.ExpFloat64() / l.settings.Rate * float64(time.Second)))
		if !l.more(i, at) || !telemetry.SleepUntil(ctx, at) {
			break
		}
		meant := at
		senders.Go(func() { l.send(ctx, cancel, i, meant) })
	}
	senders.Wait()
}

// pause returns when a refused sender continues: after the time that the server
// asks for, but no later than the end of the run.
func (l *load) pause(after time.Duration) time.Time {
	until := time.Now().Add(after)
	if end := l.start.Add(time.Duration(l.settings.Duration)); l.settings.Duration > 0 && until.After(end) {
		return end
	}
	return until
}

// send sends request i, which was meant to start at the given time. It returns
// the pause that a server asks for.
func (l *load) send(ctx context.Context, cancel context.CancelCauseFunc, i int, meant time.Time) (after time.Duration) {
	sent := time.Now()
	r, err := l.do(ctx, i)
	answered := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var missed *miss
	switch {
	case errors.Is(err, engine.ErrOverloaded) || errors.As(err, &missed) && missed.refused:
		l.refused++
		l.refusal = err
		if missed != nil {
			after = missed.after
		}
	case missed != nil:
		l.failed++
		l.failure = cmp.Or(l.failure, err)
		if l.inARow++; l.inARow == mostFailures {
			cancel(fmt.Errorf("%d requests failed in a row, the last: %w", l.inARow, err))
		}
	case err != nil:
		cancel(err)
	default:
		r.StartMS = telemetry.Milliseconds(meant.Sub(l.start))
		r.LateMS = telemetry.Milliseconds(sent.Sub(meant))
		r.LatencyMS = telemetry.Milliseconds(answered.Sub(meant))
		l.requests = append(l.requests, r)
		l.pairs += r.Pairs
		l.inARow = 0
	}
	return after
}

// soFar returns the figures of a running load.
func (l *load) soFar() (requests, pairs int, p50, p95 float64) {
	l.mu.Lock()
	latencies := make([]float64, len(l.requests))
	for i, r := range l.requests {
		latencies[i] = r.LatencyMS
	}
	requests, pairs = len(l.requests)+l.refused+l.failed, l.pairs
	l.mu.Unlock()
	s := telemetry.Summarize(latencies)
	return requests, pairs, s.P50, s.P95
}
