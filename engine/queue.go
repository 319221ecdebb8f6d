package engine

import (
	"cmp"
	"slices"
	"time"
)

const (
	// maxPassed is how many batches may take other requests' pairs from behind a
	// waiting one before it goes ahead of its length.
	maxPassed = 8

	// reach is how many waiting pairs are looked at for a batch: enough that
	// lengths lie close together, few enough to plan in well under a millisecond.
	reach = 1024

	// turnBatches is a request's turn in batches: that many go in order of
	// arrival before other requests have their turn.
	turnBatches = 4
)

// A queue holds tokenised pairs and makes batches of them.
//
// Its order is fair over requests: a request's pairs are cut into turns of a
// few batches' tokens. A request's first turn is now, each further one as much
// later as a turn is long; turns of the same time go by arrival. So a request
// of one turn waits for those that came before it and for one turn of every
// larger one, however large. (This is start-time fair queueing with the turn as
// its packet.)
//
// A batch begins with the first pair of that order. The rest are of like
// lengths from what stands behind it, with two bounds: the pair that came
// first of all is always in, and a pair that batches have passed over
// maxPassed times goes before all others. Passed over is a pair when a batch
// has another request's pair from behind it; within a request the order does
// not matter, since all its scores are returned together.
type queue struct {
	planner  planner
	limits   limits
	waiting  []*item
	tokens   int // of the waiting, each alone in a shard
	now      int64
	arrivals int64
}

// push adds tokenised pairs of one request.
func (q *queue) push(r *request, items []item, at time.Time) {
	added := make([]*item, len(items))
	turn := turnBatches * q.limits.tokens
	for i := range items {
		it := &items[i]
		switch {
		case r.probe:
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

func (q *queue) width(it *item) int { return q.planner.layout.width(it.length) }

func before(a, b *item) bool {
	return a.turn < b.turn || a.turn == b.turn && a.arrival < b.arrival
}

// merge merges two ordered lists into the first one's memory.
func merge(a, b []*item) []*item {
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

// drop forgets the pairs of a request that nobody waits for.
func (q *queue) drop(r *request) {
	q.remove(func(it *item) bool { return it.request == r })
}

func (q *queue) remove(gone func(*item) bool) {
	q.waiting = slices.DeleteFunc(q.waiting, func(it *item) bool {
		if gone(it) {
			q.tokens -= q.width(it)
			return true
		}
		return false
	})
}

// hurry puts the waiting pairs of a request ahead of all others.
func (q *queue) hurry(r *request) {
	r.turn, r.used = q.now-1, r.waiting
	for _, it := range q.waiting {
		if it.request == r {
			it.turn = r.turn
		}
	}
	slices.SortStableFunc(q.waiting, func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.arrival, b.arrival))
	})
}

// oldest is the place of the pair that came first; there must be one.
func (q *queue) oldest() int {
	first := 0
	for i, it := range q.waiting {
		if it.arrival < q.waiting[first].arrival {
			first = i
		}
	}
	return first
}

// full says whether a batch that waits for company has it.
func (q *queue) full() bool {
	return len(q.waiting) >= q.limits.pairs || q.tokens >= q.limits.tokens
}

// A draft is a batch in the making: places in the queue, shard after shard.
type draft struct {
	places   []int
	shards   []shard
	computed int
}

func (d *draft) add(places []int, s shard) {
	d.places = append(d.places, places...)
	d.shards = append(d.shards, s)
	d.computed += s.computed
}

func (d *draft) room(l limits) limits {
	return limits{pairs: l.pairs - len(d.places), tokens: l.tokens - d.computed}
}

// take removes the next batch from the queue, which must not be empty: its
// pairs in the order of its shards.
func (q *queue) take() ([]*item, []shard) {
	q.now = max(q.now, q.waiting[0].turn)
	oldest := q.oldest()
	d := q.draft(oldest)
	taken := make(map[*item]bool, len(d.places))
	picked := make([]*item, len(d.places))
	for i, at := range d.places {
		picked[i] = q.waiting[at]
		taken[picked[i]] = true
	}
	q.countPassed(d.places, taken, oldest)
	q.remove(func(it *item) bool { return taken[it] })
	return picked, d.shards
}

func (q *queue) draft(oldest int) draft {
	candidates := make([]int, min(len(q.waiting), reach))
	for i := range candidates {
		candidates[i] = i
	}
	due := q.due(oldest)
	if len(due) == 0 {
		return q.fill(draft{}, candidates)
	}
	d, all := q.together(due)
	if !all {
		return d // the others that are due come next
	}
	rest := slices.DeleteFunc(candidates, func(at int) bool { return slices.Contains(d.places, at) })
	return q.fill(d, rest)
}

// due lists what must be in the batch whatever its length: the oldest, unless
// it is the first anyway, and then, in order, what has been passed over too
// often.
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

// together makes a batch of as many of the due, in their order, as fit, and
// says whether that is all of them.
func (q *queue) together(due []int) (draft, bool) {
	n, tokens := 0, 0
	for n < len(due) && n < q.limits.pairs {
		tokens += q.width(q.waiting[due[n]])
		if n > 0 && tokens > q.limits.tokens {
			break
		}
		n++
	}
	for {
		var d draft
		q.each(due[:n], q.limits, d.add)
		// Padding can make it more than the sum of widths.
		if n == 1 || d.computed <= q.limits.tokens {
			return d, n == len(due)
		}
		n--
	}
}

// each plans the pairs at the places and hands out the shards.
func (q *queue) each(places []int, l limits, shard func(places []int, s shard)) {
	lengths := make([]int, len(places))
	for i, at := range places {
		lengths[i] = q.waiting[at].length
	}
	p := q.planner.plan(lengths, l)
	order := make([]int, len(places))
	for i, at := range p.order {
		order[i] = places[at]
	}
	for _, s := range p.shards {
		shard(order[:s.pairs], s)
		order = order[s.pairs:]
	}
}

// fill adds to the draft what fits of the pairs at the places, the shard with
// the first of them first.
func (q *queue) fill(d draft, places []int) draft {
	room := d.room(q.limits)
	if room.pairs < 1 || room.tokens < 1 || len(places) == 0 {
		return d
	}
	type planned struct {
		places []int
		shard  shard
		first  int
	}
	var all []planned
	q.each(places, room, func(places []int, s shard) {
		all = append(all, planned{places, s, slices.Min(places)})
	})
	slices.SortFunc(all, func(a, b planned) int { return a.first - b.first })
	for _, p := range all {
		room := d.room(q.limits)
		if len(d.places) == 0 || p.shard.pairs <= room.pairs && p.shard.computed <= room.tokens {
			d.add(p.places, p.shard)
		}
	}
	return d
}

// countPassed counts the batch against those it passes over.
func (q *queue) countPassed(places []int, taken map[*item]bool, oldest int) {
	// The last place taken, and the last one of another request than that.
	last, lastOther := -1, -1
	for _, at := range places {
		if at != oldest && at > last {
			last = at
		}
	}
	if last < 0 {
		return
	}
	for _, at := range places {
		if at != oldest && at > lastOther && q.waiting[at].request != q.waiting[last].request {
			lastOther = at
		}
	}
	for at, it := range q.waiting[:last] {
		if taken[it] {
			continue
		}
		if it.request != q.waiting[last].request || at < lastOther {
			it.passed++
		}
	}
}
