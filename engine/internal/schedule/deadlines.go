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
// the request's deadline. The pace must be known.
func (s *Scheduler) workBefore(r *Request, at time.Time) float64 {
	return float64(r.Deadline.Sub(at)-s.untilFree(at)) / (ownMargin * s.batchPace(at))
}

// draftTries is how often a batch is planned again to end before a deadline.
const draftTries = 4

// draftForDeadline plans a batch that ends before the deadline of the request whose
// pairs are first in the queue, if the batch d does not. It returns d if that ends in
// time, or if no batch answers the request. A batch for a deadline need not have the
// oldest pair, so at most maxPassed that pass over another request's follow one another.
func (s *Scheduler) draftForDeadline(q *queue, d draft, l Limits, at time.Time) draft {
	r := q.waiting[0].Request
	if r.Deadline.IsZero() || !s.pace.known() || q.timed >= maxPassed {
		return d
	}
	if r.Partial {
		return s.draftPartial(q, d, l, at)
	}
	most := s.workBefore(r, at)
	shorter := d
	for range draftTries {
		work := s.batchWork(shorter)
		if work <= most {
			break
		}
		l.Tokens = min(l.Tokens, int(0.98*float64(shorter.computed)*most/work))
		var own int
		if shorter, own = q.draftFor(r, l); own < r.queued-r.taken {
			return d
		}
	}
	return shorter
}

// draftPartial plans a batch for the partial request whose pairs are first in the
// queue, of which at least one fits.
func (s *Scheduler) draftPartial(q *queue, d draft, l Limits, at time.Time) draft {
	r := q.waiting[0].Request
	narrowest := q.narrowest(r, reach)
	most := s.partialWork(r, narrowest, at)
	for range draftTries {
		work := s.batchWork(d)
		if work <= most {
			return d
		}
		l.Tokens = min(l.Tokens, int(0.98*float64(d.computed)*most/work))
		shorter, own := q.draftFor(r, l)
		if own == 0 {
			break
		}
		d = shorter
	}
	d, _ = q.draftFor(r, Limits{Pairs: 1, Tokens: narrowest})
	return d
}

func (s *Scheduler) batchWork(d draft) float64 {
	return s.planner.costs.batch(d.microbatches, s.planner.layout.Workers)
}

// slack returns how much longer the first pairs of the queue may wait for company.
func (s *Scheduler) slack(q *queue, at time.Time) time.Duration {
	r := q.waiting[0].Request
	if r.Deadline.IsZero() || !s.pace.known() {
		return math.MaxInt64
	}
	return r.Deadline.Sub(at) - s.untilFree(at) - time.Duration(ownMargin*float64(s.took(s.cost(r.todo), at)))
}

const (
	// A batch of a partial request has at most half of the work that fits before the
	// deadline, unless only so many pairs fit. So a batch that takes longer than
	// predicted does not lose all.
	fewPairs = 4

	// A batch of a partial request is taken behind another one only if both end before
	// the deadline when they take so much longer than predicted. Otherwise its pairs
	// wait until the other one has ended, which shows how long it takes.
	behindMargin = 1.5
)

// slowdown returns by which factor the request's batches took longer than predicted,
// at least 1.
func (r *Request) slowdown() float64 {
	if !r.own.known() {
		return 1
	}
	return min(max(1, r.own.of(1)), outlier)
}

// correct learns the slowdown of a batch's partial requests.
func (s *Scheduler) correct(b *Batch, took time.Duration) {
	if !s.pace.known() || !s.warm {
		return
	}
	for _, r := range b.requests {
		if r.Partial {
			r.own.add(float64(took), s.pace.of(b.work), 0)
		}
	}
}

// costOfOne returns the work of a batch of one pair.
func (s *Scheduler) costOfOne(width int) float64 { return s.planner.costs.Of(Padded(1, width)) }

// partialWork returns how much work a batch of a partial request that is taken now
// can have. It is less than that of its narrowest pair if none fits behind the batches
// in flight. After Cut one fits otherwise. The pace must be known. It does not become
// shorter with its age here: a batch that is too large loses all its pairs.
func (s *Scheduler) partialWork(r *Request, narrowest int, at time.Time) float64 {
	pace := s.pace.of(1) * r.slowdown()
	left, free := float64(r.Deadline.Sub(at)), float64(s.untilFree(at))*r.slowdown()
	one := s.costOfOne(narrowest)
	most := max(one, left/(ownMargin*pace))
	if free > 0 || len(s.flying) > 0 {
		most = (left/behindMargin - free) / pace
	}
	half := (left - free) / (2 * ownMargin * pace)
	return min(most, max(half, fewPairs*one))
}

// hold removes the pairs of partial requests from a queue of which none fits behind
// the batches in flight. They must be put back.
func (s *Scheduler) hold(q *queue, at time.Time) []*Item {
	if s.partial == 0 || !s.pace.known() {
		return nil
	}
	requests := slices.DeleteFunc(q.partial(), func(r *Request) bool {
		narrowest := q.narrowest(r, reach)
		return s.partialWork(r, narrowest, at) >= s.costOfOne(narrowest)
	})
	if len(requests) == 0 {
		return nil
	}
	return q.setAside(func(it *Item) bool { return slices.Contains(requests, it.Request) })
}

// Cut returns a partial request of which no waiting pair can be computed before the
// deadline, even in a batch of its own that begins now, nil if there is none. It forgets
// all its pairs that are not in batches. The batches in flight do not count: they may
// end earlier than predicted, and then the pairs are looked at again.
func (s *Scheduler) Cut(at time.Time) *Request {
	if s.partial == 0 {
		return nil
	}
	for i := range s.queues {
		for _, r := range s.queues[i].partial() {
			if s.fits(r, s.queues[i].narrowest(r, math.MaxInt), at) {
				continue
			}
			s.drop(r)
			r.cut, r.todo, r.waiting = true, load{}, 0
			return r
		}
	}
	return nil
}

// fits reports whether a batch of one pair that begins now ends before the deadline.
func (s *Scheduler) fits(r *Request, width int, at time.Time) bool {
	if !s.pace.known() {
		return at.Before(r.Deadline)
	}
	return s.batchPace(at)*r.slowdown()*s.costOfOne(width) <= float64(r.Deadline.Sub(at))
}

// partial lists the partial requests with waiting pairs and a deadline.
func (q *queue) partial() []*Request {
	var all []*Request
	for _, it := range q.waiting {
		if r := it.Request; r.Partial && !r.Deadline.IsZero() && !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

// narrowest returns the least width of a request's pairs among so many waiting ones,
// math.MaxInt if there is none.
func (q *queue) narrowest(r *Request, among int) int {
	least := math.MaxInt
	for _, it := range q.waiting[:min(among, len(q.waiting))] {
		if it.Request == r {
			least = min(least, it.width)
		}
	}
	return least
}
