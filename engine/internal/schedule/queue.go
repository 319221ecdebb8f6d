package schedule

import (
	"cmp"
	"slices"
	"time"
)

const (
	// maxPassed is how many batches may pass a waiting pair over before the next batch
	// must take it, whatever its length.
	maxPassed = 8

	// reach is how many waiting pairs are considered for a batch: enough that
	// lengths lie close together, few enough to plan in about a millisecond.
	reach = 1024

	// turnBatches is a request's turn in batches: that many go in order of
	// arrival before other requests have their turn.
	turnBatches = 4
)

// A queue holds tokenised pairs of one priority and makes batches of them.
//
// Its order is fair over requests: a request's pairs are cut into turns of a
// few batches' tokens. A request's first turn is now, each further one is later
// by the length of a turn; turns of the same time go by the time at which their
// requests are due, and then by arrival. So a request of one turn waits for the
// requests that are due before it and for one turn of every larger one. (This is
// start-time fair queueing with the turn as its packet.)
//
// A batch begins with the first pair of that order. The rest have similar
// lengths and come from behind it, with two bounds: the pair that arrived first
// is always in the batch, and a pair that was passed over maxPassed times goes
// before all others. A batch passes a pair over when it takes another request's
// pair from behind it. Within a request the order does not matter, since all its
// scores are returned together.
//
// A batch for a deadline has another rule: see draftFor.
type queue struct {
	planner  *planner
	limits   Limits
	waiting  []*Item
	tokens   int // of the waiting pairs, each alone in a microbatch
	now      int64
	arrivals int64
	timed    int // batches for a deadline in a row that passed the oldest pair over
}

// push adds tokenised pairs of one request.
func (q *queue) push(r *Request, items []Item, at time.Time) {
	added := make([]*Item, len(items))
	turn := turnBatches * q.limits.Tokens
	for i := range items {
		it := &items[i]
		switch {
		case r.First:
			r.turn = q.now - 1
		case r.used >= turn:
			r.turn, r.used = max(r.turn+int64(turn), q.now), 0
		case r.turn < q.now:
			r.turn, r.used = q.now, 0
		}
		r.used += q.width(it)
		r.waiting += q.width(it)
		q.tokens += q.width(it)
		it.turn, it.arrival, it.since = r.turn, q.arrivals, at
		q.arrivals++
		added[i] = it
	}
	q.waiting = merge(q.waiting, added)
}

func (q *queue) width(it *Item) int { return q.planner.layout.Width(it.Length) }

// compareItems compares two items by the order of the queue.
func compareItems(a, b *Item) int {
	return cmp.Or(cmp.Compare(a.turn, b.turn), a.Request.due.Compare(b.Request.due), cmp.Compare(a.arrival, b.arrival))
}

func before(a, b *Item) bool { return compareItems(a, b) < 0 }

// merge merges two ordered lists into the first one's memory.
func merge(a, b []*Item) []*Item {
	from, to := len(a)-1, len(a)+len(b)-1
	a = append(a, b...)
	for i := len(b) - 1; i >= 0; to-- {
		if from >= 0 && before(b[i], a[from]) {
			a[to] = a[from]
			from--
		} else {
			a[to] = b[i]
			i--
		}
	}
	return a
}

// setAside removes pairs from the queue and returns them in its order, for putBack.
func (q *queue) setAside(which func(*Item) bool) []*Item {
	var aside []*Item
	for _, it := range q.waiting {
		if which(it) {
			aside = append(aside, it)
		}
	}
	q.remove(which)
	return aside
}

// putBack returns pairs that were set aside.
func (q *queue) putBack(items []*Item) {
	for _, it := range items {
		q.tokens += q.width(it)
	}
	q.waiting = merge(q.waiting, items)
}

// drop forgets the pairs of a request.
func (q *queue) drop(r *Request) {
	q.remove(func(it *Item) bool { return it.Request == r })
}

func (q *queue) remove(gone func(*Item) bool) {
	q.waiting = slices.DeleteFunc(q.waiting, func(it *Item) bool {
		if gone(it) {
			q.tokens -= q.width(it)
			return true
		}
		return false
	})
}

// hurry moves the waiting pairs of a request ahead of all others.
func (q *queue) hurry(r *Request) {
	r.turn, r.used = q.now-1, r.waiting
	for _, it := range q.waiting {
		if it.Request == r {
			it.turn = r.turn
		}
	}
	slices.SortStableFunc(q.waiting, compareItems)
}

// oldest returns the index of the pair that arrived first; there must be one.
func (q *queue) oldest() int {
	first := 0
	for i, it := range q.waiting {
		if it.arrival < q.waiting[first].arrival {
			first = i
		}
	}
	return first
}

// full reports whether a full batch waits.
func (q *queue) full(l Limits) bool {
	return len(q.waiting) >= l.Pairs || q.tokens >= l.Tokens
}

// A draft is an unfinished batch: indexes into the queue, microbatch after
// microbatch.
type draft struct {
	indexes      []int
	microbatches []Microbatch
	computed     int
}

func (d *draft) add(indexes []int, m Microbatch) {
	d.indexes = append(d.indexes, indexes...)
	d.microbatches = append(d.microbatches, m)
	d.computed += m.Computed
}

func (d *draft) room(l Limits) Limits {
	return Limits{Pairs: l.Pairs - len(d.indexes), Tokens: l.Tokens - d.computed}
}

// take removes the next batch from the queue, which must not be empty. The
// pairs are in the order of their microbatches.
func (q *queue) take(l Limits) ([]*Item, []Microbatch) {
	d := q.draft(l)
	return q.pick(d), d.microbatches
}

// pick removes the pairs of a draft from the queue.
func (q *queue) pick(d draft) []*Item {
	oldest := q.oldest()
	q.now = max(q.now, q.waiting[0].turn)
	taken := make(map[*Item]bool, len(d.indexes))
	picked := make([]*Item, len(d.indexes))
	for i, at := range d.indexes {
		picked[i] = q.waiting[at]
		taken[picked[i]] = true
	}
	q.countPassed(d.indexes, taken, oldest)
	q.remove(func(it *Item) bool { return taken[it] })
	return picked
}

// draftFor plans a batch of a request's pairs, and of others if there is room. It
// returns how many of the request's it has. There is no batch if that is 0.
func (q *queue) draftFor(r *Request, l Limits) (d draft, pairs int) {
	var own, others []int
	for at, it := range q.waiting[:min(len(q.waiting), reach)] {
		switch {
		case it.width > l.Tokens:
		case it.Request == r:
			own = append(own, at)
		default:
			others = append(others, at)
		}
	}
	d = q.fill(d, own, l)
	if pairs = len(d.indexes); pairs > 0 {
		d = q.fill(d, others, l)
	}
	return d, pairs
}

// draft plans a batch of the first pairs.
func (q *queue) draft(l Limits) draft {
	oldest := q.oldest()
	candidates := make([]int, min(len(q.waiting), reach))
	for i := range candidates {
		candidates[i] = i
	}
	due := q.due(oldest)
	if len(due) == 0 {
		return q.fill(draft{}, candidates, l)
	}
	d, all := q.together(due, l)
	if !all {
		return d // the other due pairs are in the next batch
	}
	rest := slices.DeleteFunc(candidates, func(at int) bool { return slices.Contains(d.indexes, at) })
	return q.fill(d, rest, l)
}

// due lists the pairs that must be in the batch whatever their length: the
// oldest, unless it is the first of the queue, and then, in order, the ones that
// were passed over too often.
func (q *queue) due(oldest int) []int {
	var due []int
	for at, it := range q.waiting {
		if it.passed >= maxPassed && at != oldest {
			due = append(due, at)
		}
	}
	if len(due) > 0 || oldest != 0 {
		due = slices.Insert(due, 0, oldest)
	}
	return due
}

// together makes a batch of as many due pairs as fit, in their order, and
// reports whether all fit.
func (q *queue) together(due []int, l Limits) (draft, bool) {
	n, tokens := 0, 0
	for n < len(due) && n < l.Pairs {
		tokens += q.width(q.waiting[due[n]])
		if n > 0 && tokens > l.Tokens {
			break
		}
		n++
	}
	for {
		var d draft
		q.each(due[:n], l, d.add)
		// Padding can make it more than the sum of widths.
		if n == 1 || d.computed <= l.Tokens {
			return d, n == len(due)
		}
		n--
	}
}

// each plans the pairs at the indexes and calls add with every microbatch.
func (q *queue) each(indexes []int, l Limits, add func(indexes []int, m Microbatch)) {
	lengths := make([]int, len(indexes))
	for i, at := range indexes {
		lengths[i] = q.waiting[at].Length
	}
	p := q.planner.plan(lengths, l)
	order := make([]int, len(indexes))
	for i, at := range p.order {
		order[i] = indexes[at]
	}
	for _, m := range p.microbatches {
		add(order[:m.Pairs], m)
		order = order[m.Pairs:]
	}
}

// fill adds the pairs at the indexes that fit to the draft, beginning with the
// microbatch that has the first of them.
func (q *queue) fill(d draft, indexes []int, l Limits) draft {
	room := d.room(l)
	if room.Pairs < 1 || room.Tokens < 1 || len(indexes) == 0 {
		return d
	}
	type planned struct {
		indexes    []int
		microbatch Microbatch
		first      int
	}
	var all []planned
	q.each(indexes, room, func(indexes []int, m Microbatch) {
		all = append(all, planned{indexes, m, slices.Min(indexes)})
	})
	slices.SortFunc(all, func(a, b planned) int { return a.first - b.first })
	for _, p := range all {
		room := d.room(l)
		if len(d.indexes) == 0 || p.microbatch.Pairs <= room.Pairs && p.microbatch.Computed <= room.Tokens {
			d.add(p.indexes, p.microbatch)
		}
	}
	return d
}

// countPassed counts the batch for the pairs that it passes over.
func (q *queue) countPassed(indexes []int, taken map[*Item]bool, oldest int) {
	// The last index taken, and the last one of another request than that.
	last, lastOther := -1, -1
	for _, at := range indexes {
		if at != oldest && at > last {
			last = at
		}
	}
	if last < 0 {
		return
	}
	for _, at := range indexes {
		if at != oldest && at > lastOther && q.waiting[at].Request != q.waiting[last].Request {
			lastOther = at
		}
	}
	for at, it := range q.waiting[:last] {
		if taken[it] {
			continue
		}
		if it.Request != q.waiting[last].Request || at < lastOther {
			it.passed++
		}
	}
}
