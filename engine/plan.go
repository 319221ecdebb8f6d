package engine

import (
	"math"

	"github.com/mlxrank/mlxrank/mlx"
)

// limits bound a batch.
type limits struct {
	pairs  int
	tokens int // computed, padding included
}

// limitsOf keeps a CPU's batches to about a second of work, which is as long
// as a cancelled request can hold the device; a GPU is given more at once.
func limitsOf(d mlx.Device) limits {
	if d == mlx.GPU {
		return limits{pairs: 256, tokens: 16384}
	}
	return limits{pairs: 256, tokens: 2048}
}

// A layout is how the device lays out a shard: the pairs that one graph
// computes together. A batch is one shard or several.
type layout struct {
	packed   bool // rows end to end, without padding; else all as wide as the longest
	grid     int  // widths of a dense shard are multiples of it
	maxWidth int  // or this
	lanes    int  // shards at work at once
	tokens   int  // most computed tokens in a shard, but for a single pair longer than that
}

// layoutOf is how a session lays out shards, for a model of maxWidth positions.
func layoutOf(l mlx.Layout, maxWidth int) layout {
	return layout{packed: l.Unpadded, grid: l.Grid, maxWidth: maxWidth, lanes: l.Workers, tokens: l.MicrobatchTokens}
}

// width is how many tokens are computed for a pair alone in a shard.
func (l layout) width(length int) int {
	if l.packed {
		return length
	}
	return min((length+l.grid-1)/l.grid*l.grid, max(l.maxWidth, length))
}

// A shard of a plan is some pairs that stand together in its order.
type shard struct {
	pairs    int
	computed int     // tokens, padding included
	squares  float64 // sum of the squared row widths: the work of attention
}

// add is the shard with one more pair of the given length, that before it was
// as wide as widest.
func (l layout) add(s shard, widest, length int) (shard, int) {
	w := l.width(length)
	s.pairs++
	if l.packed {
		s.computed += w
		s.squares += float64(w) * float64(w)
		return s, w
	}
	widest = max(widest, w)
	return dense(s.pairs, widest), widest
}

// dense is a shard of rows that are all as wide.
func dense(pairs, width int) shard {
	computed := pairs * width
	return shard{pairs: pairs, computed: computed, squares: float64(computed) * float64(width)}
}

// A plan is an order of pairs, by their places, and its cut into shards.
type plan struct {
	order  []int
	shards []shard
}

// A planner cuts pairs into shards.
type planner struct {
	layout      layout
	costs       Costs
	lengthAware bool
}

// plan cuts pairs of the given lengths into shards of at most so many pairs
// and computed tokens. Length-aware, a dense layout has them sorted, longest
// first, and cut where the cost model says least; otherwise they keep their
// order and fill one shard after another.
func (p *planner) plan(lengths []int, limit limits) plan {
	limit.tokens = min(limit.tokens, p.layout.tokens)
	share := p.layout.share(lengths, limit)
	if !p.lengthAware || p.layout.packed {
		return p.layout.fill(lengths, limit, share)
	}
	order := byLength(lengths)
	widths := make([]int, len(order))
	for i, at := range order {
		widths[i] = p.layout.width(lengths[at])
	}
	return plan{order: order, shards: cut(widths, p.costs, limit, share)}
}

// share is how many tokens each shard should have so that all lanes end
// together: the shards are as few as the limits allow, but a multiple of the
// lanes.
func (l layout) share(lengths []int, limit limits) int {
	if l.lanes == 1 || len(lengths) == 0 {
		return limit.tokens
	}
	total := 0
	for _, n := range lengths {
		total += l.width(n)
	}
	shards := max(divideUp(total, limit.tokens), divideUp(len(lengths), limit.pairs))
	return divideUp(total, divideUp(shards, l.lanes)*l.lanes)
}

// full says whether a shard is to take no more. A pair more than half inside
// the share goes in, so that rounding leaves no small shard for one lane alone
// at the end; last is how many of its tokens are that pair's.
func full(s shard, last int, limit limits, share int) bool {
	return s.pairs > limit.pairs || s.computed > limit.tokens || s.computed-last/2 > share
}

func divideUp(a, b int) int { return (a + b - 1) / b }

// byLength lists places longest first, equal lengths in their order.
func byLength(lengths []int) []int {
	longest := 0
	for _, n := range lengths {
		longest = max(longest, n)
	}
	starts := make([]int, longest+2) // of each length, counted from the longest
	for _, n := range lengths {
		starts[longest-n+1]++
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	order := make([]int, len(lengths))
	for at, n := range lengths {
		order[starts[longest-n]] = at
		starts[longest-n]++
	}
	return order
}

// fill puts the pairs into shards in their order, each as full as can be.
func (l layout) fill(lengths []int, limit limits, share int) plan {
	p := plan{order: make([]int, len(lengths))}
	var s shard
	widest := 0
	for i, n := range lengths {
		p.order[i] = i
		next, w := l.add(s, widest, n)
		if s.pairs > 0 && full(next, l.width(n), limit, share) {
			p.shards = append(p.shards, s)
			next, w = l.add(shard{}, 0, n)
		}
		s, widest = next, w
	}
	if s.pairs > 0 {
		p.shards = append(p.shards, s)
	}
	return p
}

// cut cuts pairs of the given widths, which descend, into dense shards at the
// least cost in all. With best(j) for the least cost of the first j pairs,
//
//	best(j) = min over i < j of best(i) + cost of a shard of pairs i to j-1.
//
// That shard is as wide as pair i, and costs satisfy the quadrangle inequality:
// if a later i is the better for some j, it stays so for every later j. So each
// i is best in one stretch of j's, and the stretches are found with a queue and
// binary search, in n log n steps. Limits keep the property: they rule out
// earlier i's first.
func cut(widths []int, c Costs, limit limits, share int) []shard {
	n := len(widths)
	best := make([]float64, n+1)
	from := make([]int, n+1)
	last := make([]int, n) // last j that a shard from i on may end at
	for i, w := range widths {
		last[i] = i + max(1, min(limit.pairs, limit.tokens/w, (share+w/2)/w)) // as full says
	}
	cost := func(i, j int) float64 {
		if j > last[i] {
			return math.Inf(1)
		}
		return best[i] + c.of(dense(j-i, widths[i]))
	}
	type stretch struct{ i, start int } // i is best from start on
	queue := make([]stretch, 0, n)
	head := 0
	for j := 1; j <= n; j++ {
		i := j - 1 // is known now: find where it begins to be best
		start := j
		for len(queue) > head {
			back := queue[len(queue)-1]
			if at := max(back.start, j); cost(i, at) <= cost(back.i, at) {
				queue = queue[:len(queue)-1]
				continue
			}
			low, high := max(back.start, j)+1, n+1 // the first place where i is no worse
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

// spans walks back from the end.
func spans(widths, from []int) []shard {
	count := 0
	for j := len(widths); j > 0; j = from[j] {
		count++
	}
	shards := make([]shard, count)
	for j := len(widths); j > 0; j = from[j] {
		count--
		shards[count] = dense(j-from[j], widths[from[j]])
	}
	return shards
}
