package bench

import (
	"math"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/bench/results"
)

// Progress is how far a benchmark has come.
type Progress struct {
	Point, Points int // from 1
	Run, Runs     int // of the point, from 1
	Label         string
	Done, Total   int // requests of the run; Total is 0 if its end is a time
	Elapsed       time.Duration
	Length        time.Duration // of the run, if its end is a time
	PairsPerS     float64
	P50, P95      float64       // milliseconds, NaN before the first answer
	Left          time.Duration // for all that is left, negative if not known yet
}

// A reporter tells of the progress, now and then.
type reporter struct {
	tell   func(Progress)
	points []results.Point
	stop   chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	load   *load // under way, nil between runs
	start  time.Time
	number int
	point  int
}

func newReporter(o Options, points []results.Point) *reporter {
	r := &reporter{tell: o.Progress, points: points, stop: make(chan struct{}), done: make(chan struct{})}
	if r.tell == nil {
		close(r.done)
		return r
	}
	go r.watch(o.Every)
	return r
}

func (r *reporter) watch(every time.Duration) {
	defer close(r.done)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if p, ok := r.now(); ok {
				r.tell(p)
			}
		case <-r.stop:
			return
		}
	}
}

func (r *reporter) close() {
	close(r.stop)
	<-r.done
}

func (r *reporter) begin(point, number int, l *load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load, r.point, r.number, r.start = l, point, number, time.Now()
}

func (r *reporter) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load = nil
}

func (r *reporter) now() (Progress, bool) {
	r.mu.Lock()
	l, point, number, elapsed := r.load, r.point, r.number, time.Since(r.start)
	r.mu.Unlock()
	if l == nil {
		return Progress{}, false
	}
	s := l.settings
	p := Progress{
		Point: point + 1, Points: len(r.points), Run: number + 1, Runs: s.Runs,
		Label: s.Label(nil), Total: s.Requests, Elapsed: elapsed, Length: time.Duration(s.Duration),
	}
	var pairs int
	p.Done, pairs, p.P50, p.P95 = l.soFar()
	p.PairsPerS = float64(pairs) / elapsed.Seconds()
	p.Left = r.left(p)
	return p, true
}

// left is the time for what is left, if its pairs go as those so far.
func (r *reporter) left(p Progress) time.Duration {
	pairs, length := 0.0, time.Duration(0)
	for i, point := range r.points[p.Point-1:] {
		s := point.Settings
		runs := s.Runs
		if i == 0 {
			runs -= p.Run - 1
		}
		pairs += float64(runs * s.Requests * s.Batch)
		length += time.Duration(runs) * time.Duration(s.Duration)
		if i == 0 {
			pairs -= float64(p.Done * s.Batch)
			if s.Duration > 0 {
				pairs, length = 0, length-min(p.Elapsed, time.Duration(s.Duration))
			}
		}
	}
	if pairs == 0 {
		return length
	}
	seconds := pairs / p.PairsPerS
	if math.IsInf(seconds, 0) || math.IsNaN(seconds) {
		return -1
	}
	return length + time.Duration(seconds*float64(time.Second))
}
