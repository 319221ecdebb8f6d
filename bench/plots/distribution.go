package plots

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// distribution draws the latencies of a run: a histogram and the cumulative share.
func distribution(run *results.Run) ([]*panel, error) {
	latencies := run.Latencies()
	slices.Sort(latencies)
	histogram := newPanel("Latency of requests", "", "requests")
	bins := min(60, max(10, int(math.Sqrt(float64(len(latencies)))*2)))
	bars, err := plotter.NewHist(plotter.Values(latencies), bins)
	if err != nil {
		return nil, err
	}
	bars.FillColor, bars.LineStyle.Width = sky, vg.Points(0.5)
	histogram.Add(bars)
	below := newPanel("Share of requests below", "ms", "%")
	steps := make(plotter.XYs, len(latencies))
	for i, latency := range latencies {
		steps[i] = plotter.XY{X: latency, Y: 100 * float64(i+1) / float64(len(latencies))}
	}
	curve, err := plotter.NewLine(steps)
	if err != nil {
		return nil, err
	}
	curve.StepStyle, curve.Color, curve.Width = plotter.PostStep, blue, vg.Points(1.5)
	below.Add(curve)
	low, high := latencies[0], latencies[len(latencies)-1]
	space := max((high-low)*0.03, high*0.001)
	for _, p := range []*panel{histogram, below} {
		p.X.Min, p.X.Max = low-space, high+space
	}
	histogram.Y.Max *= 1.15
	below.Y.Max = 105
	for i, percentile := range []float64{50, 95, 99} {
		at := telemetry.Percentile(latencies, percentile)
		mark, err := plotter.NewLine(plotter.XYs{{X: at, Y: 0}, {X: at, Y: 105}})
		if err != nil {
			return nil, err
		}
		mark.Color, mark.Width = palettePercentiles[i], vg.Points(1.2)
		mark.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		below.Add(mark)
		below.name(fmt.Sprintf("P%.0f %.1f ms", percentile, at), mark)
	}
	return []*panel{histogram, below}, nil
}
