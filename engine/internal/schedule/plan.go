package schedule

import (
	"math"
	"slices"
)

// Limits bound a batch.
type Limits struct {
	Pairs  int
	Tokens int // computed, padding included
}

// DefaultLimits keeps a CPU's batches to about a second of work, which is as long
// as a cancelled request can hold the device. A GPU gets more at once.
func DefaultLimits(gpu bool) Limits {
	if gpu {
		return Limits{Pairs: 256, Tokens: 16384}
	}
	return Limits{Pairs: 256, Tokens: 2048}
}

// A Layout describes how the device lays out a microbatch: the pairs that one
// graph computes together. A batch is one microbatch or several.
type Layout struct {
	Unpadded bool // rows stand end to end; otherwise all are as wide as the longest
	Grid     int  // widths of padded rows are multiples of it
	MaxWidth int  // or this
	Workers  int  // microbatches computed at once
	Tokens   int  // max computed tokens of a microbatch, unless one pair alone is longer
}

// Width returns how many tokens are computed for a pair alone in a microbatch.
func (l Layout) Width(length int) int {
	if l.Unpadded {
		return length
	}
	return min((length+l.Grid-1)/l.Grid*l.Grid, max(l.MaxWidth, length))
}

// A Microbatch is some pairs that stand together in a plan's order.
type Microbatch struct {
	Pairs    int
	Computed int     // tokens, padding included
	squares  float64 // sum of the squared row widths: the work of attention
}

// Padded returns a microbatch of rows of one width.
func Padded(pairs, width int) Microbatch {
	computed := pairs * width
	return Microbatch{Pairs: pairs, Computed: computed, squares: float64(computed) * float64(width)}
}

// add returns the microbatch with one more pair, and its new width. widest is
// its width so far.
func (l Layout) add(m Microbatch, widest, length int) (Microbatch, int) {
	w := l.Width(length)
	m.Pairs++
	if l.Unpadded {
		m.Computed += w
		m.squares += float64(w) * float64(w)
		return m, w
	}
	widest = max(widest, w)
	return Padded(m.Pairs, widest), widest
}

// A plan is an order of pairs, by index, and its cut into microbatches.
type plan struct {
	order        []int
	microbatches []Microbatch
}

// A planner cuts pairs into microbatches.
type planner struct {
	layout  Layout
	costs   Costs
	inOrder bool
}

// plan cuts pairs of the given lengths into microbatches within the limits. On a
// padded layout it sorts them, longest first, and cuts where the cost model is
// lowest. On an unpadded layout, or in order, it keeps their order and fills one
// microbatch after another.
func (p *planner) plan(lengths []int, limit Limits) plan {
	limit.Tokens = min(limit.Tokens, p.layout.Tokens)
	share := p.layout.share(lengths, limit)
	if p.inOrder || p.layout.Unpadded {
		return p.layout.fill(lengths, limit, share)
	}
	order := byLength(lengths)
	widths := make([]int, len(order))
	for i, at := range order {
		widths[i] = p.layout.Width(lengths[at])
	}
	return plan{order: order, microbatches: cut(widths, p.costs, limit, share)}
}

// share returns how many tokens each microbatch needs so that all workers end
// together: the microbatches are as few as the limits allow, but a multiple of
// the workers.
func (l Layout) share(lengths []int, limit Limits) int {
	if l.Workers == 1 || len(lengths) == 0 {
		return limit.Tokens
	}
	total := 0
	for _, n := range lengths {
		total += l.Width(n)
	}
	microbatches := max(divideUp(total, limit.Tokens), divideUp(len(lengths), limit.Pairs))
	return divideUp(total, divideUp(microbatches, l.Workers)*l.Workers)
}

// full reports whether a microbatch with one more pair is too large; last is how
// many of its tokens that pair has. A pair more than half inside the share goes
// in, so that rounding leaves no small microbatch for one worker alone at the end.
func full(m Microbatch, last int, limit Limits, share int) bool {
	return m.Pairs > limit.Pairs || m.Computed > limit.Tokens || m.Computed-last/2 > share
}

func divideUp(a, b int) int { return (a + b - 1) / b }

// byLength lists indexes longest first, equal lengths in their order.
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

// fill puts the pairs into microbatches in their order, each as full as can be.
func (l Layout) fill(lengths []int, limit Limits, share int) plan {
	p := plan{order: make([]int, len(lengths))}
	var m Microbatch
	widest := 0
	for i, n := range lengths {
		p.order[i] = i
		next, w := l.add(m, widest, n)
		if m.Pairs > 0 && full(next, l.Width(n), limit, share) {
			p.microbatches = append(p.microbatches, m)
			next, w = l.add(Microbatch{}, 0, n)
		}
		m, widest = next, w
	}
	if m.Pairs > 0 {
		p.microbatches = append(p.microbatches, m)
	}
	return p
}

// cut cuts pairs of the given widths, which descend, into padded microbatches at
// the least total cost. With best(j) for the least cost of the first j pairs,
//
//	best(j) = min over i < j of best(i) + cost of a microbatch of pairs i to j-1,
//
// and that microbatch is as wide as pair i.
func cut(widths []int, c Costs, limit Limits, share int) []Microbatch {
	n := len(widths)
	best, from := make([]float64, n+1), make([]int, n+1)
	for j := range n {
		best[j+1] = math.Inf(1)
	}
	for i, w := range widths {
		most := max(1, min(limit.Pairs, limit.Tokens/w, (share+w/2)/w)) // as in full
		for j := i + 1; j <= min(n, i+most); j++ {
			if cost := best[i] + c.Of(Padded(j-i, w)); cost <= best[j] {
				best[j], from[j] = cost, i
			}
		}
	}
	var microbatches []Microbatch
	for j := n; j > 0; j = from[j] {
		microbatches = append(microbatches, Padded(j-from[j], widths[from[j]]))
	}
	slices.Reverse(microbatches)
	return microbatches
}
