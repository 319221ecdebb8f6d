package engine

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// A schedule is random traffic in virtual time, and the log of what happened.
type schedule struct {
	t        *testing.T
	settings settings
	backend  *fakeBackend
	log      []traceEvent
	timings  map[*request]Timings
	mu       sync.Mutex
	scored   int
}

func randomSchedule(t *testing.T, r *rand.Rand) *schedule {
	s := &schedule{t: t, settings: fakeSettings(), timings: make(map[*request]Timings)}
	s.settings.workers = 1 + r.IntN(3)
	s.settings.limits = limits{pairs: 1 + r.IntN(20), tokens: fakeMaxLength + r.IntN(600)}
	s.settings.planner.lengthAware = r.IntN(3) > 0
	if r.IntN(4) == 0 {
		s.settings.window = time.Duration(1+r.IntN(50)) * time.Millisecond
	}
	s.settings.trace = func(e traceEvent) { s.log = append(s.log, e) }
	perToken := time.Duration(r.IntN(50)) * time.Microsecond
	s.backend = &fakeBackend{takes: func(b mlx.Batch) time.Duration {
		return time.Millisecond + perToken*time.Duration(len(b.IDs))
	}}
	return s
}

// run lets callers send requests at random times, some of which give up.
func (s *schedule) run(r *rand.Rand) {
	e := fakeEngine(s.settings, s.backend)
	var wg sync.WaitGroup
	for caller := range 1 + r.IntN(6) {
		r := rand.New(rand.NewPCG(r.Uint64(), uint64(caller)))
		wg.Go(func() {
			for range 1 + r.IntN(5) {
				time.Sleep(randomTime(r, 30*time.Millisecond))
				s.request(e, r)
			}
		})
	}
	wg.Wait()
	if err := e.Close(); err != nil {
		s.t.Error(err)
	}
	if got := e.Stats(); got.Live != 0 || got.Waiting != 0 || got.Reserved != 0 || got.InFlight != 0 {
		s.t.Errorf("left over: %+v", got)
	}
}

func (s *schedule) request(e *Engine, r *rand.Rand) {
	pairs := fakePairs(r, r.IntN(40), time.Millisecond)
	ctx := context.Background()
	if r.IntN(4) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, randomTime(r, 40*time.Millisecond))
		defer cancel()
	}
	start := time.Now()
	result, request, err := e.score(ctx, pairs, ScoreOptions{}, nil)
	took := time.Since(start)
	if err != nil {
		if errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge) {
			if ctx == context.Background() {
				s.t.Errorf("refused without a deadline: %v", err)
			}
		} else if !errors.Is(err, context.DeadlineExceeded) {
			s.t.Error(err)
		} else if deadline, _ := ctx.Deadline(); time.Now().After(deadline) {
			s.t.Errorf("freed %v after the deadline", time.Since(deadline))
		}
		return
	}
	checkFakeScores(s.t, pairs, result)
	if result.Timings.Latency != took {
		s.t.Errorf("latency %v, the caller waited %v", result.Timings.Latency, took)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timings[request] = result.Timings
	s.scored++
}

// byRequest is the log of each request.
func byRequest(log []traceEvent) map[*request][]traceEvent {
	logs := make(map[*request][]traceEvent)
	for _, e := range log {
		logs[e.request] = append(logs[e.request], e)
	}
	return logs
}

// replay works a request's stages out from its log alone: for each stretch
// between two events it counts what the request has going.
func replay(own []traceEvent) Timings {
	slices.SortStableFunc(own, func(a, b traceEvent) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	var t Timings
	untokenised, waiting, running := 0, 0, 0
	for i, e := range own {
		if i > 0 {
			since := e.at.Sub(own[i-1].at)
			t.Latency += since
			switch {
			case running > 0:
				t.Inference += since
			case untokenised > 0:
				t.Tokenization += since
			case waiting > 0:
				t.QueueWait += since
			default:
				t.Other += since
			}
		}
		switch e.kind {
		case traceAccepted:
			untokenised = e.count
		case traceChunkDone:
			untokenised -= e.count
		case traceQueued:
			waiting += e.count
		case traceTaken:
			waiting -= e.count
		case traceSubmitted:
			running++
		case traceCollected:
			running--
		case traceEnded:
			return t
		}
	}
	return t
}

// check holds the timings against a replay, and the device against its promise.
func (s *schedule) check() {
	logs := byRequest(s.log)
	for r, got := range s.timings {
		if sum := got.Inference + got.Tokenization + got.QueueWait + got.Other; sum != got.Latency ||
			min(got.Inference, got.Tokenization, got.QueueWait, got.Other) < 0 {
			s.t.Errorf("stages of %+v add up to %v", got, sum)
		}
		if want := replay(logs[r]); got != want {
			s.t.Errorf("timings %+v, replayed %+v", got, want)
		}
		if bound := 500*time.Microsecond + got.Latency/100; got.Other > bound {
			s.t.Errorf("other is %v of %v", got.Other, got.Latency)
		}
	}
	if s.settings.window == 0 {
		s.checkNeverIdle()
	}
}

// checkNeverIdle checks that no time passes while a pair waits, nothing
// executes and the policy is continuous.
func (s *schedule) checkNeverIdle() {
	waitingOf := make(map[*request]int)
	waiting, executing := 0, 0
	var last time.Time
	for _, e := range s.log {
		if e.at.After(last) && waiting > 0 && executing == 0 {
			s.t.Errorf("the device was idle for %v while %d pairs waited", e.at.Sub(last), waiting)
		}
		last = e.at
		change := 0
		switch e.kind {
		case traceQueued:
			change = e.count
		case traceTaken:
			change = -e.count
		case traceSubmitted:
			executing++
		case traceCollected:
			executing--
		case traceEnded:
			change = -waitingOf[e.request]
		}
		waiting += change
		waitingOf[e.request] += change
	}
}

func TestTimingsOfRandomSchedules(t *testing.T) {
	scored, events := 0, 0
	for seed := range uint64(2000) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			s := randomSchedule(t, r)
			s.run(r)
			s.check()
			scored, events = scored+s.scored, events+len(s.log)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d requests, %d events", scored, events)
}

// The replay must notice a stage that is wrong.
func TestReplayIsNotBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		s := randomSchedule(t, r)
		s.run(r)
		for request, got := range s.timings {
			for i := range s.log {
				if e := &s.log[i]; e.request == request && e.kind == traceSubmitted {
					e.at = e.at.Add(-time.Microsecond)
				}
			}
			if len(request.pairs) > 0 && replay(byRequest(s.log)[request]) == got {
				t.Error("a shifted submit goes unnoticed")
			}
		}
	})
}
