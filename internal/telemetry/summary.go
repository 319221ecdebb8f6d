package telemetry

import (
	"math"
	"slices"
)

// A Summary describes some values. Deviations are of the population, as numpy
// computes them by default.
type Summary struct {
	N                       int
	Mean, Min, Max, StdDev  float64
	P50, P75, P90, P95, P99 float64
}

// Summarize describes values and leaves them unchanged. All figures of no values
// are NaN.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		nan := math.NaN()
		return Summary{0, nan, nan, nan, nan, nan, nan, nan, nan, nan}
	}
	sorted := slices.Sorted(slices.Values(values))
	sum, squares, n := 0.0, 0.0, float64(len(values))
	for _, v := range values {
		sum += v
	}
	mean := sum / n
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	at := func(p float64) float64 { return percentile(sorted, p) }
	return Summary{
		N: len(values), Mean: mean, Min: sorted[0], Max: sorted[len(sorted)-1], StdDev: math.Sqrt(squares / n),
		P50: at(50), P75: at(75), P90: at(90), P95: at(95), P99: at(99),
	}
}

// Percentile returns the p-th percentile (0 to 100) by linear interpolation
// between two values, NaN if there are no values.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return percentile(slices.Sorted(slices.Values(values)), p)
}

func percentile(sorted []float64, p float64) float64 {
	return interpolate(p, int64(len(sorted)), func(rank int64) float64 { return sorted[rank] })
}

// interpolate returns the p-th percentile of n values, of which ranked returns
// the one with that many values below it. It rounds as numpy does: it starts
// from the nearer neighbour.
func interpolate(p float64, n int64, ranked func(rank int64) float64) float64 {
	at := min(max(p, 0), 100) / 100 * float64(n-1)
	rank := int64(at)
	below, t := ranked(rank), at-float64(rank)
	if t == 0 {
		return below
	}
	above := ranked(rank + 1)
	if t < 0.5 {
		return below + (above-below)*t
	}
	return above - (above-below)*(1-t)
}
