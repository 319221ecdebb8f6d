package report

import (
	"math"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A measurement is steady if the spread of its runs is at most steadySpread of
// their median, and if the load per core was at most idleLoad when it began.
const (
	steadySpread = 0.05
	idleLoad     = 0.25
)

// verdict writes how far the figures can be trusted.
func (d *document) verdict() {
	before, end, spread := math.NaN(), math.NaN(), math.NaN()
	runs := 0
	for i := range d.result.Points {
		p := &d.result.Points[i]
		if p.Error != "" || len(p.Runs) == 0 {
			continue
		}
		runs = max(runs, len(p.Runs))
		spread = larger(spread, relativeSpread(p.Rates()))
		for k := range p.Runs {
			if math.IsNaN(before) {
				before = telemetry.Value(p.Runs[k].LoadBefore)
			}
			end = larger(end, telemetry.Value(p.Runs[k].LoadAfter))
		}
	}
	if runs == 0 {
		return
	}
	d.paragraph("**Verdict:** %s. Spread of the runs %s; load average %s before, up to %s during (%s)",
		judge(spread, before, d.result.Environment.Cores), with(telemetry.Decimals(100*spread, 1), " %"),
		telemetry.Decimals(before, 1), telemetry.Decimals(end, 1), count(d.result.Environment.Cores, "core"))
}

func judge(spread, before float64, cores int) string {
	busy := before > idleLoad*float64(cores)
	switch {
	case spread > steadySpread && busy:
		return "NOISY: the runs are far apart, and the machine was busy with other work"
	case spread > steadySpread:
		return "NOISY: the runs are far apart"
	case busy:
		return "NOISY: the machine was busy with other work at the start"
	case math.IsNaN(spread):
		return "UNKNOWN: one run has no spread; use --runs 3"
	case math.IsNaN(before):
		return "steady, but the load of the machine is unknown"
	}
	return "steady"
}

// relativeSpread returns (max - min) / median, NaN for fewer than two values.
func relativeSpread(values []float64) float64 {
	if len(values) < 2 {
		return math.NaN()
	}
	s := telemetry.Summarize(values)
	return (s.Max - s.Min) / s.P50
}

// larger returns the larger number and ignores NaN.
func larger(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}
