package schedule

import (
	"math"
	"slices"
	"time"
)

// horizon bounds how long requests with earlier deadlines can pass a request over: it
// is due so long after its arrival, even if it has a later deadline or none.
const horizon = 10 * time.Second

// dueTime returns when a request that arrives now is due: the order of the queue.
func dueTime(r *Request, at time.Time) time.Time {
	due := at.Add(horizon)
	if !r.Deadline.IsZero() && r.Deadline.Before(due) {
		return r.Deadline
	}
	return due
}

// workBefore returns how much work a batch that is taken now can have, to end before
// the request's deadline. ok is false if there is no deadline, or no forecast.
func (s *Scheduler) workBefore(r *Request, at time.Time) (work float64, ok bool) {
	if r.Deadline.IsZero() || !s.pace.known() {
		return 0, false
	}
	return float64(r.Deadline.Sub(at)-s.untilFree(at)) / (ownMargin * s.batchPace(at)), true
}

// draftTries is how often a batch is planned again to end before a deadline.
const draftTries = 4

// draftForDeadline plans a batch that ends before the deadline of the request whose
// pairs are first in the queue, if the batch d does not. ok is false if d stays: it
// ends in time, or no batch answers the request. A batch for a deadline need not have
// the oldest pair, so at most maxPassed of them follow one another.
func (s *Scheduler) draftForDeadline(q *queue, d draft, l Limits, at time.Time) (timed draft, ok bool) {
	r := q.waiting[0].Request
	most, known := s.workBefore(r, at)
	if !known || q.timed >= maxPassed {
		return d, false
	}
	for range draftTries {
		work := s.planner.costs.batch(d.microbatches, s.planner.layout.Workers)
		if work <= most {
			return d, ok
		}
		l.Tokens = min(l.Tokens, int(0.98*float64(d.computed)*most/work))
		shorter, own := q.draftFor(r, l)
		if own == 0 || !r.Partial && own < r.queued-r.taken {
			return d, ok && r.Partial
		}
		d, ok = shorter, true
	}
	return d, ok
}

// slack returns how much longer the first pairs of the queue may wait for company.
func (s *Scheduler) slack(q *queue, at time.Time) time.Duration {
	r := q.waiting[0].Request
	if r.Deadline.IsZero() || !s.pace.known() {
		return math.MaxInt64
	}
	return r.Deadline.Sub(at) - s.untilFree(at) - time.Duration(ownMargin*float64(s.took(s.cost(r.todo), at)))
}

// Cut returns a partial request of which no waiting pair can be computed before the
// deadline, nil if there is none. It forgets all its pairs that are not in batches.
func (s *Scheduler) Cut(at time.Time) *Request {
	if s.partial == 0 {
		return nil
	}
	for i := range s.queues {
		for _, r := range s.queues[i].partial() {
			work, known := s.workBefore(r.request, at)
			if known && work < s.planner.costs.Of(Padded(1, r.narrowest)) || !at.Before(r.request.Deadline) {
				s.drop(r.request)
				r.request.cut, r.request.todo, r.request.waiting = true, load{}, 0
				return r.request
			}
		}
	}
	return nil
}

// A waitingPartial is a partial request with waiting pairs.
type waitingPartial struct {
	request   *Request
	narrowest int // of the pairs, in tokens
}

func (q *queue) partial() []waitingPartial {
	var all []waitingPartial
	for _, it := range q.waiting {
		if !it.Request.Partial {
			continue
		}
		i := slices.IndexFunc(all, func(p waitingPartial) bool { return p.request == it.Request })
		if i < 0 {
			i = len(all)
			all = append(all, waitingPartial{it.Request, it.width})
		}
		all[i].narrowest = min(all[i].narrowest, it.width)
	}
	return all
}
