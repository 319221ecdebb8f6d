package schedule

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Forecasts decide, under overload, which requests are admitted: those that can
// be answered before their deadlines without making an admitted one late. So
// somebody can use what the device computes. Requests without a deadline are
// always admitted, and count as work. A partial request is refused only if it would
// make another one late.

const (
	// A forecast may be wrong by a quarter. So a request is admitted only if a quarter
	// more time is left than predicted, and cancelled only if about a quarter less is
	// left. The first few batches may be wrong by more. The margin of a request's own
	// work is smaller, so that a little earlier work does not refuse a large request.
	waitMargin    = 1.25
	ownMargin     = 1.1
	hopeless      = 0.8
	hopelessFirst = 0.5
	firstBatches  = 4
	// A request is refused as too large only if it is predicted to take one and a half
	// times the time it has, because no batch of it can correct the prediction. An
	// admitted request is cancelled as soon as its own batches show that it is late.
	tooLarge = 0.65

	// A batch teaches the pace if it is at least this share of a full one. A small
	// batch mostly takes what any batch takes, however small.
	leastBatch = 0.25

	paceMemory    = 10e9             // nanoseconds of batches that count
	paceAge       = 10 * time.Second // after which an idle device may have become faster
	outlier       = 10               // a batch counts as at most this many times the pace
	densityMemory = 1 << 20          // bytes of texts that count
	firstDensity  = 0.25             // tokens of a byte, as of English
)

// A forecaster keeps what forecasts are made from.
type forecaster struct {
	pace         ratio     // of batches' times to the cost model's
	padding      ratio     // of full batches: their cost to that of their pairs
	density      ratio     // tokens of a byte
	measured     time.Time // when the pace last was
	batches      int       // that it was measured by
	warm         bool      // the session has executed a batch
	loadTime     time.Duration
	loadingSince time.Time // zero while no session is loaded
}

// A ratio relates two recent quantities.
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

// TokensIn estimates the tokens of a text of so many bytes.
func (s *Scheduler) TokensIn(bytes int) int { return int(s.density.of(float64(bytes))) }

// LearnDensity corrects TokensIn by a text.
func (s *Scheduler) LearnDensity(tokens, bytes int) {
	s.density.add(float64(tokens), float64(bytes), float64(bytes)/densityMemory)
}

// LoadBegan reports that an unloaded session is being opened.
func (s *Scheduler) LoadBegan(at time.Time) { s.loadingSince = at }

// LoadEnded reports that it is open, or that opening it has failed.
func (s *Scheduler) LoadEnded(at time.Time, failed bool) {
	if !failed {
		s.loadTime = at.Sub(s.loadingSince)
		s.SessionOpened()
	}
	s.loadingSince = time.Time{}
}

// SessionOpened reports that the next batch is the first one of a session.
func (s *Scheduler) SessionOpened() { s.warm = false }

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

// cost returns the cost of the load in full batches on all workers.
func (s *Scheduler) cost(l load) float64 {
	c, lay := s.planner.costs, s.planner.layout
	microbatches := float64(l.tokens) / float64(max(1, min(lay.Tokens, s.limits.Tokens)))
	return (c.Microbatch*microbatches + c.Token*float64(l.tokens) + c.Square*l.squares) / float64(max(1, lay.Workers))
}

// A standing is what a request has left to execute, and its turn in the queue.
type standing struct {
	request  *Request
	turn     int64 // of its next pair
	tokens   int
	work     float64
	deadline time.Time // that is missed if it is not all executed by then; zero for none
}

// standing returns the request's, while turns of the queue have turnTokens. Of a
// partial request it has what is executed before its deadline at most.
func (s *Scheduler) standing(r *Request, at time.Time) standing {
	now := s.queues[r.Priority].now
	own := standing{request: r, turn: r.nextTurn(now, s.turnTokens()), tokens: r.todo.tokens, work: s.cost(r.todo), deadline: r.Deadline}
	if !r.Partial || r.Deadline.IsZero() {
		return own
	}
	own.deadline = time.Time{}
	if took, left := s.took(own.work, at), max(0, r.Deadline.Sub(at)); took > left {
		part := float64(left) / float64(took)
		own.tokens, own.work = max(1, int(part*float64(own.tokens))), part*own.work
	}
	return own
}

func (s *Scheduler) turnTokens() int64 { return int64(turnBatches * s.limits.Tokens) }

// nextTurn returns the turn that the request's next pair has, or will have, in
// the queue.
func (r *Request) nextTurn(now, turn int64) int64 {
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

// last returns the turn of its last pair.
func (s standing) last(turn int64) int64 {
	return s.turn + max(0, (int64(s.tokens)-1)/turn)*turn
}

// share returns the part of its work that comes before another request's pair of
// turn of. earlier reports whether it comes first within the same turn.
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

// workAhead returns, for each of the requests in the order of their arrival, the
// work of the others that is executed before its last pair.
func workAhead(all []standing, turn int64) []float64 {
	// Requests of one turn come before another request's last pair or do not,
	// which a sum over them in their order shows.
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

// before reports whether a request comes before another in one turn of the queue.
func (r *Request) before(other *Request) bool {
	return r.due.Before(other.due) || r.due.Equal(other.due) && r.number > 0 && (other.number == 0 || r.number < other.number)
}

// workAhead returns the same for requests of all priorities.
func (s *Scheduler) workAhead(all []standing) []float64 {
	ahead := make([]float64, len(all))
	var total [priorities]float64
	for p := range priorities {
		var own []standing
		var indexes []int
		for i, one := range all {
			if one.request.Priority == p {
				own, indexes = append(own, one), append(indexes, i)
				total[p] += one.work
			}
		}
		for i, work := range workAhead(own, s.turnTokens()) {
			ahead[indexes[i]] = work
		}
	}
	for i, one := range all {
		ahead[i] += s.workOfOthers(one.request.Priority, ahead[i]+one.work, total)
	}
	return ahead
}

// workOfOthers returns how much of the work of the other priority comes before so
// much work of a priority.
func (s *Scheduler) workOfOthers(p Priority, work float64, total [priorities]float64) float64 {
	if p == PriorityBatch {
		return total[PriorityInteractive]
	}
	return min(total[PriorityBatch], leastShare/(1-leastShare)*work)
}

// A forecast predicts all requests that have pairs left to execute, and perhaps
// one more behind them.
type forecast struct {
	at    time.Time
	all   []standing
	ahead []time.Duration // until the device turns to the last pairs of each
	own   []time.Duration // that these and its other ones take
	batch time.Duration   // a full one: a request is answered at the end of one
	first time.Duration   // until the device turns to the first pair of all
	total time.Duration
}

// forecast predicts; next may be nil.
func (s *Scheduler) forecast(next *Request, at time.Time) forecast {
	f := forecast{at: at, batch: s.took(s.cost(load{tokens: s.limits.Tokens}), at)}
	for r := range s.live {
		if r.todo.tokens > 0 && r != next {
			f.all = append(f.all, s.standing(r, at))
		}
	}
	if next != nil {
		f.all = append(f.all, s.standing(next, at))
	}
	slices.SortFunc(f.all, func(a, b standing) int {
		switch {
		case a.request == b.request:
			return 0
		case a.request.before(b.request):
			return -1
		}
		return 1
	})
	first := s.untilFree(at)
	f.first, f.total = first, first
	for i, work := range s.workAhead(f.all) {
		f.ahead = append(f.ahead, first+s.took(work, at))
		f.own = append(f.own, s.took(f.all[i].work, at))
		f.total += f.own[i]
	}
	return f
}

// forecastAlone predicts one request, behind the others.
func (s *Scheduler) forecastAlone(r *Request, at time.Time) forecast {
	own := s.standing(r, at)
	ahead, all := 0.0, own.work
	var total [priorities]float64
	for other := range s.live {
		if other.todo.tokens > 0 {
			o := s.standing(other, at)
			if other.Priority == r.Priority {
				ahead += o.share(own.last(s.turnTokens()), s.turnTokens(), other.before(r))
			}
			total[other.Priority] += o.work
			all += o.work
		}
	}
	ahead += s.workOfOthers(r.Priority, ahead+own.work, total)
	first := s.untilFree(at)
	return forecast{
		at: at, first: first, all: []standing{own}, batch: s.took(s.cost(load{tokens: s.limits.Tokens}), at),
		ahead: []time.Duration{first + s.took(ahead, at)}, own: []time.Duration{s.took(own.work, at)}, total: first + s.took(all, at),
	}
}

// took returns how long work takes, by recent batches. The older these are the
// shorter, so that one slow measurement does not refuse all that could correct it.
func (s *Scheduler) took(work float64, at time.Time) time.Duration {
	return time.Duration(s.batchPace(at) * s.padding.of(work))
}

// batchPace returns the nanoseconds that a unit of a batch's work takes. The pace must
// be known.
func (s *Scheduler) batchPace(at time.Time) float64 {
	pace := s.pace.of(1)
	if age := at.Sub(s.measured); len(s.flying) == 0 && age > paceAge {
		pace *= float64(paceAge) / float64(age)
	}
	return pace
}

// measure learns from a batch that took so long. A session's first batch is
// never like the others.
func (s *Scheduler) measure(b *Batch, took time.Duration, at time.Time) {
	switch {
	case !s.warm:
		s.warm = true
		return
	case b.probe() || b.work == 0:
		return
	}
	var l load
	for _, it := range b.Items {
		l.add(it.width)
	}
	if float64(l.tokens) < leastBatch*float64(s.limits.Tokens) && float64(len(b.Items)) < leastBatch*float64(s.limits.Pairs) {
		return
	}
	if s.pace.known() {
		took = min(took, time.Duration(outlier*s.pace.of(b.work)))
	}
	s.pace.add(float64(took), b.work, float64(took)/paceMemory)
	if len(b.Items) > s.limits.Pairs/2 || l.tokens > s.limits.Tokens/2 {
		s.padding.add(b.work, s.cost(l), float64(took)/paceMemory)
	}
	s.batches++
	s.measured = at
}

// probe reports whether the batch has no other pairs than a probe's.
func (b *Batch) probe() bool {
	return !slices.ContainsFunc(b.Items, func(it *Item) bool { return !it.Request.First })
}

// untilFree returns how long the batches in flight still take, and the loading
// of a session. An unloaded one counts only once it is loading: a request must
// be admitted to load it.
func (s *Scheduler) untilFree(at time.Time) time.Duration {
	var left time.Duration
	for i, b := range s.flying {
		took := time.Duration(s.pace.of(b.work))
		if i == 0 && !b.Submitted.IsZero() {
			took = max(0, took-at.Sub(later(b.Submitted, s.lastCollected)))
		}
		left += took
	}
	if !s.loadingSince.IsZero() {
		left += max(0, s.loadTime-at.Sub(s.loadingSince))
	}
	return left
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// late returns by how much a request misses its deadline if the work ahead of it
// takes as much longer than predicted as a forecast may be wrong.
func (f *forecast) late(i int) time.Duration {
	if f.all[i].deadline.IsZero() {
		return 0
	}
	wait := time.Duration(waitMargin*float64(f.ahead[i]) + ownMargin*float64(f.own[i]))
	if f.ahead[i] > f.first { // a batch of the first request ends in time, see draftForDeadline
		wait += max(0, min(f.batch, f.total-f.ahead[i]-f.own[i])) // the rest of the batch with its last pair
	}
	return wait - f.all[i].deadline.Sub(f.at)
}

// isHopeless reports whether a request misses its deadline even if all takes
// less than predicted.
func (s *Scheduler) isHopeless(f *forecast, i int) bool {
	factor := hopeless
	if s.batches < firstBatches && s.assumed {
		factor = hopelessFirst
	}
	d := f.all[i].deadline
	return !d.IsZero() && time.Duration(factor*float64(f.ahead[i]+f.own[i])) > d.Sub(f.at)
}

// A Refusal is why a request with a deadline is not to be admitted.
type Refusal struct {
	Never   bool          // it would be late even alone
	Excess  time.Duration // by how much it, or another request, would be late
	Other   bool          // another request would be late
	Own     time.Duration // predicted for the request alone
	Allowed time.Duration // until its deadline
}

// Check returns a refusal of a request that would be late, or would make another
// one late. It returns nil for one that can be admitted. Expect comes first.
func (s *Scheduler) Check(r *Request, at time.Time) *Refusal {
	// The first batches may be slow for reasons of their own, such as pages that
	// are touched for the first time: one alone refuses no request.
	if r.Deadline.IsZero() || s.batches < firstBatches {
		return nil
	}
	f := s.forecastAlone(r, at)
	refusal := Refusal{Own: f.own[0], Allowed: r.Deadline.Sub(at)}
	if r.Partial { // its answer has what can be computed
		refusal.Excess, refusal.Other = s.delay(r, at), true
		if refusal.Excess > 0 {
			return &refusal
		}
		return nil
	}
	if time.Duration(tooLarge*float64(refusal.Own)) > refusal.Allowed {
		refusal.Never = true
		return &refusal
	}
	if f.ahead[0] == 0 { // nothing is gained by refusing it
		return nil
	}
	if refusal.Excess = f.late(0); refusal.Excess > 0 {
		return &refusal
	}
	if refusal.Excess = s.delay(r, at); refusal.Excess > 0 {
		refusal.Other = true
		return &refusal
	}
	return nil
}

// delay returns by how much another request would be late because of this one. An
// interactive request may make one of another priority late.
func (s *Scheduler) delay(r *Request, at time.Time) time.Duration {
	f := s.forecast(r, at)
	var before forecast
	for i, one := range f.all {
		if one.request == r || one.request.Priority > r.Priority || f.late(i) <= 0 {
			continue
		}
		if before.all == nil {
			before = s.forecast(nil, at)
		}
		k := slices.IndexFunc(before.all, func(other standing) bool { return other.request == one.request })
		if excess := f.late(i); excess > max(0, before.late(k)) {
			return excess
		}
	}
	return 0
}

// A Hopeless request can no longer be answered in time.
type Hopeless struct {
	Request *Request
	Wait    time.Duration // until it would be answered
	Whole   time.Duration // that all its pairs take
	Left    int           // pairs that were not taken into batches
}

// Hopeless returns the next request to give up, nil if there is none: the one
// with the most work left, and of several the last one admitted. It moves
// requests that would be late otherwise ahead in the queue.
func (s *Scheduler) Hopeless(at time.Time) *Hopeless {
	for s.timed > 0 && s.pace.known() {
		hurried := false
		f := s.forecast(nil, at)
		victim := -1
		for i := range f.all {
			if s.isUrgent(&f, i) {
				s.queues[f.all[i].request.Priority].hurry(f.all[i].request)
				hurried = true
			}
			if s.isHopeless(&f, i) && (victim < 0 || f.all[i].work >= f.all[victim].work) {
				victim = i
			}
		}
		if hurried {
			continue
		}
		if victim < 0 {
			return nil
		}
		r := f.all[victim].request
		var whole load
		for i := range r.items {
			whole.add(r.items[i].width)
		}
		return &Hopeless{Request: r, Wait: f.ahead[victim] + f.own[victim], Whole: s.took(s.cost(whole), at), Left: len(r.items) - r.taken}
	}
	return nil
}

// isUrgent reports whether a request would be late that has less than a turn
// left: it goes first, because what was executed of it would be of no use.
func (s *Scheduler) isUrgent(f *forecast, i int) bool {
	r := f.all[i].request
	return r.taken > 0 && r.queued == len(r.items) && r.turn >= s.queues[r.Priority].now && f.own[i] < turnBatches*f.batch && f.late(i) > 0
}
