package engine

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

var someLayouts = []layout{
	{grid: 16, maxWidth: 512, lanes: 1, tokens: 16384}, // a GPU's
	{grid: 1, maxWidth: 512, lanes: 2, tokens: 512},    // a CPU's
	{grid: 1, maxWidth: 512, lanes: 8, tokens: 512},
	{grid: 16, maxWidth: 100, lanes: 3, tokens: 300},
	{packed: true, maxWidth: 512, lanes: 2, tokens: 512},
}

func randomLengths(r *rand.Rand, n, longest int) []int {
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = 3 + int(float64(longest-3)*math.Pow(r.Float64(), 3))
	}
	return lengths
}

func randomCosts(r *rand.Rand) Costs {
	c := Costs{Shard: math.Pow(10, 3+4*r.Float64()), Token: math.Pow(10, 2+3*r.Float64()), Square: math.Pow(10, 2*r.Float64())}
	switch r.IntN(6) {
	case 0:
		c.Shard = 0
	case 1:
		c.Square = 0
	}
	return c
}

// checkPlan checks that each pair is in the plan once, that its shards are what
// they say, and the limits.
func checkPlan(t testing.TB, l layout, lengths []int, p plan, limit limits) {
	t.Helper()
	places := slices.Sorted(slices.Values(p.order))
	for i, at := range places {
		if at != i {
			t.Fatalf("place %d is missing or there twice: %v", i, p.order)
		}
	}
	at := 0
	for _, s := range p.shards {
		if s.pairs < 1 || at+s.pairs > len(p.order) {
			t.Fatalf("shards %v of %d pairs", p.shards, len(p.order))
		}
		widest, sum, squares := 0, 0, 0.0
		for _, place := range p.order[at : at+s.pairs] {
			w := l.width(lengths[place])
			widest, sum, squares = max(widest, w), sum+w, squares+float64(w*w)
		}
		if !l.packed {
			sum, squares = s.pairs*widest, float64(s.pairs*widest*widest)
		}
		if s.computed != sum || s.squares != squares {
			t.Fatalf("shard %+v computes %d tokens, squares %v", s, sum, squares)
		}
		if s.pairs > limit.pairs || s.pairs > 1 && s.computed > min(limit.tokens, l.tokens) {
			t.Fatalf("shard %+v is over %+v of %+v", s, limit, l)
		}
		at += s.pairs
	}
	if at != len(lengths) || len(p.order) != len(lengths) {
		t.Fatalf("%d of %d pairs planned", at, len(lengths))
	}
}

func TestPlanKeepsItsLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		l := someLayouts[r.IntN(len(someLayouts))]
		p := planner{layout: l, costs: randomCosts(r), lengthAware: r.IntN(3) > 0}
		lengths := randomLengths(r, r.IntN(120), 3+r.IntN(l.maxWidth-2))
		limit := limits{pairs: 1 + r.IntN(40), tokens: l.maxWidth + r.IntN(3000)}
		got := p.plan(lengths, limit)
		checkPlan(t, l, lengths, got, limit)
		if again := p.plan(lengths, limit); !reflect.DeepEqual(got, again) {
			t.Fatalf("two plans of %v: %v and %v", lengths, got, again)
		}
		if !p.lengthAware && !slices.IsSorted(got.order) {
			t.Fatalf("not length-aware, yet in order %v", got.order)
		}
	}
}

// cutSlowly tries every cut.
func cutSlowly(widths []int, c Costs, limit limits, share int) float64 {
	best := make([]float64, len(widths)+1)
	for j := 1; j <= len(widths); j++ {
		best[j] = math.Inf(1)
		for i := j - 1; i >= 0; i-- {
			s := dense(j-i, widths[i])
			if s.pairs == 1 || !full(s, widths[i], limit, share) {
				best[j] = min(best[j], best[i]+c.of(s))
			}
		}
	}
	return best[len(widths)]
}

func total(c Costs, shards []shard) float64 {
	sum := 0.0
	for _, s := range shards {
		sum += c.of(s)
	}
	return sum
}

func TestCutIsTheBestThereIs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 4000 {
		widths := randomLengths(r, 1+r.IntN(70), 4+r.IntN(500))
		slices.SortFunc(widths, func(a, b int) int { return b - a })
		limit := limits{pairs: 1 + r.IntN(30), tokens: 1 + r.IntN(3000)}
		share := limit.tokens
		if r.IntN(2) == 0 {
			share = 1 + r.IntN(limit.tokens)
		}
		c := randomCosts(r)
		got, want := total(c, cut(widths, c, limit, share)), cutSlowly(widths, c, limit, share)
		if math.Abs(got-want) > 1e-9*want {
			t.Fatalf("%v with %+v, %+v, share %d: costs %v, the best is %v", widths, c, limit, share, got, want)
		}
	}
}

// inOrder cuts pairs in the given order into shards of so many pairs, or fewer
// where the limits say so.
func inOrder(l layout, lengths []int, pairs int, limit limits) []shard {
	var shards []shard
	var s shard
	widest := 0
	for _, n := range lengths {
		next, w := l.add(s, widest, n)
		if s.pairs > 0 && (s.pairs == pairs || full(next, l.width(n), limit, limit.tokens)) {
			shards = append(shards, s)
			next, w = l.add(shard{}, 0, n)
		}
		s, widest = next, w
	}
	return append(shards, s)
}

// Under its model the plan is never worse than batches in order of arrival or
// sorted ones of a fixed size, whichever size.
func TestPlanBeatsArrivalOrderAndFixedSizes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	won, fixed := 0.0, 0
	for range 1500 {
		l := someLayouts[0]
		p := planner{layout: l, costs: randomCosts(r), lengthAware: true}
		lengths := randomLengths(r, 1+r.IntN(300), 512)
		limit := limits{pairs: 1 + r.IntN(256), tokens: l.maxWidth + r.IntN(16384)}
		plan := p.plan(lengths, limit)
		cost := total(p.costs, plan.shards)
		sorted := slices.Clone(lengths)
		slices.SortFunc(sorted, func(a, b int) int { return b - a })
		for size := 1; size <= limit.pairs; size += 1 + r.IntN(20) {
			for name, order := range map[string][]int{"arrival": lengths, "sorted": sorted} {
				other := total(p.costs, inOrder(l, order, size, limit))
				if cost > other*(1+1e-9) {
					t.Fatalf("%d pairs, %+v, %+v: costs %v, in order of %s by %d %v", len(lengths), p.costs, limit, cost, name, size, other)
				}
				if name == "sorted" {
					won, fixed = won+1-cost/other, fixed+1
				}
			}
		}
	}
	t.Logf("against sorted batches of a fixed size the plan costs %.1f %% less on average", 100*won/float64(fixed))
}

// Lanes end at about the same time, even with few pairs.
func TestLanesHaveAsMuchToDo(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	c := Costs{Shard: 1e5, Token: 1e4, Square: 10}
	worst, sum, n := 0.0, 0.0, 0
	for range 500 {
		l := layout{grid: 1, maxWidth: 512, lanes: 1 + r.IntN(4), tokens: 512}
		lengths := randomLengths(r, l.lanes*(4+r.IntN(30)), 300)
		p := planner{layout: l, costs: c, lengthAware: true}
		shards := p.plan(lengths, limits{pairs: 256, tokens: 1 << 20}).shards
		off := c.batch(shards, l.lanes)/(total(c, shards)/float64(l.lanes)) - 1
		worst, sum, n = max(worst, off), sum+off, n+1
	}
	if sum/float64(n) > 0.15 {
		t.Errorf("lanes take %.0f %% longer than if the work were divided evenly", 100*sum/float64(n))
	}
	t.Logf("%.1f %% longer on average, %.0f %% at worst", 100*sum/float64(n), 100*worst)
}

// Padding beyond the grid of ten thousand pairs of lengths like MS MARCO's.
func TestPaddingBeyondTheGrid(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for name, test := range map[string]struct {
		device   layout
		costs    Costs
		pairs    int
		most     float64 // per cent
		lengthOf func() int
	}{
		"offline, GPU": {someLayouts[0], Costs{1e6, 1e4, 2}, 10000, 1, func() int { return marcoLength(r) }},
		"offline, CPU": {someLayouts[1], Costs{5e5, 2e5, 100}, 1024, 1, func() int { return marcoLength(r) }},
	} {
		lengths := make([]int, test.pairs)
		for i := range lengths {
			lengths[i] = test.lengthOf()
		}
		p := planner{layout: test.device, costs: test.costs, lengthAware: true}
		grid, computed := 0, 0
		for _, n := range lengths {
			grid += test.device.width(n)
		}
		for _, s := range p.plan(lengths, limits{pairs: 256, tokens: 16384}).shards {
			computed += s.computed
		}
		pct := 100 * float64(computed-grid) / float64(computed)
		if pct > test.most {
			t.Errorf("%s: %.2f %% padding beyond the grid, want at most %g", name, pct, test.most)
		}
		t.Logf("%s: %.2f %% padding beyond the grid", name, pct)
	}
}

// marcoLength is a length as pairs of MS MARCO have them: around 95 tokens,
// from 30 to 250.
func marcoLength(r *rand.Rand) int {
	return min(max(int(90*math.Exp(0.33*r.NormFloat64())), 20), 512)
}

func TestFitFindsTheCosts(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		want := randomCosts(r)
		var samples []sample
		for _, shape := range someLayouts[r.IntN(2)].shapes() {
			s := dense(shape.Pairs, shape.Width)
			samples = append(samples, sample{s, want.of(s)})
		}
		got := fit(samples)
		for _, s := range samples {
			if off := math.Abs(got.of(s.shard)/s.ns - 1); off > 1e-6 {
				t.Fatalf("%+v fitted as %+v: off by %g on %+v", want, got, off, s.shard)
			}
		}
	}
	// Noise must not make a term negative.
	for range 300 {
		want := randomCosts(r)
		var samples []sample
		for _, shape := range someLayouts[0].shapes() {
			s := dense(shape.Pairs, shape.Width)
			samples = append(samples, sample{s, want.of(s) * (0.9 + 0.2*r.Float64())})
		}
		got := fit(samples)
		if min(got.Shard, got.Token, got.Square) < 0 {
			t.Fatalf("%+v", got)
		}
		for _, s := range samples {
			if off := math.Abs(got.of(s.shard)/want.of(s.shard) - 1); off > 0.15 {
				t.Fatalf("%+v fitted as %+v: off by %g on %+v", want, got, off, s.shard)
			}
		}
	}
}

func TestPlanningTakesMilliseconds(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	lengths := make([]int, 10000)
	for i := range lengths {
		lengths[i] = marcoLength(r)
	}
	for _, l := range someLayouts {
		p := planner{layout: l, costs: assumedCosts("cpu"), lengthAware: true}
		least := time.Hour
		for range 5 {
			start := time.Now()
			p.plan(lengths, limits{pairs: 256, tokens: 16384})
			least = min(least, time.Since(start))
		}
		if least > 50*time.Millisecond { // ten times the goal: the race detector is at work
			t.Errorf("%+v: 10,000 pairs planned in %v", l, least)
		}
		t.Logf("%+v: 10,000 pairs planned in %v", l, least)
	}
}

func BenchmarkPlan10000(b *testing.B) {
	r := rand.New(rand.NewPCG(15, 16))
	lengths := make([]int, 10000)
	for i := range lengths {
		lengths[i] = marcoLength(r)
	}
	p := planner{layout: someLayouts[0], costs: assumedCosts("gpu"), lengthAware: true}
	for b.Loop() {
		p.plan(lengths, limits{pairs: 256, tokens: 16384})
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte{5, 50, 6, 49}, uint8(0), uint8(2), uint16(1000), true, 1e5, 1e3, 1.0)
	f.Add([]byte{255, 1, 1, 1, 128, 128}, uint8(1), uint8(200), uint16(600), true, 0.0, 1e3, 0.0)
	f.Add([]byte{}, uint8(2), uint8(1), uint16(0), false, 1.0, 1.0, 1.0)
	f.Add([]byte{9, 9, 9, 9, 9, 9, 9}, uint8(4), uint8(3), uint16(64), true, 1e9, 0.0, 0.0)
	f.Fuzz(func(t *testing.T, raw []byte, which, pairs uint8, tokens uint16, aware bool, a, b, c float64) {
		l := someLayouts[int(which)%len(someLayouts)]
		lengths := make([]int, len(raw))
		for i, n := range raw {
			lengths[i] = 3 + int(n)*2
			lengths[i] = min(lengths[i], l.maxWidth)
		}
		model := Costs{positive(a), positive(b), positive(c)}
		limit := limits{pairs: 1 + int(pairs), tokens: max(l.width(l.maxWidth), int(tokens))}
		p := planner{layout: l, costs: model, lengthAware: aware}
		checkPlan(t, l, lengths, p.plan(lengths, limit), limit)
	})
}

// positive makes a cost of any number.
func positive(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return min(math.Abs(x), 1e12)
}
