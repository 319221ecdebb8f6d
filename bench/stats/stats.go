// Package stats holds the formulas of the benchmark's report. Percentiles are
// by linear interpolation between order statistics and deviations are of the
// population, as numpy has them by default.
package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// A Summary describes some values.
type Summary struct {
	N                       int
	Mean, Min, Max, StdDev  float64
	P50, P75, P90, P95, P99 float64
}

// Summarize describes values, which stay as they are. Of no values, all figures
// are NaN.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		nan := math.NaN()
		return Summary{0, nan, nan, nan, nan, nan, nan, nan, nan, nan}
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	mean, deviation := stat.PopMeanStdDev(values, nil)
	at := func(p float64) float64 { return percentile(sorted, p) }
	return Summary{
		N: len(values), Mean: mean, Min: sorted[0], Max: sorted[len(sorted)-1], StdDev: deviation,
		P50: at(50), P75: at(75), P90: at(90), P95: at(95), P99: at(99),
	}
}

// Mean returns the mean of each figure of some summaries; its N is their sum.
func Mean(of []Summary) Summary {
	if len(of) == 0 {
		return Summarize(nil)
	}
	var m Summary
	n := float64(len(of))
	for _, s := range of {
		m.N += s.N
		for _, f := range []struct {
			to    *float64
			value float64
		}{
			{&m.Mean, s.Mean}, {&m.Min, s.Min}, {&m.Max, s.Max}, {&m.StdDev, s.StdDev},
			{&m.P50, s.P50}, {&m.P75, s.P75}, {&m.P90, s.P90}, {&m.P95, s.P95}, {&m.P99, s.P99},
		} {
			*f.to += f.value / n
		}
	}
	return m
}

// Percentile is the value below which p percent of the values are, NaN if there
// are none.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return percentile(sorted, p)
}

// percentile rounds as numpy does: it starts from the nearer neighbour.
// gonum's stat.Quantile has another definition of linear interpolation.
func percentile(sorted []float64, p float64) float64 {
	at := p / 100 * float64(len(sorted)-1)
	below := min(int(at), len(sorted)-1)
	above := min(below+1, len(sorted)-1)
	t, step := at-float64(below), sorted[above]-sorted[below]
	if t < 0.5 {
		return sorted[below] + step*t
	}
	return sorted[above] - step*(1-t)
}

// Correlation is Pearson's, NaN where one side does not vary.
func Correlation(x, y []float64) float64 {
	if len(x) < 2 {
		return math.NaN()
	}
	return stat.Correlation(x, y, nil)
}

// A Band is the throughputs of the requests whose latency is from Low up to,
// but not including, High.
type Band struct {
	Name      string // of its edges: "P50-P75"
	Low, High float64
	Rates     Summary
}

// Bands sorts requests into the bands between P50, P75 and P90 of their
// latencies. Bands that nothing falls into are left out.
func Bands(latencies, rates []float64) []Band {
	s := Summarize(latencies)
	edges := []Band{
		{Name: "P50", Low: math.Inf(-1), High: s.P50},
		{Name: "P50-P75", Low: s.P50, High: s.P75},
		{Name: "P75-P90", Low: s.P75, High: s.P90},
		{Name: "P90+", Low: s.P90, High: math.Inf(1)},
	}
	var bands []Band
	for _, b := range edges {
		var inside []float64
		for i, latency := range latencies {
			if latency >= b.Low && latency < b.High {
				inside = append(inside, rates[i])
			}
		}
		if len(inside) > 0 {
			b.Rates = Summarize(inside)
			bands = append(bands, b)
		}
	}
	return bands
}
