package schedule

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// A simulation runs a scheduler in virtual time, on a device that takes what the cost
// model predicts, times slow and noise.
type simulation struct {
	t     testing.TB
	s     *Scheduler
	now   time.Time
	start time.Time
	slow  float64
	noise func() float64 // a further factor of each batch; nil for none
	free  time.Time      // when the device has computed all batches

	flying   []simulatedBatch
	taken    map[*Item]int // how often each pair was in a batch
	ended    map[*Request]time.Time
	batches  []*Batch
	computed [priorities]int // tokens while pairs of all priorities waited
}

type simulatedBatch struct {
	*Batch
	until time.Time
}

func newSimulation(t testing.TB, c Config) *simulation {
	at := time.Unix(1e9, 0)
	c.Known = true
	return &simulation{t: t, s: New(c, at), now: at, start: at, free: at, slow: 1, taken: make(map[*Item]int), ended: make(map[*Request]time.Time)}
}

// arrive admits a request whose pairs are tokenised at once.
func (m *simulation) arrive(r *Request, lengths ...int) {
	m.s.Expect(r, lengths, m.now)
	m.s.Admit(r)
	for i, n := range lengths {
		m.s.Tokenized(r, i, n)
	}
	m.s.Release(r, len(lengths), m.now)
	m.dispatch()
}

// dispatch does what the engine does at each event.
func (m *simulation) dispatch() {
	for h := m.s.Hopeless(m.now); h != nil; h = m.s.Hopeless(m.now) {
		m.end(h.Request)
	}
	for r := m.s.Cut(m.now); r != nil; r = m.s.Cut(m.now) {
		m.answer(r)
	}
	contended := true
	for i := range m.s.queues {
		contended = contended && len(m.s.queues[i].waiting) > 0
	}
	b, _ := m.s.Next(m.now, false)
	if b == nil {
		return
	}
	m.check(b)
	for _, it := range b.Items {
		m.taken[it]++
		if contended {
			m.computed[b.Priority] += it.width
		}
	}
	m.s.Submitted(b, m.now)
	took := m.slow * b.work
	if m.noise != nil {
		took *= m.noise()
	}
	m.free = later(m.free, m.now).Add(time.Duration(took))
	m.flying = append(m.flying, simulatedBatch{b, m.free})
	m.batches = append(m.batches, b)
	m.dispatch()
}

// check checks what holds for each batch.
func (m *simulation) check(b *Batch) {
	for _, it := range b.Items {
		if it.Request.Priority != b.Priority {
			m.t.Fatal("a batch has pairs of two priorities")
		}
		if _, ok := m.ended[it.Request]; ok {
			m.t.Fatal("a batch has a pair of a request that has ended")
		}
	}
	if b.Priority == PriorityBatch && m.s.expected(m.now) {
		tokens := 0
		for _, it := range b.Items {
			tokens += it.width
		}
		if len(b.Items) > 1 && float64(tokens) > max(1, shortBatch*m.s.usual)+1e-6 {
			m.t.Fatalf("a batch of batch priority has %d tokens while interactive requests have %.0f", tokens, m.s.usual)
		}
		for _, other := range m.flying {
			if other.Priority == PriorityBatch {
				m.t.Fatal("two batches of batch priority are in flight")
			}
		}
	}
}

// answer ends a request if nothing of it is to come.
func (m *simulation) answer(r *Request) {
	if !r.Executes() && !r.Waits() && (r.taken == len(r.items) || r.cut) {
		m.end(r)
	}
}

func (m *simulation) end(r *Request) {
	if _, ok := m.ended[r]; !ok {
		m.s.End(r)
		m.ended[r] = m.now
	}
}

// advance lets the device compute until at.
func (m *simulation) advance(at time.Time) {
	for len(m.flying) > 0 && !m.flying[0].until.After(at) {
		b := m.flying[0]
		m.flying = m.flying[1:]
		m.now = b.until
		m.s.Collected(b.Batch, make([]Timing, len(b.Microbatches)), m.now)
		for _, r := range b.requests {
			m.answer(r)
		}
		m.dispatch()
	}
	m.now = later(m.now, at)
}

// drain runs until the device is idle.
func (m *simulation) drain() {
	for len(m.flying) > 0 {
		m.advance(m.flying[0].until)
	}
}

func (m *simulation) sleep(d time.Duration) { m.advance(m.now.Add(d)) }

func someConfig(workers int) Config {
	return Config{
		Layout: Layout{Unpadded: true, MaxWidth: 512, Workers: workers, Tokens: 512},
		Limits: DefaultLimits(false), Costs: Costs{Microbatch: 1e5, Token: 1e4, Square: 10},
	}
}

// Random arrivals of all kinds: no pair is lost and none is executed twice, whatever
// the deadlines and priorities.
func TestNoPairIsLost(t *testing.T) {
	t.Parallel()
	cut, hopeless, mixed := 0, 0, 0
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 20))
		c := someConfig(1 + r.IntN(3))
		c.Layout = someLayouts[r.IntN(len(someLayouts))]
		c.InOrder = r.IntN(4) == 0
		c.Limits = Limits{Pairs: 1 + r.IntN(60), Tokens: 520 + r.IntN(2000)}
		if r.IntN(4) == 0 {
			c.BatchTimeout = time.Duration(r.IntN(30)) * time.Millisecond
		}
		m := newSimulation(t, c)
		var all []*Request
		for range 60 {
			one := &Request{Priority: Priority(r.IntN(2)), Partial: r.IntN(3) == 0}
			if one.Partial || r.IntN(3) == 0 {
				one.Deadline = m.now.Add(time.Duration(r.ExpFloat64() * 3e7))
			}
			all = append(all, one)
			m.arrive(one, randomLengths(r, 1+r.IntN(40), c.Layout.MaxWidth)...)
			m.sleep(time.Duration(r.ExpFloat64() * 1e7))
		}
		for waits := 0; m.s.Waiting() > 0 || len(m.flying) > 0; waits++ {
			m.drain()
			m.sleep(c.BatchTimeout)
			m.dispatch()
			if waits > 1000 {
				t.Fatalf("seed %d: %d pairs wait forever", seed, m.s.Waiting())
			}
		}
		kinds := make(map[Priority]bool)
		for _, one := range all {
			kinds[one.Priority] = true
			executed := 0
			for i := range one.items {
				n := m.taken[&one.items[i]]
				if n > 1 {
					t.Fatalf("seed %d: a pair was executed %d times", seed, n)
				}
				executed += n
			}
			if _, ok := m.ended[one]; !ok {
				t.Fatalf("seed %d: a request has no answer: %d of %d pairs executed, %+v", seed, executed, len(one.items), one)
			}
			switch {
			case executed == len(one.items):
			case one.cut:
				cut++
			case !one.Deadline.IsZero() && !one.Partial:
				hopeless++
			default:
				t.Fatalf("seed %d: %d of %d pairs were executed", seed, executed, len(one.items))
			}
		}
		if len(kinds) == 2 {
			mixed++
		}
		if m.s.timed != 0 || m.s.partial != 0 || len(m.s.live) != 0 {
			t.Fatalf("seed %d: %d, %d and %d requests are left", seed, m.s.timed, m.s.partial, len(m.s.live))
		}
	}
	if cut == 0 || hopeless == 0 || mixed == 0 {
		t.Errorf("%d cut, %d given up, %d mixed: not all was tested", cut, hopeless, mixed)
	}
	t.Logf("%d requests cut, %d given up", cut, hopeless)
}

// Each batch has the pairs that are due first, and the one that arrived first.
func TestEarliestDeadlineFirst(t *testing.T) {
	t.Parallel()
	forward := 0
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 21))
		c := someConfig(1)
		c.Layout.Tokens = c.Limits.Tokens // a batch is a microbatch
		c.Limits.Pairs = 1 + r.IntN(30)
		m := newSimulation(t, c)
		for range 40 {
			one := new(Request)
			if r.IntN(3) > 0 {
				one.Deadline = m.now.Add(time.Duration(5+r.IntN(20)) * time.Second)
			}
			m.arrive(one, slices.Repeat([]int{100}, 1+r.IntN(20))...)
			if r.IntN(3) > 0 {
				continue
			}
			waiting := slices.Clone(m.s.queues[PriorityInteractive].waiting)
			before := len(m.batches)
			m.advance(m.flying[0].until)
			if len(m.batches) != before+1 {
				continue
			}
			oldest := slices.MinFunc(waiting, func(a, b *Item) int { return int(a.arrival - b.arrival) })
			for _, it := range m.batches[before].Items {
				for _, left := range m.s.queues[PriorityInteractive].waiting {
					if it != oldest && compareItems(left, it) < 0 {
						t.Fatalf("seed %d: a pair due at %v is executed before one due at %v", seed, it.Request.due.Sub(m.start), left.Request.due.Sub(m.start))
					}
					if left.arrival < it.arrival {
						forward++
					}
				}
			}
		}
	}
	if forward < 1000 {
		t.Errorf("deadlines brought %d pairs forward", forward)
	}
}

// A stream of requests with short deadlines fills the device. One without a deadline
// is answered a horizon after its arrival, and not later.
func TestDeadlinesPassOverForAHorizonOnly(t *testing.T) {
	t.Parallel()
	c := someConfig(1)
	m := newSimulation(t, c)
	patient := new(Request)
	lengths := slices.Repeat([]int{100}, 60)
	for i := 0; m.ended[patient].IsZero(); i++ {
		if i == 20 {
			m.arrive(patient, lengths...)
		}
		urgent := &Request{Deadline: m.now.Add(5 * time.Second)}
		m.arrive(urgent, slices.Repeat([]int{100}, 20)...)
		m.sleep(time.Duration(0.98 * m.s.planner.costs.batch([]Microbatch{{20, 2000, 20 * 1e4}}, 1)))
		if waited := m.now.Sub(patient.arrived); i > 20 && waited > horizon+time.Second {
			t.Fatalf("it waits for %v", waited)
		}
	}
	t.Logf("answered after %v", m.ended[patient].Sub(patient.arrived))
}

// A closed loop sends the next request when it has the answer.
func (m *simulation) closedLoop(during time.Duration, clients int, next func() (*Request, []int)) {
	pending := slices.Repeat([]*Request{nil}, clients)
	for end := m.now.Add(during); m.now.Before(end); {
		for i, r := range pending {
			if r == nil || !m.ended[r].IsZero() {
				var lengths []int
				pending[i], lengths = next()
				m.arrive(pending[i], lengths...)
			}
		}
		if len(m.flying) == 0 {
			return
		}
		m.advance(m.flying[0].until)
	}
}

// While batch clients fill the device, an interactive client that sends 20 documents
// after each answer has a P99 of less than twice its own. The control has the same
// clients at one priority. Batch work goes on meanwhile.
func TestBatchClientsDoNotDoubleAnInteractiveP99(t *testing.T) {
	t.Parallel()
	p99 := func(others int, priority Priority) (time.Duration, float64) {
		r := rand.New(rand.NewPCG(1, 22))
		m := newSimulation(t, someConfig(2))
		var took []time.Duration
		done := 0
		clients := make([]*Request, others+1)
		for end := m.now.Add(20 * time.Second); m.now.Before(end); {
			for i, one := range clients {
				if one != nil && m.ended[one].IsZero() {
					continue
				}
				if one != nil && i == 0 {
					took = append(took, m.ended[one].Sub(one.arrived))
				} else if one != nil {
					done += len(one.items)
				}
				clients[i] = new(Request)
				if i > 0 {
					clients[i].Priority = priority
				}
				lengths := make([]int, 20)
				for k := range lengths {
					lengths[k] = 20 + r.IntN(80)
				}
				m.arrive(clients[i], lengths...)
			}
			m.advance(m.flying[0].until)
		}
		slices.Sort(took)
		return took[len(took)*99/100], float64(done)
	}
	alone, _ := p99(0, PriorityInteractive)
	same, _ := p99(8, PriorityInteractive)
	batch, done := p99(8, PriorityBatch)
	t.Logf("P99 alone %v, with 8 clients of one priority %v, with 8 of batch priority %v, which scored %.0f pairs", alone, same, batch, done)
	if batch >= 2*alone || same < 3*alone || done < 1000 {
		t.Error("not as wanted")
	}
}

// Interactive requests that always wait leave batch priority its share.
func TestBatchPriorityHasItsShare(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 23))
	m := newSimulation(t, someConfig(2))
	batch := &Request{Priority: PriorityBatch}
	m.arrive(new(Request), 50)
	m.arrive(batch, randomLengths(r, 3000, 512)...)
	m.closedLoop(30*time.Second, 8, func() (*Request, []int) { return new(Request), randomLengths(r, 60, 200) })
	share := float64(m.computed[PriorityBatch]) / float64(m.computed[PriorityBatch]+m.computed[PriorityInteractive])
	t.Logf("batch priority had %.1f %% of the tokens of %d batches", 100*share, len(m.batches))
	if share < 0.9*leastShare || share > 1.1*leastShare {
		t.Errorf("share %.3f, want %.3f", share, leastShare)
	}
}

// A quiet minute after the last interactive request, batches are full again.
func TestBatchesAreFullWithoutInteractiveRequests(t *testing.T) {
	t.Parallel()
	m := newSimulation(t, someConfig(1))
	longest := func() (most int) {
		m.arrive(&Request{Priority: PriorityBatch}, slices.Repeat([]int{50}, 200)...)
		before := len(m.batches)
		m.drain()
		for _, b := range m.batches[before:] {
			most = max(most, len(b.Items))
		}
		return most
	}
	full := m.s.limits.Tokens / 50
	if got := longest(); got != full {
		t.Errorf("before any interactive request a batch has %d pairs, want %d", got, full)
	}
	m.arrive(new(Request), slices.Repeat([]int{50}, 20)...)
	m.drain()
	if got := longest(); got != 5 {
		t.Errorf("after an interactive request of 20 pairs a batch has %d, want 5", got)
	}
	m.sleep(interactiveMemory)
	if got := longest(); got != full {
		t.Errorf("a minute later a batch has %d pairs, want %d", got, full)
	}
}

// TestPartialRequestsEndInTime checks that pairs of partial requests execute before
// the deadline only, and that nearly all that can do.
func TestPartialRequestsEndInTime(t *testing.T) {
	t.Parallel()
	pairs, late, asked := 0, 0, 0
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 24))
		c := someConfig(1 + r.IntN(3))
		m := newSimulation(t, c)
		for range 4 { // teach the forecasts
			m.arrive(new(Request), randomLengths(r, 100, 512)...)
			m.drain()
		}
		one := &Request{Partial: true, Deadline: m.now.Add(time.Duration(2+r.IntN(60)) * time.Millisecond)}
		other := new(Request)
		m.arrive(one, randomLengths(r, 60, 200)...)
		m.arrive(other, randomLengths(r, 100, 512)...)
		inTime := 0
		for len(m.flying) > 0 {
			b := m.flying[0]
			m.advance(b.until)
			for _, it := range b.Items {
				switch {
				case it.Request != one:
				case b.until.After(one.Deadline):
					late++
				default:
					inTime++
				}
			}
		}
		pairs, asked = pairs+inTime, asked+len(one.items)
		if m.ended[one].IsZero() || m.ended[other].IsZero() {
			t.Fatalf("seed %d: a request has no answer", seed)
		}
	}
	t.Logf("%d of %d pairs in time, %d late", pairs, asked, late)
	if late > 0 || pairs < asked/4 || pairs == asked {
		t.Errorf("%d of %d pairs in time, %d late", pairs, asked, late)
	}
}

// TestPartialRequestsOnAnUnsteadyDevice checks how many pairs of a partial request have
// scores at its deadline, of those that a device which never pauses computes by then, if
// batches take longer or shorter than the cost model predicts. Pairs are given up only
// when none of them fits. MLXRANK_TEST_LONG takes more seeds.
func TestPartialRequestsOnAnUnsteadyDevice(t *testing.T) {
	t.Parallel()
	seeds := uint64(4)
	if os.Getenv("MLXRANK_TEST_LONG") != "" {
		seeds = 30
	}
	for _, test := range []struct {
		name   string
		slow   float64
		noise  float64 // each batch takes up to 1+noise times longer or shorter
		others int     // pairs of a request without a deadline that waits
		idle   time.Duration
		least  float64 // share of the pairs that fit
	}{
		{"0.4x", 0.4, 0, 0, 0, 0.95},
		{"1x", 1, 0, 0, 0, 0.95},
		{"1.5x", 1.5, 0, 0, 0, 0.95},
		{"2x", 2, 0, 0, 0, 0.75},
		{"0.5x to 2x", 1, 1, 0, 0, 0.85},
		{"1x, after a pause", 1, 0, 0, 100 * time.Second, 0.95},
		{"1x, others wait", 1, 0, 3000, 0, 0.5},
		{"1.5x, others wait", 1.5, 0, 3000, 0, 0.5},
		{"2x, others wait", 2, 0, 3000, 0, 0.5},
	} {
		for _, ms := range []int{25, 100, 400} {
			u := unsteady{slow: test.slow, noise: test.noise, others: test.others, idle: test.idle, around: time.Duration(ms) * time.Millisecond}
			for seed := range seeds {
				u.run(t, rand.New(rand.NewPCG(seed, 25)))
			}
			share := float64(u.scored) / float64(u.fitted)
			t.Logf("%-19s %4d ms: %5d of %5d pairs that fit, %3.0f %%; %d late, %d of %d gave up early", test.name, ms, u.scored, u.fitted, 100*share, u.late, u.early, seeds)
			if share < test.least || u.early > 0 {
				t.Errorf("want %.0f %%, and none to give up early", 100*test.least)
			}
		}
	}
}

// An unsteady device computes partial requests with deadlines around a time.
type unsteady struct {
	slow, noise float64
	others      int
	idle        time.Duration // of the device before the request
	around      time.Duration

	scored, fitted int // pairs
	late           int // pairs in batches that ended after the deadline
	early          int // requests whose pairs were given up although one fitted
}

func (u *unsteady) run(t *testing.T, r *rand.Rand) {
	m := newSimulation(t, someConfig(1))
	for range 4 { // teach the forecasts
		m.arrive(new(Request), randomLengths(r, 100, 512)...)
		m.drain()
	}
	m.sleep(u.idle)
	m.slow = u.slow
	if u.noise > 0 {
		m.noise = func() float64 { return math.Pow(1+u.noise, 2*r.Float64()-1) }
	}
	one := &Request{Partial: true, Deadline: m.now.Add(time.Duration((0.5 + r.Float64()) * float64(u.around)))}
	lengths := slices.Repeat([]int{60}, int(64*u.around/(25*time.Millisecond)))
	fitted := float64(one.Deadline.Sub(m.now)) / (u.slow * m.s.planner.costs.Of(Microbatch{8, 480, 8 * 3600}) / 8)
	u.fitted += min(len(lengths), int(fitted))
	m.arrive(one, lengths...)
	if u.others > 0 {
		m.arrive(new(Request), slices.Repeat([]int{60}, u.others)...)
	}
	inTime := 0
	for len(m.flying) > 0 && !m.flying[0].until.After(one.Deadline) {
		inTime += count(m.flying[0].Batch, one)
		m.advance(m.flying[0].until)
	}
	u.scored += inTime
	if at, ok := m.ended[one]; ok && inTime < len(lengths) {
		alone := m.s.planner.costs.Of(Padded(1, 60)) * max(1, u.slow) * (1 + u.noise)
		if float64(one.Deadline.Sub(at)) > 1.1*alone {
			u.early++
		}
	}
	m.advance(one.Deadline)
	m.dispatch()
	m.end(one) // as the engine does at the deadline
	for _, b := range m.flying {
		u.late += count(b.Batch, one)
	}
	for _, it := range m.s.queues[one.Priority].waiting {
		if it.Request == one {
			t.Fatal("a pair waits after the deadline")
		}
	}
	m.drain()
}

func count(b *Batch, r *Request) (pairs int) {
	for _, it := range b.Items {
		if it.Request == r {
			pairs++
		}
	}
	return pairs
}
