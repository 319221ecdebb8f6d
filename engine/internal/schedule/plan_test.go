package schedule

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

var someLayouts = []Layout{
	{Grid: 16, MaxWidth: 512, Workers: 1, Tokens: 16384}, // a GPU's
	{Grid: 1, MaxWidth: 512, Workers: 2, Tokens: 512},    // a CPU's
	{Grid: 1, MaxWidth: 512, Workers: 8, Tokens: 512},
	{Grid: 16, MaxWidth: 100, Workers: 3, Tokens: 300},
	{Unpadded: true, MaxWidth: 512, Workers: 2, Tokens: 512},
}

func randomLengths(r *rand.Rand, n, longest int) []int {
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = 3 + int(float64(longest-3)*math.Pow(r.Float64(), 3))
	}
	return lengths
}

func randomCosts(r *rand.Rand) Costs {
	c := Costs{Microbatch: math.Pow(10, 3+4*r.Float64()), Token: math.Pow(10, 2+3*r.Float64()), Square: math.Pow(10, 2*r.Float64())}
	switch r.IntN(6) {
	case 0:
		c.Microbatch = 0
	case 1:
		c.Square = 0
	}
	return c
}

// checkPlan checks that each pair is in the plan once, that the microbatches'
// figures are right, and that they are within the limits.
func checkPlan(t testing.TB, l Layout, lengths []int, p plan, limit Limits) {
	t.Helper()
	places := slices.Sorted(slices.Values(p.order))
	for i, at := range places {
		if at != i {
			t.Fatalf("index %d is missing or repeated: %v", i, p.order)
		}
	}
	at := 0
	for _, s := range p.microbatches {
		if s.Pairs < 1 || at+s.Pairs > len(p.order) {
			t.Fatalf("microbatches %v of %d pairs", p.microbatches, len(p.order))
		}
		widest, sum, squares := 0, 0, 0.0
		for _, place := range p.order[at : at+s.Pairs] {
			w := l.Width(lengths[place])
			widest, sum, squares = max(widest, w), sum+w, squares+float64(w*w)
		}
		if !l.Unpadded {
			sum, squares = s.Pairs*widest, float64(s.Pairs*widest*widest)
		}
		if s.Computed != sum || s.squares != squares {
			t.Fatalf("microbatch %+v computes %d tokens, squares %v", s, sum, squares)
		}
		if s.Pairs > limit.Pairs || s.Pairs > 1 && s.Computed > min(limit.Tokens, l.Tokens) {
			t.Fatalf("microbatch %+v exceeds %+v of %+v", s, limit, l)
		}
		at += s.Pairs
	}
	if at != len(lengths) || len(p.order) != len(lengths) {
		t.Fatalf("%d of %d pairs planned", at, len(lengths))
	}
}

func TestPlanKeepsItsLimits(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		l := someLayouts[r.IntN(len(someLayouts))]
		p := planner{layout: l, costs: randomCosts(r), inOrder: r.IntN(3) == 0}
		lengths := randomLengths(r, r.IntN(120), 3+r.IntN(l.MaxWidth-2))
		limit := Limits{Pairs: 1 + r.IntN(40), Tokens: l.MaxWidth + r.IntN(3000)}
		got := p.plan(lengths, limit)
		checkPlan(t, l, lengths, got, limit)
		if again := p.plan(lengths, limit); !reflect.DeepEqual(got, again) {
			t.Fatalf("two plans of %v: %v and %v", lengths, got, again)
		}
		if p.inOrder && !slices.IsSorted(got.order) {
			t.Fatalf("order %v, want the given order", got.order)
		}
	}
}

// cutSlowly returns the cost of the best of all possible cuts.
func cutSlowly(widths []int, c Costs, limit Limits, share int) float64 {
	best := make([]float64, len(widths)+1)
	for j := 1; j <= len(widths); j++ {
		best[j] = math.Inf(1)
		for i := j - 1; i >= 0; i-- {
			s := Padded(j-i, widths[i])
			if s.Pairs == 1 || !full(s, widths[i], limit, share) {
				best[j] = min(best[j], best[i]+c.Of(s))
			}
		}
	}
	return best[len(widths)]
}

func total(c Costs, microbatches []Microbatch) float64 {
	sum := 0.0
	for _, s := range microbatches {
		sum += c.Of(s)
	}
	return sum
}

func TestCutIsOptimal(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	same := 0
	for range 4000 {
		widths := randomLengths(r, 1+r.IntN(70), 4+r.IntN(500))
		slices.SortFunc(widths, func(a, b int) int { return b - a })
		limit := Limits{Pairs: 1 + r.IntN(30), Tokens: 1 + r.IntN(3000)}
		share := limit.Tokens
		if r.IntN(2) == 0 {
			share = 1 + r.IntN(limit.Tokens)
		}
		c := randomCosts(r)
		plan, stretches := cut(widths, c, limit, share), cutByStretches(widths, c, limit, share)
		if slices.Equal(plan, stretches) {
			same++
		} else if off := total(c, plan)/total(c, stretches) - 1; math.Abs(off) > 1e-12 { // otherwise a tie
			t.Fatalf("%v with %+v, %+v, share %d: plan %v, by stretches %v", widths, c, limit, share, plan, stretches)
		}
		got, want := total(c, plan), cutSlowly(widths, c, limit, share)
		if math.Abs(got-want) > 1e-9*want {
			t.Fatalf("%v with %+v, %+v, share %d: costs %v, the best is %v", widths, c, limit, share, got, want)
		}
	}
	if same < 3000 {
		t.Errorf("%d of 4000 plans are equal to those by stretches; the others tie", same)
	}
	t.Logf("%d of 4000 plans are equal to those by stretches", same)
}

// cutByStretches cuts as cut does, in n log n steps. Costs satisfy the quadrangle
// inequality: a later i that is better for some j stays better for every later j.
// So each i is best for one stretch of j's, which a queue and a binary search
// find. Limits keep the property, since they exclude earlier i's first.
func cutByStretches(widths []int, c Costs, limit Limits, share int) []Microbatch {
	n := len(widths)
	best := make([]float64, n+1)
	from := make([]int, n+1)
	last := make([]int, n) // last[i] is the last end of a microbatch that begins at i
	for i, w := range widths {
		last[i] = i + max(1, min(limit.Pairs, limit.Tokens/w, (share+w/2)/w)) // as full says
	}
	cost := func(i, j int) float64 {
		if j > last[i] {
			return math.Inf(1)
		}
		return best[i] + c.Of(Padded(j-i, widths[i]))
	}
	type stretch struct{ i, start int } // i is best from start
	queue := make([]stretch, 0, n)
	head := 0
	for j := 1; j <= n; j++ {
		i := j - 1 // from[i] is known now: find where i begins to be best
		start := j
		for len(queue) > head {
			back := queue[len(queue)-1]
			if at := max(back.start, j); cost(i, at) <= cost(back.i, at) {
				queue = queue[:len(queue)-1]
				continue
			}
			low, high := max(back.start, j)+1, n+1 // the first index where i is not worse
			for low < high {
				mid := (low + high) / 2
				if cost(i, mid) <= cost(back.i, mid) {
					high = mid
				} else {
					low = mid + 1
				}
			}
			start = low
			break
		}
		if start <= n {
			queue = append(queue, stretch{i, start})
		}
		for head+1 < len(queue) && queue[head+1].start <= j {
			head++
		}
		from[j] = queue[head].i
		best[j] = cost(from[j], j)
	}
	return spans(widths, from)
}

// spans returns the microbatches of the cuts in from, walking back from the end.
func spans(widths, from []int) []Microbatch {
	count := 0
	for j := len(widths); j > 0; j = from[j] {
		count++
	}
	microbatches := make([]Microbatch, count)
	for j := len(widths); j > 0; j = from[j] {
		count--
		microbatches[count] = Padded(j-from[j], widths[from[j]])
	}
	return microbatches
}

// inOrder cuts pairs in the given order into microbatches of the given number of
// pairs, or fewer where the limits require it.
func inOrder(l Layout, lengths []int, pairs int, limit Limits) []Microbatch {
	var microbatches []Microbatch
	var s Microbatch
	widest := 0
	for _, n := range lengths {
		next, w := l.add(s, widest, n)
		if s.Pairs > 0 && (s.Pairs == pairs || full(next, l.Width(n), limit, limit.Tokens)) {
			microbatches = append(microbatches, s)
			next, w = l.add(Microbatch{}, 0, n)
		}
		s, widest = next, w
	}
	return append(microbatches, s)
}

// By its own cost model, a plan is never worse than batches of any fixed size, in
// order of arrival or sorted by length.
func TestPlanBeatsArrivalOrderAndFixedSizes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	won, fixed := 0.0, 0
	for range 1500 {
		l := someLayouts[0]
		p := planner{layout: l, costs: randomCosts(r)}
		lengths := randomLengths(r, 1+r.IntN(300), 512)
		limit := Limits{Pairs: 1 + r.IntN(256), Tokens: l.MaxWidth + r.IntN(16384)}
		plan := p.plan(lengths, limit)
		cost := total(p.costs, plan.microbatches)
		sorted := slices.Clone(lengths)
		slices.SortFunc(sorted, func(a, b int) int { return b - a })
		for size := 1; size <= limit.Pairs; size += 1 + r.IntN(20) {
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

// Workers finish at about the same time, even with few pairs.
func TestWorkIsDividedEvenly(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	c := Costs{Microbatch: 1e5, Token: 1e4, Square: 10}
	worst, sum, n := 0.0, 0.0, 0
	for range 500 {
		l := Layout{Grid: 1, MaxWidth: 512, Workers: 1 + r.IntN(4), Tokens: 512}
		lengths := randomLengths(r, l.Workers*(4+r.IntN(30)), 300)
		p := planner{layout: l, costs: c}
		microbatches := p.plan(lengths, Limits{Pairs: 256, Tokens: 1 << 20}).microbatches
		off := c.batch(microbatches, l.Workers)/(total(c, microbatches)/float64(l.Workers)) - 1
		worst, sum, n = max(worst, off), sum+off, n+1
	}
	if sum/float64(n) > 0.15 {
		t.Errorf("workers take %.0f %% longer than if the work were divided evenly", 100*sum/float64(n))
	}
	t.Logf("%.1f %% longer on average, %.0f %% at worst", 100*sum/float64(n), 100*worst)
}

// TestPaddingBeyondTheGrid bounds the padding beyond the grid for ten thousand
// pairs with lengths like MS MARCO's.
func TestPaddingBeyondTheGrid(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	for name, test := range map[string]struct {
		device   Layout
		costs    Costs
		pairs    int
		most     float64 // percent
		lengthOf func() int
	}{
		"offline, GPU": {someLayouts[0], Costs{1e6, 1e4, 2}, 10000, 1, func() int { return marcoLength(r) }},
		"offline, CPU": {someLayouts[1], Costs{5e5, 2e5, 100}, 1024, 1, func() int { return marcoLength(r) }},
	} {
		lengths := make([]int, test.pairs)
		for i := range lengths {
			lengths[i] = test.lengthOf()
		}
		p := planner{layout: test.device, costs: test.costs}
		grid, computed := 0, 0
		for _, n := range lengths {
			grid += test.device.Width(n)
		}
		for _, s := range p.plan(lengths, Limits{Pairs: 256, Tokens: 16384}).microbatches {
			computed += s.Computed
		}
		pct := 100 * float64(computed-grid) / float64(computed)
		if pct > test.most {
			t.Errorf("%s: %.2f %% padding beyond the grid, want at most %g", name, pct, test.most)
		}
		t.Logf("%s: %.2f %% padding beyond the grid", name, pct)
	}
}

// marcoLength returns a length like that of an MS MARCO pair: about 95 tokens,
// from 30 to 250.
func marcoLength(r *rand.Rand) int {
	return min(max(int(90*math.Exp(0.33*r.NormFloat64())), 20), 512)
}

func TestFitFindsTheCosts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		want := randomCosts(r)
		var samples []Sample
		for _, shape := range someLayouts[r.IntN(2)].Shapes() {
			s := Padded(shape.Pairs, shape.Width)
			samples = append(samples, Sample{s, want.Of(s)})
		}
		got := Fit(samples)
		for _, s := range samples {
			if off := math.Abs(got.Of(s.Microbatch)/s.Nanoseconds - 1); off > 1e-6 {
				t.Fatalf("%+v fitted as %+v: off by %g on %+v", want, got, off, s.Microbatch)
			}
		}
	}
	// Noise must not make a term negative.
	for range 300 {
		want := randomCosts(r)
		var samples []Sample
		for _, shape := range someLayouts[0].Shapes() {
			s := Padded(shape.Pairs, shape.Width)
			samples = append(samples, Sample{s, want.Of(s) * (0.9 + 0.2*r.Float64())})
		}
		got := Fit(samples)
		if min(got.Microbatch, got.Token, got.Square) < 0 {
			t.Fatalf("%+v", got)
		}
		for _, s := range samples {
			if off := math.Abs(got.Of(s.Microbatch)/want.Of(s.Microbatch) - 1); off > 0.15 {
				t.Fatalf("%+v fitted as %+v: off by %g on %+v", want, got, off, s.Microbatch)
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
		p := planner{layout: l, costs: AssumedCosts()}
		const most = 50 * time.Millisecond // ten times the goal, for runs with the race detector
		least := time.Hour
		for begun := time.Now(); least > most && time.Since(begun) < 5*time.Second; { // other programs may run beside it
			start := time.Now()
			p.plan(lengths, Limits{Pairs: 256, Tokens: 16384})
			least = min(least, time.Since(start))
		}
		if least > most {
			t.Errorf("%+v: 10,000 pairs planned in %v, want at most %v", l, least, most)
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
	p := planner{layout: someLayouts[0], costs: AssumedGPUCosts("applegpu_g16s", 2e7, 9216)}
	for b.Loop() {
		p.plan(lengths, Limits{Pairs: 256, Tokens: 16384})
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte{5, 50, 6, 49}, uint8(0), uint8(2), uint16(1000), false, 1e5, 1e3, 1.0)
	f.Add([]byte{255, 1, 1, 1, 128, 128}, uint8(1), uint8(200), uint16(600), false, 0.0, 1e3, 0.0)
	f.Add([]byte{}, uint8(2), uint8(1), uint16(0), true, 1.0, 1.0, 1.0)
	f.Add([]byte{9, 9, 9, 9, 9, 9, 9}, uint8(4), uint8(3), uint16(64), false, 1e9, 0.0, 0.0)
	f.Fuzz(func(t *testing.T, raw []byte, which, pairs uint8, tokens uint16, inOrder bool, a, b, c float64) {
		l := someLayouts[int(which)%len(someLayouts)]
		lengths := make([]int, len(raw))
		for i, n := range raw {
			lengths[i] = 3 + int(n)*2
			lengths[i] = min(lengths[i], l.MaxWidth)
		}
		model := Costs{positive(a), positive(b), positive(c)}
		limit := Limits{Pairs: 1 + int(pairs), Tokens: max(l.Width(l.MaxWidth), int(tokens))}
		p := planner{layout: l, costs: model, inOrder: inOrder}
		checkPlan(t, l, lengths, p.plan(lengths, limit), limit)
	})
}

// positive turns any number into a cost.
func positive(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return min(math.Abs(x), 1e12)
}

// BenchmarkPlanReach plans the sizes that occur: up to reach pairs.
func BenchmarkPlanReach(b *testing.B) {
	r := rand.New(rand.NewPCG(17, 18))
	lengths := make([]int, reach)
	for i := range lengths {
		lengths[i] = marcoLength(r)
	}
	for name, gpu := range map[string]bool{"GPU": true, "CPU": false} {
		b.Run(name, func(b *testing.B) {
			p := planner{layout: someLayouts[1], costs: AssumedCosts()}
			if gpu {
				p.layout, p.costs = someLayouts[0], AssumedGPUCosts("applegpu_g16s", 2e7, 9216)
			}
			for b.Loop() {
				p.plan(lengths, DefaultLimits(gpu))
			}
		})
	}
}

// The assumed costs of a GPU put MiniLM's rerank of 20 documents of 128 tokens where
// the arithmetic of the chips does, within a factor of two of the chips of a size.
func TestAssumedGPUCosts(t *testing.T) {
	const flops, squareFLOPs = 2 * 6 * (4*384*384 + 2*384*1536), 4 * 6 * 384
	for architecture, want := range map[string][2]float64{ // least and most milliseconds
		"applegpu_g13g": {20, 50}, // M1 45, M4 27
		"applegpu_g16s": {6, 13},  // M4 Pro 12.6, M4 Max 6.6
		"applegpu_g15d": {3, 7},
		"":              {20, 50},
	} {
		c := AssumedGPUCosts(architecture, flops, squareFLOPs)
		if ms := c.Of(Padded(20, 128)) / 1e6; ms < want[0] || ms > want[1] {
			t.Errorf("%q: %.1f ms, want %v", architecture, ms, want)
		}
	}
	// On a Max two rows that would be padded by half a launch's worth stay together.
	p := planner{layout: Layout{Grid: 16, MaxWidth: 512, Workers: 1, Tokens: 16384}, costs: AssumedGPUCosts("applegpu_g16s", flops, squareFLOPs)}
	if got := p.plan([]int{128, 64}, Limits{Pairs: 256, Tokens: 16384}); len(got.microbatches) != 1 {
		t.Errorf("split into %+v", got.microbatches)
	}
}
