package report

import (
	"fmt"
	"math"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A measurement is steady if its runs are no further apart than steadySpread, a
// share of their median, and if no more than idleLoad of a core was busy, for
// each core, when it began.
const (
	steadySpread = 0.05
	idleLoad     = 0.25
)

// verdict writes the line that says how far the figures can be trusted.
func (d *document) verdict() {
	before, end, spread := math.NaN(), math.NaN(), math.NaN()
	runs := 0
	for i := range d.result.Points {
		p := &d.result.Points[i]
		if p.Error != "" || len(p.Runs) == 0 {
			continue
		}
		runs = max(runs, len(p.Runs))
		spread = larger(spread, spreadOf(p.Rates()))
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
		verdictOf(spread, before, d.result.Environment.Cores), with(telemetry.Decimals(100*spread, 1), " %"),
		telemetry.Decimals(before, 1), telemetry.Decimals(end, 1), cores(d.result.Environment.Cores))
}

func verdictOf(spread, before float64, cores int) string {
	busy := before > idleLoad*float64(cores)
	switch {
	case spread > steadySpread && busy:
		return "NOISY: the runs are far apart, and the machine was busy with something else"
	case spread > steadySpread:
		return "NOISY: the runs are far apart"
	case busy:
		return "NOISY: the machine was busy with something else when it began"
	case math.IsNaN(spread):
		return "NOT KNOWN: a single run has no spread; --runs 3 measures it"
	case math.IsNaN(before):
		return "steady by its runs; the load of the machine is not known"
	}
	return "steady"
}

// spreadOf returns how far values are apart, as a share of their median; NaN if
// there are fewer than two.
func spreadOf(values []float64) float64 {
	if len(values) < 2 {
		return math.NaN()
	}
	s := telemetry.Summarize(values)
	return (s.Max - s.Min) / s.P50
}

// larger returns the larger number; one that is NaN does not count.
func larger(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}

func cores(n int) string {
	if n == 1 {
		return "1 core"
	}
	return fmt.Sprintf("%d cores", n)
}
