package schedule

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A queueCheck checks a queue's guarantees batch by batch, with its own record of
// the waiting pairs.
type queueCheck struct {
	t        testing.TB
	queue    queue
	waiting  map[*Item]int // how often each was passed over
	arrived  []*Item       // in order, including taken ones
	batches  int
	worst    int // the most passes of a pair
	tokens   int // without padding, of all batches
	grid     int
	computed int
}

func newQueueCheck(t testing.TB, p planner, l Limits) *queueCheck {
	return &queueCheck{t: t, queue: queue{planner: &p, limits: l}, waiting: make(map[*Item]int)}
}

// push adds pairs of the given lengths to a request.
func (c *queueCheck) push(r *Request, lengths ...int) {
	items := make([]Item, len(lengths))
	for i, n := range lengths {
		items[i] = Item{Request: r, Length: n}
	}
	c.queue.push(r, items, time.Time{})
	for i := range items {
		c.waiting[&items[i]] = 0
		c.arrived = append(c.arrived, &items[i])
	}
}

func (c *queueCheck) drop(r *Request) {
	c.queue.drop(r)
	for it := range c.waiting {
		if it.Request == r {
			delete(c.waiting, it)
		}
	}
}

// oldest returns the waiting pair that arrived first.
func (c *queueCheck) oldest() *Item {
	for len(c.arrived) > 0 {
		if _, ok := c.waiting[c.arrived[0]]; ok {
			return c.arrived[0]
		}
		c.arrived = c.arrived[1:]
	}
	return nil
}

// take takes a batch and checks it.
func (c *queueCheck) take() []*Item {
	t := c.t
	t.Helper()
	if !slices.IsSortedFunc(c.queue.waiting, func(a, b *Item) int {
		if before(a, b) {
			return -1
		}
		return 1
	}) {
		t.Fatal("the queue is not sorted")
	}
	oldest := c.oldest()
	picked, microbatches := c.queue.take(c.queue.limits)
	c.batches++
	pairs, computed := 0, 0
	for _, s := range microbatches {
		lengths := make([]int, s.Pairs)
		for i, it := range picked[pairs : pairs+s.Pairs] {
			lengths[i] = it.Length
			c.tokens += it.Length
			c.grid += c.queue.width(it)
		}
		pairs += s.Pairs
		computed += s.Computed
		checkPlan(t, c.queue.planner.layout, lengths, plan{order: indexes(s.Pairs), microbatches: []Microbatch{s}}, c.queue.limits)
	}
	c.computed += computed
	if pairs != len(picked) || pairs == 0 || pairs > c.queue.limits.Pairs || pairs > 1 && computed > c.queue.limits.Tokens {
		t.Fatalf("batch of %d pairs and %d tokens, in %d microbatches; limits %+v", pairs, computed, len(microbatches), c.queue.limits)
	}
	if !slices.Contains(picked, oldest) {
		t.Fatalf("batch %d lacks the oldest pair", c.batches)
	}
	for _, it := range picked {
		if _, ok := c.waiting[it]; !ok {
			t.Fatalf("batch %d has a pair that was not waiting", c.batches)
		}
		delete(c.waiting, it)
	}
	for it := range c.waiting {
		if slices.ContainsFunc(picked, func(other *Item) bool {
			return other != oldest && other.Request != it.Request && before(it, other)
		}) {
			c.waiting[it]++
			c.worst = max(c.worst, c.waiting[it])
			if c.waiting[it] > maxPassed {
				t.Fatalf("a pair was passed over %d times", c.waiting[it])
			}
		}
	}
	tokens := 0
	for it := range c.waiting {
		tokens += c.queue.width(it)
	}
	if len(c.queue.waiting) != len(c.waiting) || c.queue.tokens != tokens {
		t.Fatalf("%d pairs and %d tokens wait, the queue counts %d and %d", len(c.waiting), tokens, len(c.queue.waiting), c.queue.tokens)
	}
	return picked
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func randomQueue(t testing.TB, r *rand.Rand) *queueCheck {
	l := someLayouts[r.IntN(len(someLayouts))]
	p := planner{layout: l, costs: randomCosts(r), inOrder: r.IntN(4) == 0}
	return newQueueCheck(t, p, Limits{Pairs: 1 + r.IntN(40), Tokens: l.Width(l.MaxWidth) + r.IntN(2000)})
}

func TestQueueInvariants(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	worst := 0
	for range 100 {
		c := randomQueue(t, r)
		longest := c.queue.planner.layout.MaxWidth
		var live []*Request
		for range 60 {
			switch {
			case r.IntN(3) > 0:
				if len(live) == 0 || r.IntN(2) == 0 {
					live = append(live, new(Request))
				}
				c.push(live[r.IntN(len(live))], randomLengths(r, 1+r.IntN(30), longest)...)
			case r.IntN(8) == 0 && len(live) > 0:
				c.drop(live[r.IntN(len(live))])
			case len(c.waiting) > 0:
				c.take()
			}
		}
		for len(c.waiting) > 0 {
			c.take()
		}
		worst = max(worst, c.worst)
	}
	if worst == 0 {
		t.Error("no pair was passed over, so the bound was not tested")
	}
	t.Logf("a pair was passed over %d times at most", worst)
}

// The adversary sends short pairs in ever new requests, so that the queue can
// always form a batch of short pairs. One long pair must still execute.
func TestNoPairStarves(t *testing.T) {
	t.Parallel()
	for _, l := range someLayouts {
		p := planner{layout: l, costs: Costs{1, 1000, 10}}
		c := newQueueCheck(t, p, Limits{Pairs: 16, Tokens: l.Width(l.MaxWidth) + 400})
		short := func(n int) {
			for range n {
				c.push(new(Request), 20)
			}
		}
		short(40)
		c.push(new(Request), l.MaxWidth)
		long := c.arrived[len(c.arrived)-1]
		batches := 0
		for taken := false; !taken; batches++ {
			if batches > 100 {
				t.Fatalf("%+v: the long pair is still waiting after %d batches", l, batches)
			}
			short(16) // more than a batch takes
			taken = slices.Contains(c.take(), long)
		}
		t.Logf("%+v: the long pair was in batch %d", l, batches)
	}
}

// A small request does not wait for a large one that arrived before it.
func TestQueueIsFairToRequests(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	l := someLayouts[1]
	c := newQueueCheck(t, planner{layout: l, costs: AssumedCosts()}, DefaultLimits(false))
	large := new(Request)
	for range 4 {
		c.push(large, randomLengths(r, 500, 200)...)
	}
	for range 10 {
		c.take()
	}
	for range 20 {
		small := new(Request)
		c.push(small, randomLengths(r, 10, 200)...)
		left, batches := 10, 0
		for left > 0 {
			batches++
			for _, it := range c.take() {
				if it.Request == small {
					left--
				}
			}
		}
		// The rest of the large request's turn, and its own turn.
		if batches > turnBatches+maxPassed {
			t.Errorf("a request of 10 pairs took %d batches", batches)
		}
	}
	if len(c.waiting) == 0 {
		t.Error("the large request finished too early, so nothing was tested")
	}
}

// TestQueuePadding bounds the padding of a single large request, planned a batch
// at a time, and of many small requests.
func TestQueuePadding(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for name, test := range map[string]struct {
		layout   Layout
		device   string
		requests int
		pairs    int
		waiting  int // concurrent requests
		most     float64
	}{
		"offline, GPU":                            {someLayouts[0], "gpu", 1, 4096, 1, 1},
		"offline, CPU":                            {someLayouts[1], "cpu", 1, 4096, 1, 1},
		"20 documents, one at a time, GPU":        {someLayouts[0], "gpu", 100, 20, 1, 30},
		"20 documents, one at a time, CPU":        {someLayouts[1], "cpu", 100, 20, 1, 15},
		"20 documents, 32 requests at a time GPU": {someLayouts[0], "gpu", 320, 20, 32, 10},
		"20 documents, 32 requests at a time CPU": {someLayouts[1], "cpu", 320, 20, 32, 10},
	} {
		c := newQueueCheck(t, planner{layout: test.layout, costs: AssumedCosts()}, DefaultLimits(false))
		if test.device == "gpu" {
			c.queue.planner.costs, c.queue.limits = AssumedCosts(), DefaultLimits(true)
		}
		for pushed := 0; pushed < test.requests || len(c.waiting) > 0; {
			for pushed < test.requests && len(c.waiting) <= (test.waiting-1)*test.pairs {
				request := new(Request)
				for left := test.pairs; left > 0; left -= min(left, releasePairs) {
					lengths := make([]int, min(left, releasePairs))
					for i := range lengths {
						lengths[i] = marcoLength(r)
					}
					c.push(request, lengths...)
				}
				pushed++
			}
			c.take()
		}
		pct := 100 * float64(c.computed-c.grid) / float64(c.computed)
		if pct > test.most {
			t.Errorf("%s: %.2f %% padding beyond the grid, want at most %g", name, pct, test.most)
		}
		t.Logf("%s: %.2f %% padding beyond the grid, %.1f %% with it, %.1f pairs a batch",
			name, pct, 100*float64(c.computed-c.tokens)/float64(c.computed), float64(test.requests*test.pairs)/float64(c.batches))
	}
}

func FuzzQueue(f *testing.F) {
	f.Add(uint64(1), []byte{1, 2, 3, 0, 0, 200, 0, 0, 0})
	f.Add(uint64(7), []byte{255, 254, 1, 1, 1, 1, 0, 1, 1, 0, 253, 0, 0, 9})
	f.Add(uint64(42), []byte{0, 0, 252, 8, 8, 8, 8, 252, 0})
	f.Fuzz(func(t *testing.T, seed uint64, script []byte) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := randomQueue(t, r)
		longest := c.queue.planner.layout.MaxWidth
		live := []*Request{new(Request)}
		for _, step := range script[:min(len(script), 200)] {
			last := live[len(live)-1]
			switch {
			case step == 0 && len(c.waiting) > 0:
				c.take()
			case step == 255:
				live = append(live, new(Request))
			case step == 254:
				c.drop(last)
			case step == 253:
				c.push(last, longest)
			default:
				c.push(live[int(step)%len(live)], randomLengths(r, 1+int(step)%20, longest)...)
			}
		}
		for len(c.waiting) > 0 {
			c.take()
		}
	})
}

func BenchmarkTake(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	lengths := make([]int, releasePairs)
	for i := range lengths {
		lengths[i] = marcoLength(r)
	}
	for b.Loop() {
		q := queue{planner: &planner{layout: someLayouts[0], costs: AssumedCosts()}, limits: DefaultLimits(true)}
		items := make([]Item, len(lengths))
		request := new(Request)
		for i, n := range lengths {
			items[i] = Item{Request: request, Length: n}
		}
		q.push(request, items, time.Time{})
		q.take(q.limits)
	}
}
