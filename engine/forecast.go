package engine

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// Forecasts decide, under overload, which requests are taken in: those that can
// be answered before their deadlines without making one late that was taken in
// before. What the device computes is then of use to somebody. Requests without
// a deadline are always taken in, and count as work.

const (
	// A forecast may be wrong by a quarter: that much more time must be left for
	// a request to be taken in, and that much less for one to be given up. By the
	// first few batches it may be wrong by more. Its own work counts less, so that
	// a large request is not refused for little work ahead of it.
	waitMargin    = 1.25
	ownMargin     = 1.1
	hopeless      = 0.8
	hopelessFirst = 0.5
	firstBatches  = 4
	// A request that is refused for good, before any of it was executed, must be
	// predicted to take half as much again as it has: it is told so only once, and nothing of it
	// corrects the prediction. One that is taken in is given up as soon as its own
	// batches show that it is hopeless.
	tooLarge = 0.65

	// A batch teaches the pace if it is at least this share of a full one. What a
	// small batch takes is mostly what any batch takes, however small.
	leastBatch = 0.25

	paceMemory    = 10e9             // nanoseconds of batches that count
	paceAge       = 10 * time.Second // after which a device at rest may have become faster
	outlier       = 10               // times the pace are the most that one batch counts
	densityMemory = 1 << 20          // bytes of texts that count
	firstDensity  = 0.25             // tokens of a byte, as of English
)

// A ratio is of two quantities as they were of late.
type ratio struct {
	over, under float64
}

// add adds to both, and forgets a share of what was before.
func (r *ratio) add(over, under, forget float64) {
	keep := math.Exp(-forget)
	r.over, r.under = keep*r.over+over, keep*r.under+under
}

func (r *ratio) known() bool { return r.under > 0 }

func (r *ratio) of(under float64) float64 { return under * r.over / r.under }

// A load is an amount of work for the device: the widths of pairs.
type load struct {
	tokens  int
	squares float64
}

func (l *load) add(width int) {
	l.tokens += width
	l.squares += float64(width) * float64(width)
}

func (l *load) remove(width int) {
	l.tokens -= width
	l.squares -= float64(width) * float64(width)
}

// cost is what the cost model says of the load, in full batches on all lanes.
func (p *pipeline) cost(l load) float64 {
	c, lay := p.queue.planner.costs, p.layout()
	shards := float64(l.tokens) / float64(max(1, min(lay.tokens, p.limits.tokens)))
	return (c.Shard*shards + c.Token*float64(l.tokens) + c.Square*l.squares) / float64(max(1, lay.lanes))
}

// estimate sets the widths of a request's pairs as long as they are not tokenised.
func (p *pipeline) estimate(r *request) {
	for i, pair := range r.pairs {
		document := int(p.density.of(float64(len(pair.Document))))
		if n := r.options.DocumentTokens; n > 0 {
			document = min(document, n)
		}
		length := p.frame.special + int(p.density.of(float64(len(p.prompt)+len(pair.Query)))) + document
		r.items[i].width = p.layout().width(min(length, p.maxLength))
		r.todo.add(r.items[i].width)
	}
}

// A standing is what a request has left to execute, and its place in the queue.
type standing struct {
	request  *request
	turn     int64 // of its next pair
	tokens   int
	work     float64
	deadline time.Time // zero for none
}

// standing is the request's, while turns of the queue are so long.
func (p *pipeline) standing(r *request) standing {
	return standing{request: r, turn: r.nextTurn(p.queue.now, p.turnTokens()), tokens: r.todo.tokens, work: p.cost(r.todo), deadline: r.deadline}
}

func (p *pipeline) turnTokens() int64 { return int64(turnBatches * p.limits.tokens) }

// nextTurn is the turn that the request's next pair has, or will have, in the
// queue.
func (r *request) nextTurn(now, turn int64) int64 {
	earlier := int64(r.waiting - r.used) // tokens of turns before its last
	switch {
	case earlier > 0:
		return r.turn - (earlier+turn-1)/turn*turn
	case r.waiting > 0:
		return r.turn
	case int64(r.used) >= turn:
		return max(r.turn+turn, now)
	}
	return max(r.turn, now)
}

// last is the turn of its last pair.
func (s standing) last(turn int64) int64 {
	return s.turn + max(0, (int64(s.tokens)-1)/turn)*turn
}

// share is the part of its work that comes before a pair of another request of
// the given turn; earlier says whether it stands before that in the same turn.
func (s standing) share(of, turn int64, earlier bool) float64 {
	behind := of - s.turn
	if behind < 0 || behind == 0 && !earlier {
		return 0
	}
	turns := (behind + turn - 1) / turn
	if behind%turn == 0 && earlier {
		turns++
	}
	if turns*turn >= int64(s.tokens) {
		return s.work
	}
	return s.work * float64(turns*turn) / float64(s.tokens)
}

// workAhead is, for each of the requests in the order of their arrival, the work
// of the others that is executed before its last pair.
func workAhead(all []standing, turn int64) []float64 {
	// Those of one turn come before another request's last pair or do not, which
	// a sum over them in their order shows.
	var single, several []int
	for i, s := range all {
		if int64(s.tokens) <= turn {
			single = append(single, i)
		} else {
			several = append(several, i)
		}
	}
	slices.SortStableFunc(single, func(a, b int) int { return cmp.Compare(all[a].turn, all[b].turn) })
	sums := make([]float64, len(single)+1)
	for k, i := range single {
		sums[k+1] = sums[k] + all[i].work
	}
	ahead := make([]float64, len(all))
	for i, s := range all {
		last := s.last(turn)
		k, _ := slices.BinarySearchFunc(single, last, func(j int, last int64) int {
			return cmp.Or(cmp.Compare(all[j].turn, last), cmp.Compare(j, i))
		})
		ahead[i] = sums[k]
		for _, j := range several {
			if j != i {
				ahead[i] += all[j].share(last, turn, j < i)
			}
		}
	}
	return ahead
}

// A forecast is of all requests that have pairs left to execute, and perhaps of
// one more behind them.
type forecast struct {
	at    time.Time
	all   []standing
	ahead []time.Duration // until the device turns to the last pairs of each
	own   []time.Duration // that these and its other ones take
	batch time.Duration   // a full one: a request is answered at the end of one
	total time.Duration
}

// forecast predicts; next may be nil.
func (p *pipeline) forecast(next *request, at time.Time) forecast {
	f := forecast{at: at, batch: p.took(p.cost(load{tokens: p.limits.tokens}), at)}
	for r := range p.live {
		if r.todo.tokens > 0 && r != next {
			f.all = append(f.all, p.standing(r))
		}
	}
	slices.SortFunc(f.all, func(a, b standing) int { return cmp.Compare(a.request.number, b.request.number) })
	if next != nil {
		f.all = append(f.all, p.standing(next))
	}
	first := p.untilFree(at)
	f.total = first
	for i, work := range workAhead(f.all, p.turnTokens()) {
		f.ahead = append(f.ahead, first+p.took(work, at))
		f.own = append(f.own, p.took(f.all[i].work, at))
		f.total += f.own[i]
	}
	return f
}

// forecastOf is of one request alone, behind the others.
func (p *pipeline) forecastOf(r *request, at time.Time) forecast {
	s := p.standing(r)
	ahead, total := 0.0, s.work
	for other := range p.live {
		if other.todo.tokens > 0 {
			o := p.standing(other)
			ahead += o.share(s.last(p.turnTokens()), p.turnTokens(), true)
			total += o.work
		}
	}
	first := p.untilFree(at)
	return forecast{
		at: at, all: []standing{s}, batch: p.took(p.cost(load{tokens: p.limits.tokens}), at),
		ahead: []time.Duration{first + p.took(ahead, at)}, own: []time.Duration{p.took(s.work, at)}, total: first + p.took(total, at),
	}
}

// took is how long work takes, as it did of late. The longer ago that is the
// less, so that one slow measurement does not refuse all that could correct it.
func (p *pipeline) took(work float64, at time.Time) time.Duration {
	took := time.Duration(p.pace.of(p.padding.of(work)))
	if age := at.Sub(p.measured); len(p.flying) == 0 && age > paceAge {
		took = time.Duration(float64(took) * float64(paceAge) / float64(age))
	}
	return took
}

// measure learns from a batch that took so long. A session's first one is never
// like the others.
func (p *pipeline) measure(b *batch, took time.Duration, at time.Time) {
	switch {
	case !p.warm:
		p.warm = true
		return
	case b.probe || b.work == 0:
		return
	}
	var l load
	for _, it := range b.items {
		l.add(it.width)
	}
	if float64(l.tokens) < leastBatch*float64(p.limits.tokens) && float64(len(b.items)) < leastBatch*float64(p.limits.pairs) {
		return
	}
	if p.pace.known() {
		took = min(took, time.Duration(outlier*p.pace.of(b.work)))
	}
	p.pace.add(float64(took), b.work, float64(took)/paceMemory)
	if len(b.items) > p.limits.pairs/2 || l.tokens > p.limits.tokens/2 {
		p.padding.add(b.work, p.cost(l), float64(took)/paceMemory)
	}
	p.batches++
	p.measured = at
}

// untilFree is how long the batches in flight still take, and the session that
// is being loaded. An unloaded one counts only then: a request must be taken in
// to load it.
func (p *pipeline) untilFree(at time.Time) time.Duration {
	var left time.Duration
	for i, b := range p.flying {
		took := time.Duration(p.pace.of(b.work))
		if i == 0 && !b.submitted.IsZero() {
			took = max(0, took-at.Sub(later(b.submitted, p.lastCollected)))
		}
		left += took
	}
	if !p.loadingSince.IsZero() {
		left += max(0, p.loading-at.Sub(p.loadingSince))
	}
	return left
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// late is by how much a request misses its deadline if the work ahead of it
// takes as much longer than predicted as a forecast may be wrong.
func (f *forecast) late(i int) time.Duration {
	if f.all[i].deadline.IsZero() {
		return 0
	}
	rest := min(f.batch, f.total-f.ahead[i]-f.own[i]) // of the batch with its last pair
	wait := time.Duration(waitMargin*float64(f.ahead[i])+ownMargin*float64(f.own[i])) + max(0, rest)
	return wait - f.all[i].deadline.Sub(f.at)
}

// isHopeless reports whether a request misses its deadline even if all takes
// less than predicted.
func (p *pipeline) isHopeless(f *forecast, i int) bool {
	factor := hopeless
	if p.batches < firstBatches && p.calibration.Source == "assumed" {
		factor = hopelessFirst
	}
	d := f.all[i].deadline
	return !d.IsZero() && time.Duration(factor*float64(f.ahead[i]+f.own[i])) > d.Sub(f.at)
}

// refuseLate says why a request is not taken in that would be late, or would
// make another one late.
func (p *pipeline) refuseLate(r *request, at time.Time) error {
	// The first batches may be slow for reasons of their own, such as pages that
	// are touched for the first time: one alone refuses nobody.
	if r.deadline.IsZero() || p.batches < firstBatches {
		return nil
	}
	if !at.Before(r.deadline) {
		return context.DeadlineExceeded
	}
	f := p.forecastOf(r, at)
	own, ahead, left := f.own[0], f.ahead[0], r.deadline.Sub(at)
	if time.Duration(tooLarge*float64(own)) > left {
		p.stats.TooLarge++
		return p.neverInTime(r, own, left)
	}
	if ahead == 0 { // nothing is gained by refusing it
		return nil
	}
	if excess := f.late(0); excess > 0 {
		p.stats.Late++
		return overloaded(excess, "with the work ahead of it the request may take %v, its deadline is in %v", round(left+excess), round(left))
	}
	return p.refuseDelaying(r, at)
}

// refuseDelaying says why a request is not taken in that would make another one
// late.
func (p *pipeline) refuseDelaying(r *request, at time.Time) error {
	f := p.forecast(r, at)
	var before forecast
	for i := range f.all[:len(f.all)-1] {
		if f.late(i) <= 0 {
			continue
		}
		if before.all == nil {
			before = p.forecast(nil, at)
		}
		if excess := f.late(i); excess > max(0, before.late(i)) {
			p.stats.Late++
			return overloaded(excess, "with the request another one would miss its deadline")
		}
	}
	return nil
}

// checkWindows refuses documents whose windows would take longer than the
// context allows, before they are tokenised whole to be cut into windows.
// most is how many tokens of a document count, 0 for all.
func (p *pipeline) checkWindows(ctx context.Context, pairs []Pair, most int) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &request{deadline: deadline}
	budget := float64(p.maxLength - minLength)
	for _, pair := range pairs {
		room := max(budget-p.density.of(float64(len(pair.Query))), budget/2, 1)
		tokens := p.density.of(float64(len(pair.Document)))
		if most > 0 {
			tokens = min(tokens, float64(most))
		}
		windows := 1
		if tokens > room {
			windows = int(math.Ceil(tokens / (room - float64(overlapOf(int(room))))))
		}
		for range windows {
			r.todo.add(p.layout().width(minLength + int(min(tokens, budget))))
		}
		r.windows += windows
	}
	return p.refuseLate(r, time.Now())
}

// neverInTime is the error of a request that takes more time than it has.
func (p *pipeline) neverInTime(r *request, own, left time.Duration) error {
	n, pairs := len(r.pairs), "pairs"
	if r.windows > 0 {
		n, pairs = r.windows, "windows (an estimate)"
	}
	fit := int(float64(n) * max(0, left.Seconds()) / own.Seconds())
	advice := "allow more time"
	if fit > 0 {
		advice = fmt.Sprintf("about %d of them fit: split it, or allow more time", fit)
	}
	return fmt.Errorf("%w: its %d %s take about %v, the deadline is in %v; %s", ErrTooLarge, n, pairs, round(own), round(left), advice)
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// dropHopeless ends requests that can no longer be answered in time, one after
// the other, as long as there are any: the one with the most work left first,
// and of several the one that came last.
func (p *pipeline) dropHopeless(at time.Time) {
	for p.timed > 0 && p.pace.known() {
		hurried := false
		f := p.forecast(nil, at)
		victim := -1
		for i := range f.all {
			if p.isUrgent(&f, i) {
				p.queue.hurry(f.all[i].request)
				hurried = true
			}
			if p.isHopeless(&f, i) && (victim < 0 || f.all[i].work >= f.all[victim].work) {
				victim = i
			}
		}
		switch {
		case hurried:
			continue
		case victim < 0:
			return
		}
		p.drop(f.all[victim].request, f.ahead[victim]+f.own[victim], at)
	}
}

// isUrgent reports whether a request would be late of which less than a turn
// is left: it goes first, since what was executed of it would be of no use.
func (p *pipeline) isUrgent(f *forecast, i int) bool {
	r := f.all[i].request
	return r.taken > 0 && r.queued == len(r.pairs) && r.turn >= p.queue.now && f.own[i] < turnBatches*f.batch && f.late(i) > 0
}

// drop ends a request that would be answered only after so long.
func (p *pipeline) drop(r *request, wait time.Duration, at time.Time) {
	left := r.deadline.Sub(at)
	p.stats.Dropped++
	var whole load
	for i := range r.items {
		whole.add(r.items[i].width)
	}
	p.stats.DroppedPairs += int64(len(r.pairs) - r.taken)
	err := overloaded(wait-left, "the request was given up: it would take about %v more, its deadline is in %v", round(wait), round(left))
	if own, given := p.took(p.cost(whole), at), r.deadline.Sub(r.watch.start); own > given {
		err = p.neverInTime(r, own, given)
	}
	p.end(r, err, at)
}
