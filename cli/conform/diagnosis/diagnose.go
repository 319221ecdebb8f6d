package diagnosis

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// A group holds what is known about the pairs of one query.
type group struct {
	pairs []Pair
	answer
}

// A diagnosis searches for the hypothesis that explains the answers of a server.
type diagnosis struct {
	local  *local
	groups []group
	dev    float64 // standard deviation of the right logits
	grid   grid
	forms  []form
}

// A hypothesis is what a server may do.
type hypothesis struct {
	reading reading
	form    int // index of diagnosis.forms
	order   order
}

// complexity counts the faults of a hypothesis. Any order explains much by chance.
func (d *diagnosis) complexity(h hypothesis) int {
	n := h.reading.parts()
	if d.forms[h.form].fault != "" {
		n++
	}
	switch h.order {
	case orderRight:
	case orderAny:
		n += 2
	default:
		n++
	}
	return n
}

// A comparison holds, for the pairs of some groups, what a server would answer by a
// hypothesis, and by how much its answers differ from that.
type comparison struct {
	predicted []float64
	shares    []float64 // differences of logits as shares of their deviation; NaN where nothing is compared
	signed    []float64 // the same with sign, without allowance for rounding
	logits    []float64
	visible   []bool // a difference of float16's size would show
}

// impossible is the difference where a server answers and the hypothesis cannot.
const impossible = 1e6

// compare compares the answers of some groups with a hypothesis.
func (d *diagnosis) compare(ctx context.Context, h hypothesis, groups []group) (*comparison, error) {
	c := new(comparison)
	f := d.forms[h.form]
	for _, g := range groups {
		logits, err := d.local.score(ctx, h.reading, g.pairs)
		if err != nil {
			return nil, err
		}
		predicted, slopes := f.of(logits), f.slopes(logits)
		from := h.order.of(g.pairs, predicted, g.scores)
		whole := !slices.ContainsFunc(g.scores, math.IsNaN) && g.ranked != nil
		for i, k := range from {
			x, p := g.scores[i], predicted[k]
			if h.order != orderRight && !whole {
				p = math.NaN()
			}
			half := d.grid.half(x) + 2e-7*math.Abs(p)
			slope := max(slopes[k], 1e-12) * d.dev
			c.predicted = append(c.predicted, p)
			c.logits = append(c.logits, logits[k])
			c.signed = append(c.signed, (x-p)/slope)
			share := max(0, math.Abs(x-p)-half) / slope
			if math.IsNaN(logits[i]) && !math.IsNaN(x) {
				share = impossible
			}
			c.shares = append(c.shares, share)
			c.visible = append(c.visible, half < noises[1].rms*slope)
		}
	}
	return c, nil
}

// loss is the root of the mean square of the differences, of which each counts up to
// 3 deviations; +Inf if nothing is compared.
func (c *comparison) loss() float64 {
	sum, n := 0.0, 0
	for _, x := range c.shares {
		if !math.IsNaN(x) {
			x = min(x, 3)
			sum, n = sum+x*x, n+1
		}
	}
	if n == 0 {
		return math.Inf(1)
	}
	return math.Sqrt(sum / float64(n))
}

// max returns the largest difference.
func (c *comparison) max() float64 {
	largest := 0.0
	for _, x := range c.shares {
		if x > largest {
			largest = x
		}
	}
	return largest
}

// noise returns the smallest noise that the differences may be. ok is false if they
// are too large, or not what rounding in a number format makes: such differences are
// in nearly all pairs, and independent of the logit.
func (c *comparison) noise() (_ noise, ok bool) {
	rms, largest := c.loss(), c.max()
	i := slices.IndexFunc(noises, func(n noise) bool { return rms <= n.rms && largest <= n.max })
	switch {
	case i < 0:
		return noise{}, false
	case i > 1 && (c.exactPart() > 0.2 || c.systematic() > 0.5):
		return noise{}, false
	}
	return noises[i], true
}

// exactPart returns the share of exact answers among those where a difference would
// show.
func (c *comparison) exactPart() float64 {
	exact, all := 0, 0
	for i, x := range c.shares {
		if math.IsNaN(x) || !c.visible[i] {
			continue
		}
		if all++; x <= exactMax {
			exact++
		}
	}
	if all == 0 {
		return 1
	}
	return float64(exact) / float64(all)
}

// systematic returns which share of the differences' square a line over the logits
// explains.
func (c *comparison) systematic() float64 {
	var n, sx, sy, sxx, sxy, syy float64
	for i, y := range c.signed {
		if math.IsNaN(c.shares[i]) || !c.visible[i] {
			continue
		}
		x := c.logits[i]
		n, sx, sy, sxx, sxy, syy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y, syy+y*y
	}
	if n < 5 || syy == 0 {
		return 0
	}
	b, a := 0.0, sy/n
	if v := sxx - sx*sx/n; v > 0 {
		b = (sxy - sx*sy/n) / v
		a = (sy - b*sx) / n
	}
	explained := a*sy + b*sxy
	return explained / syy
}

// beyond counts the pairs with a larger difference.
func (c *comparison) beyond(limit float64) int {
	n := 0
	for _, x := range c.shares {
		if x > limit {
			n++
		}
	}
	return n
}

// plain returns the groups without anything special.
func (d *diagnosis) plain() []group {
	var out []group
	for _, g := range d.groups {
		if g.pairs[0].Kind == KindPlain {
			out = append(out, g)
		}
	}
	return out
}

// global finds the hypothesis that explains the plain pairs best. It prefers few
// faults: each must make the differences three times smaller.
func (d *diagnosis) global(ctx context.Context) (hypothesis, *comparison, error) {
	var best hypothesis
	var found *comparison
	least := math.Inf(1)
	readings := globals(d.local.info.Prompt, d.local.openLast != nil)
	slices.SortStableFunc(readings, func(a, b reading) int { return cmp.Compare(a.parts(), b.parts()) })
	for _, r := range readings {
		if found != nil && found.loss() <= exactRMS {
			break // another fault could not explain more
		}
		for form := range d.forms {
			for o := orderRight; o < orders; o++ {
				h := hypothesis{r, form, o}
				c, err := d.compare(ctx, h, d.plain())
				if err != nil {
					return best, nil, err
				}
				if cost := math.Log(c.loss()+exactRMS/3) + float64(d.complexity(h))*math.Log(3); cost < least-1e-9 {
					best, found, least = h, c, cost
				}
			}
		}
	}
	return best, found, nil
}

// explain adds to a hypothesis the changes that explain more pairs, the one that
// explains most first. It returns how many remain unexplained.
func (d *diagnosis) explain(ctx context.Context, h hypothesis, limit float64, more func(reading) []reading) (hypothesis, int, error) {
	c, err := d.compare(ctx, h, d.groups)
	if err != nil {
		return h, 0, err
	}
	left := c.beyond(limit)
	for left > 0 {
		best, least := h, left
		for _, r := range more(h.reading) {
			tried := h
			tried.reading = r
			c, err := d.compare(ctx, tried, d.groups)
			if err != nil {
				return h, 0, err
			}
			if n := c.beyond(limit); n < least {
				best, least = tried, n
			}
		}
		if least == left {
			break
		}
		h, left = best, least
	}
	return h, left, nil
}
