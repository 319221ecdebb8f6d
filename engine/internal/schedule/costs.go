package schedule

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Costs model how many nanoseconds a microbatch takes:
//
//	Microbatch + Token * tokens computed + Square * sum of squared row widths
//
// No term is negative. The sum of squares stands for attention, whose work grows
// with the square of a row's width.
type Costs struct {
	Microbatch float64
	Token      float64
	Square     float64
}

// Of returns the nanoseconds that a microbatch takes.
func (c Costs) Of(m Microbatch) float64 {
	return c.Microbatch + c.Token*float64(m.Computed) + c.Square*m.squares
}

// batch returns how long microbatches take on some workers, each of which takes
// the next microbatch when it is free.
func (c Costs) batch(microbatches []Microbatch, workers int) float64 {
	free := make([]float64, max(1, workers)) // when each worker is
	for _, m := range microbatches {
		first := 0
		for i, at := range free {
			if at < free[first] {
				first = i
			}
		}
		free[first] += c.Of(m)
	}
	end := 0.0
	for _, at := range free {
		end = max(end, at)
	}
	return end
}

// A Sample is a microbatch and how many nanoseconds it took.
type Sample struct {
	Microbatch  Microbatch
	Nanoseconds float64
}

// Fit returns the costs of least squared relative error that are not negative:
// the best of the fits over each subset of the three terms. The error is
// relative because a short microbatch's time matters as much as a long one's.
func Fit(samples []Sample) Costs {
	best, least := Costs{}, math.Inf(1)
	for subset := 1; subset < 8; subset++ {
		x, ok := solve(samples, subset)
		if !ok || x[0] < 0 || x[1] < 0 || x[2] < 0 {
			continue
		}
		c := Costs{x[0], x[1], x[2]}
		if e := squaredError(c, samples); e < least {
			best, least = c, e
		}
	}
	return best
}

func squaredError(c Costs, samples []Sample) float64 {
	sum := 0.0
	for _, s := range samples {
		off := c.Of(s.Microbatch)/s.Nanoseconds - 1
		sum += off * off
	}
	return sum
}

// solve fits the terms in the subset's bits by the normal equations of least
// squares. It is not ok if the samples do not determine them.
func solve(samples []Sample, subset int) (x [3]float64, ok bool) {
	const scale = 256 // brings the sum of squares to the size of the other terms
	var a [3][4]float64
	for _, s := range samples {
		row := [3]float64{1 / s.Nanoseconds, float64(s.Microbatch.Computed) / s.Nanoseconds, s.Microbatch.squares / scale / s.Nanoseconds}
		for i := range 3 {
			if subset>>i&1 == 0 {
				row[i] = 0
			}
		}
		for i := range 3 {
			for k := range 3 {
				a[i][k] += row[i] * row[k]
			}
			a[i][3] += row[i]
		}
	}
	for i := range 3 {
		if subset>>i&1 == 0 {
			a[i][i] = 1
		}
	}
	var pivots [3]float64
	for i := range 3 {
		pivots[i] = a[i][i]
	}
	for i := range 3 { // elimination; a is symmetric and positive, so in order
		if !(a[i][i] > 1e-9*pivots[i]) {
			return x, false
		}
		for r := range 3 {
			if r == i {
				continue
			}
			factor := a[r][i] / a[i][i]
			for k := i; k < 4; k++ {
				a[r][k] -= factor * a[i][k]
			}
		}
	}
	for i := range 3 {
		x[i] = a[i][3] / a[i][i]
	}
	x[2] /= scale
	return x, true
}

// AssumedCosts returns a CPU's costs to plan by until there are measured ones. Only
// how the terms compare matters to a plan, and they are of the right order.
func AssumedCosts() Costs {
	return Costs{Microbatch: 5e5, Token: 2e5, Square: 100}
}

// AssumedGPUCosts returns the same for a GPU. flops is what a token's matmuls take,
// and squareFLOPs what attention takes more for each token of a row's width.
//
// These are predictions, not measurements: half a millisecond for the launches of a
// pass and for waiting, and 65 % of the speed that Apple's chips are rated at, by the
// size that the architecture's last letter names. Attention runs at half that speed,
// since it is bound by memory.
func AssumedGPUCosts(architecture string, flops, squareFLOPs float64) Costs {
	speed := 2.5e12 // of FLOPs a second: M1 to M4
	switch {
	case strings.HasSuffix(architecture, "s"), strings.HasSuffix(architecture, "c"): // Pro and Max
		speed = 7e12
	case strings.HasSuffix(architecture, "d"): // Ultra
		speed = 14e12
	}
	return Costs{Microbatch: 5e5, Token: 1e9 * flops / speed, Square: 2e9 * squareFLOPs / speed}
}

// A Shape is a padded microbatch to measure.
type Shape struct{ Pairs, Width int }

// Shapes lists microbatches of few and many tokens, of narrow and wide rows, by
// increasing work.
func (l Layout) Shapes() []Shape {
	var shapes []Shape
	for _, width := range []int{32, 128, 512} {
		width = min(width, l.MaxWidth)
		for _, rows := range []int{1, l.Tokens / 4 / width, l.Tokens / 2 / width, l.Tokens / width} {
			shape := Shape{Pairs: max(1, rows), Width: width}
			if !slices.Contains(shapes, shape) {
				shapes = append(shapes, shape)
			}
		}
	}
	slices.SortFunc(shapes, func(a, b Shape) int {
		return cmp.Or(cmp.Compare(a.Pairs*a.Width, b.Pairs*b.Width), cmp.Compare(a.Width, b.Width))
	})
	return shapes
}
