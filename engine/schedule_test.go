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

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
)

// An event is a change of a request that the schedule records.
type event struct {
	at      time.Time
	request *schedule.Request
	kind    kind
	count   int // pairs
}

type kind int

const (
	admitted kind = iota
	tokenized
	queued
	taken     // pairs put into a batch
	submitted // the pairs' batch
	collected
	cutShort // its waiting pairs were dropped
	ended
)

// A recorder logs the schedule's events.
type recorder struct {
	events
	log *[]event
}

func (r *recorder) add(request *schedule.Request, kind kind, count int) {
	*r.log = append(*r.log, event{time.Now(), request, kind, count})
}

func (r *recorder) Admit(request *schedule.Request) {
	r.add(request, admitted, request.Pairs())
	r.events.Admit(request)
}

func (r *recorder) Tokenized(request *schedule.Request, index, length int) {
	r.add(request, tokenized, 1)
	r.events.Tokenized(request, index, length)
}

func (r *recorder) Release(request *schedule.Request, ready int, at time.Time) int {
	n := r.events.Release(request, ready, at)
	if n > 0 {
		r.add(request, queued, n)
	}
	return n
}

func (r *recorder) Next(at time.Time, closing bool) (*schedule.Batch, time.Duration) {
	b, wait := r.events.Next(at, closing)
	if b != nil {
		for _, it := range b.Items {
			r.add(it.Request, taken, 1)
		}
	}
	return b, wait
}

func (r *recorder) Submitted(b *schedule.Batch, at time.Time) {
	r.each(b, submitted)
	r.events.Submitted(b, at)
}

func (r *recorder) Collected(b *schedule.Batch, timings []schedule.Timing, at time.Time) {
	r.each(b, collected)
	r.events.Collected(b, timings, at)
}

func (r *recorder) each(b *schedule.Batch, kind kind) {
	seen := make(map[*schedule.Request]bool)
	for _, it := range b.Items {
		if !seen[it.Request] {
			seen[it.Request] = true
			r.add(it.Request, kind, 0)
		}
	}
}

func (r *recorder) Cut(at time.Time) *schedule.Request {
	request := r.events.Cut(at)
	if request != nil {
		r.add(request, cutShort, 0)
	}
	return request
}

func (r *recorder) End(request *schedule.Request) {
	r.add(request, ended, 0)
	r.events.End(request)
}

// A traffic runs random requests in virtual time and keeps the log of events.
type traffic struct {
	t        *testing.T
	settings settings
	backend  *fakeBackend
	log      []event
	timings  map[*schedule.Request]Timings
	mu       sync.Mutex
	scored   int
	partial  int
}

func randomTraffic(t *testing.T, r *rand.Rand) *traffic {
	s := &traffic{t: t, settings: fakeSettings(), timings: make(map[*schedule.Request]Timings)}
	s.settings.workers = 1 + r.IntN(3)
	s.settings.batching.Limits = schedule.Limits{Pairs: 1 + r.IntN(20), Tokens: fakeMaxLength + r.IntN(600)}
	s.settings.batching.InOrder = r.IntN(3) == 0
	if r.IntN(4) == 0 {
		s.settings.batching.BatchTimeout = time.Duration(1+r.IntN(50)) * time.Millisecond
	}
	perToken := time.Duration(r.IntN(50)) * time.Microsecond
	s.backend = &fakeBackend{takes: func(b mlx.Batch) time.Duration {
		return time.Millisecond + perToken*time.Duration(len(b.IDs))
	}}
	return s
}

// run starts callers that send requests at random times; some cancel.
func (s *traffic) run(r *rand.Rand) {
	e := fakeEngine(s.settings, s.backend)
	e.pipeline.mu.Lock()
	e.pipeline.events = &recorder{events: e.pipeline.events, log: &s.log}
	e.pipeline.mu.Unlock()
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
		s.t.Errorf("after all requests: %+v", got)
	}
}

func (s *traffic) request(e *Engine, r *rand.Rand) {
	pairs := fakePairs(r, r.IntN(40), time.Millisecond)
	ctx := context.Background()
	if r.IntN(4) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, randomTime(r, 40*time.Millisecond))
		defer cancel()
	}
	start := time.Now()
	request := newRequest(pairs)
	request.options.Partial = r.IntN(2) == 0
	if r.IntN(3) == 0 {
		request.options.Priority = PriorityBatch
	}
	result, err := e.score(ctx, request, start)
	took := time.Since(start)
	if err != nil {
		if errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge) {
			if ctx == context.Background() {
				s.t.Errorf("refused without a deadline: %v", err)
			}
		} else if !errors.Is(err, context.DeadlineExceeded) {
			s.t.Error(err)
		} else if deadline, _ := ctx.Deadline(); time.Now().After(deadline) {
			s.t.Errorf("Score returned %v after the deadline", time.Since(deadline))
		}
		return
	}
	checkFakeScores(s.t, pairs, result)
	if deadline, ok := ctx.Deadline(); ok && request.options.Partial && took > max(0, deadline.Sub(start)-time.Millisecond) {
		s.t.Errorf("a partial answer came after %v, less than a millisecond before the deadline of %v", took, deadline.Sub(start))
	}
	if result.Timings.Latency != took {
		s.t.Errorf("latency %v, the caller waited %v", result.Timings.Latency, took)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scored++; len(result.Unscored) > 0 {
		s.partial++
	}
	if !request.IsCut() { // its workers may still tokenise pairs that are dropped
		s.timings[&request.Request] = result.Timings
	}
}

// byRequest splits the log by request.
func byRequest(log []event) map[*schedule.Request][]event {
	logs := make(map[*schedule.Request][]event)
	for _, e := range log {
		logs[e.request] = append(logs[e.request], e)
	}
	return logs
}

// replay computes a request's stages from its log alone. For each interval between
// two events it determines what the request waits for.
func replay(own []event) Timings {
	slices.SortStableFunc(own, func(a, b event) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
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
		case admitted:
			untokenised = e.count
		case tokenized:
			untokenised -= e.count
		case queued:
			waiting += e.count
		case taken:
			waiting -= e.count
		case submitted:
			running++
		case collected:
			running--
		case ended:
			return t
		}
	}
	return t
}

// check compares the timings with a replay and checks that the device is never
// idle.
func (s *traffic) check() {
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
	if s.settings.batching.BatchTimeout == 0 {
		s.checkNeverIdle()
	}
}

// checkNeverIdle checks that no time passes while a pair waits, nothing
// executes and there is no batch timeout.
func (s *traffic) checkNeverIdle() {
	waitingOf := make(map[*schedule.Request]int)
	waiting, executing := 0, 0
	var last time.Time
	for _, e := range s.log {
		if e.at.After(last) && waiting > 0 && executing == 0 {
			s.t.Errorf("the device was idle for %v while %d pairs waited", e.at.Sub(last), waiting)
		}
		last = e.at
		change := 0
		switch e.kind {
		case queued:
			change = e.count
		case taken:
			change = -e.count
		case submitted:
			executing++
		case collected:
			executing--
		case ended, cutShort:
			change = -waitingOf[e.request]
		}
		waiting += change
		waitingOf[e.request] += change
	}
}

func TestTimingsOfRandomSchedules(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	scored, partial, events := 0, 0, 0
	for seed := range uint64(2000) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			s := randomTraffic(t, r)
			s.run(r)
			s.check()
			scored, partial, events = scored+s.scored, partial+s.partial, events+len(s.log)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d requests, %d of them partial, %d events", scored, partial, events)
	if partial < 100 {
		t.Errorf("%d partial answers", partial)
	}
}

// The replay must detect a wrong stage.
func TestReplayDetectsWrongStages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		s := randomTraffic(t, r)
		s.run(r)
		for request, got := range s.timings {
			submits := 0
			for i := range s.log {
				if e := &s.log[i]; e.request == request && e.kind == submitted {
					submits++
					e.at = e.at.Add(-time.Microsecond)
				}
			}
			if submits > 0 && replay(byRequest(s.log)[request]) == got {
				t.Error("a shifted submit is not detected")
			}
		}
	})
}
