package bench

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// Progress describes how far a benchmark is.
type Progress struct {
	Step, Steps int    // a step is one run of a point; the first is 1
	Label       string // of the point
	Done, Total int    // requests of the run; Total is 0 if a time ends it
	Elapsed     time.Duration
	Length      time.Duration // of the run, if a time ends it
	PairsPerS   float64
	P50, P95    float64       // milliseconds, NaN before the first answer
	Left        time.Duration // for this and the later steps, negative if unknown
}

// A step is a run to measure.
type step struct {
	point    *results.Point
	run      int
	settings experiment.Settings
	label    string
}

// A reporter calls a function with the progress at regular intervals.
type reporter struct {
	show  func(Progress)
	steps []step
	close func() // ends the calls

	mu    sync.Mutex
	load  *load // running, nil between runs
	start time.Time
	at    int // index of the current step
}

func newReporter(o Options, steps []step) *reporter {
	r := &reporter{show: o.Progress, steps: steps, close: func() {}}
	if r.show != nil {
		r.close = repeat(o.Every, func(context.Context) {
			if p, ok := r.now(); ok {
				r.show(p)
			}
		})
	}
	return r
}

// repeat calls f at regular intervals, on a goroutine that stop ends and waits for.
func repeat(every time.Duration, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for telemetry.SleepUntil(ctx, time.Now().Add(every)) {
			f(ctx)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// begin records which run begins.
func (r *reporter) begin(point *results.Point, run int, l *load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.steps {
		if s.point == point && s.run == run {
			r.at = i
		}
	}
	r.load, r.start = l, time.Now()
}

func (r *reporter) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load = nil
}

func (r *reporter) now() (Progress, bool) {
	r.mu.Lock()
	l, at, elapsed := r.load, r.at, time.Since(r.start)
	r.mu.Unlock()
	if l == nil {
		return Progress{}, false
	}
	p := Progress{
		Step: at + 1, Steps: len(r.steps), Label: r.steps[at].label,
		Total: l.settings.Requests, Elapsed: elapsed, Length: time.Duration(l.settings.Duration),
	}
	var pairs int
	p.Done, pairs, p.P50, p.P95 = l.soFar()
	p.PairsPerS = float64(pairs) / elapsed.Seconds()
	p.Left = left(r.steps[at:], p)
	return p, true
}

// left estimates the remaining time from the speed so far.
func left(steps []step, p Progress) time.Duration {
	pairs, length := 0, time.Duration(0)
	for _, s := range steps {
		pairs += s.settings.Requests * s.settings.Batch
		length += time.Duration(s.settings.Duration)
	}
	pairs -= p.Done * steps[0].settings.Batch
	if p.Length > 0 {
		length -= min(p.Elapsed, p.Length)
		pairs += p.Done * steps[0].settings.Batch
	}
	if pairs <= 0 {
		return length
	}
	seconds := float64(pairs) / p.PairsPerS
	if math.IsInf(seconds, 0) || math.IsNaN(seconds) {
		return -1
	}
	return length + time.Duration(seconds*float64(time.Second))
}
