package engine

import (
	"math"
)

// Costs are a model of how long a shard, the pairs that are computed together,
// takes in nanoseconds:
//
//	Shard + Token * tokens computed + Square * sum of squared row widths
//
// None is negative. The sum of squares stands for attention, whose work grows
// with the square of a row's width.
type Costs struct {
	Shard  float64 `json:"shard_ns"`
	Token  float64 `json:"token_ns"`
	Square float64 `json:"square_ns"`
}

func (c Costs) of(s shard) float64 {
	return c.Shard + c.Token*float64(s.computed) + c.Square*s.squares
}

// batch is how long shards take on so many lanes, each taking the next shard
// when it is free.
func (c Costs) batch(shards []shard, lanes int) float64 {
	free := make([]float64, max(1, lanes)) // when each lane is
	for _, s := range shards {
		first := 0
		for i, at := range free {
			if at < free[first] {
				first = i
			}
		}
		free[first] += c.of(s)
	}
	end := 0.0
	for _, at := range free {
		end = max(end, at)
	}
	return end
}

// A sample is a shard and how long it took.
type sample struct {
	shard shard
	ns    float64
}

// fit finds the costs of least squared relative error that are not negative:
// the best of the fits over each subset of the three terms. Relative, since a
// short shard's time matters as much as a long one's.
func fit(samples []sample) Costs {
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

func squaredError(c Costs, samples []sample) float64 {
	sum := 0.0
	for _, s := range samples {
		off := c.of(s.shard)/s.ns - 1
		sum += off * off
	}
	return sum
}

// solve is the least-squares fit over the terms in the subset's bits, by the
// normal equations; not ok if the samples do not determine them.
func solve(samples []sample, subset int) (x [3]float64, ok bool) {
	var a [3][4]float64
	for _, s := range samples {
		// Scaled, so that the terms are of like size.
		row := [3]float64{1 / s.ns, float64(s.shard.computed) / s.ns, s.shard.squares / 256 / s.ns}
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
	var scale [3]float64
	for i := range 3 {
		scale[i] = a[i][i]
	}
	for i := range 3 { // elimination; a is symmetric and positive, so in order
		if !(a[i][i] > 1e-9*scale[i]) {
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
	x[2] /= 256
	return x, true
}
