// Package stats holds the formulas of the benchmark's report that only benchmarks
// use. telemetry.Summarize computes means, deviations and percentiles.
package stats

import (
	"math"

	"gonum.org/v1/gonum/stat"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// Mean returns the mean of each figure over summaries. Its N is their sum.
func Mean(of []telemetry.Summary) telemetry.Summary {
	if len(of) == 0 {
		return telemetry.Summarize(nil)
	}
	var m telemetry.Summary
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

// Correlation returns Pearson's correlation, NaN if one side does not vary.
func Correlation(x, y []float64) float64 {
	if len(x) < 2 {
		return math.NaN()
	}
	return stat.Correlation(x, y, nil)
}

// A Band summarizes the throughputs of the requests with a latency of at least Low
// and less than High.
type Band struct {
	Name      string // from the edges, such as "P50-P75"
	Low, High float64
	Rates     telemetry.Summary
}

// Bands groups requests into the bands between P50, P75 and P90 of their
// latencies. It leaves out empty bands.
func Bands(latencies, rates []float64) []Band {
	s := telemetry.Summarize(latencies)
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
			b.Rates = telemetry.Summarize(inside)
			bands = append(bands, b)
		}
	}
	return bands
}
