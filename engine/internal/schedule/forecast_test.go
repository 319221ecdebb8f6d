package schedule

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// The forecast of the work ahead of a request is close to what a queue executes
// before the request's last pair. It is not exact, since every batch has the
// oldest pair.
func TestWorkAheadFollowsQueueOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(30, 1))
	const turn = turnBatches * 40 // tokens
	off, total := 0.0, 0.0
	for range 300 {
		q := queue{planner: &planner{layout: Layout{Unpadded: true, MaxWidth: 64, Workers: 1, Tokens: 40}}, limits: Limits{Pairs: 10, Tokens: 40}}
		var all []standing
		var requests []*Request
		for range 1 + r.IntN(8) {
			one := &Request{items: make([]Item, 1+r.IntN(3)*r.IntN(90))}
			for k := range one.items {
				one.items[k] = Item{Request: one, Length: 4, width: 4}
				one.todo.add(4)
			}
			q.push(one, one.items, time.Time{})
			requests = append(requests, one)
			for range r.IntN(3) * r.IntN(10) { // some batches execute before the next request arrives
				takeSome(&q)
			}
		}
		for _, one := range requests {
			if one.todo.tokens > 0 {
				all = append(all, standing{request: one, turn: one.nextTurn(q.now, turn), tokens: one.todo.tokens, work: float64(one.todo.tokens)})
			}
		}
		ahead := workAhead(all, turn)
		done := make([]bool, len(all))
		for executed := 0; len(q.waiting) > 0; {
			executed += takeSome(&q)
			for i, s := range all {
				if !done[i] && s.request.todo.tokens == 0 {
					done[i] = true
					off += math.Abs(float64(executed) - s.work - ahead[i])
					total += float64(executed)
				}
			}
		}
	}
	if off > 0.1*total {
		t.Errorf("forecasts are off by %.1f %%", 100*off/total)
	}
	t.Logf("off by %.1f %%", 100*off/total)
}

// takeSome takes a batch and returns its tokens.
func takeSome(q *queue) (tokens int) {
	if len(q.waiting) == 0 {
		return 0
	}
	items, _ := q.take(q.limits)
	for _, it := range items {
		it.Request.todo.remove(it.width)
		it.Request.waiting -= it.width
		tokens += it.width
	}
	return tokens
}

// Requests of one turn execute in the order of arrival, so their forecasts are
// exact.
func TestWorkAheadOfSmallRequests(t *testing.T) {
	t.Parallel()
	all := []standing{{tokens: 10, work: 1}, {tokens: 100, work: 10}, {tokens: 10, work: 2}, {tokens: 10, work: 3, turn: -5}, {tokens: 1000, work: 100}}
	got := workAhead(all, 100)
	for i, want := range []float64{3, 1 + 3, 1 + 10 + 3, 0, 1 + 10 + 2 + 3} {
		if math.Abs(got[i]-want) > 1e-9 {
			t.Errorf("request %d has %v ahead, want %v", i, got[i], want)
		}
	}
}

// The time of a small batch hardly depends on its size. Such batches must not
// make the engine refuse a long request that it has time for.
func TestSmallBatchesRefuseNothing(t *testing.T) {
	at := time.Now()
	s := New(Config{
		Layout: Layout{Grid: 1, MaxWidth: 64, Workers: 1, Tokens: 512},
		Costs:  Costs{Microbatch: 1e5, Token: 1e4},
		Limits: Limits{Pairs: 16, Tokens: 512},
	}, at)
	s.warm = true
	small := load{tokens: s.limits.Tokens / 100}
	batch := func(l load) *Batch {
		return &Batch{work: s.cost(l), Items: []*Item{{Request: new(Request), width: l.tokens}}}
	}
	for range 10 {
		s.measure(batch(small), 10*time.Second, at)
	}
	if s.pace.known() {
		t.Error("small batches set the pace")
	}
	full := load{tokens: s.limits.Tokens}
	s.measure(batch(full), time.Second, at) // the control
	if !s.pace.known() {
		t.Error("a full batch did not set the pace")
	}
}
