package schedule

import "time"

// The device hangs if a batch takes longer than the larger of leastPatience and
// patience times its prediction. Until a batch was measured there is no prediction,
// only a guess that may be wrong by orders of magnitude.
const (
	leastPatience = 10 * time.Second
	firstPatience = 10 * time.Minute
	patience      = 20
	// Beyond so many times the most work that was measured, assumed costs predict
	// nothing: they may leave out most of what long pairs take.
	beyondMeasured = 4
)

// A Watch is what the device computes now: how long it was predicted to take, and
// when it is overdue.
type Watch struct {
	Pairs     int // of the batch, 1 for a pair computed alone; 0 for a measurement of costs
	Began     time.Time
	Predicted time.Duration // 0 if unknown
	Overdue   time.Time
}

// Watch returns what the device computes, nil if it computes nothing.
func (s *Scheduler) Watch() *Watch {
	if s.measuring != nil {
		return s.measuring
	}
	if len(s.flying) == 0 || s.flying[0].Submitted.IsZero() {
		return nil
	}
	b := s.flying[0] // the others wait for it
	return s.watch(len(b.Items), b.work, later(b.Submitted, s.lastCollected))
}

func (s *Scheduler) watch(pairs int, work float64, began time.Time) *Watch {
	w := &Watch{Pairs: pairs, Began: began, Overdue: began.Add(firstPatience)}
	if s.pace.known() {
		w.Predicted = max(time.Duration(s.drift*work), time.Duration(s.pace.of(work)))
		if !s.assumed || work <= beyondMeasured*s.mostWork {
			w.Overdue = began.Add(max(leastPatience, patience*w.Predicted))
		}
	}
	return w
}

// MeasureBegan reports that a shape of microbatch is measured on all workers, while
// no batch is in flight.
func (s *Scheduler) MeasureBegan(shape Shape, at time.Time) {
	s.measuring = s.watch(0, s.planner.costs.Of(Padded(shape.Pairs, shape.Width)), at)
}

// PairBegan reports that a pair of so many tokens is computed alone, while no batch is
// in flight.
func (s *Scheduler) PairBegan(length int, at time.Time) {
	s.measuring = s.watch(1, s.planner.costs.Of(Padded(1, length)), at)
}

// MeasureEnded reports that it is measured or computed, or that this has failed.
func (s *Scheduler) MeasureEnded() { s.measuring = nil }
