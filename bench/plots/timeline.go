package plots

import (
	"image/color"
	"slices"

	"gonum.org/v1/plot/plotter"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// timeline draws the samples of a run over time.
func timeline(run *results.Run) ([]*panel, error) {
	latency, err := stack(run)
	if err != nil {
		return nil, err
	}
	panels := []*panel{latency}
	for _, of := range []struct {
		title, unit string
		curves      []curve
	}{
		{"Throughput", "pairs/s", []curve{{"", blue, func(s telemetry.Sample) *float64 { return s.ThroughputPairsS }}}},
		{"Padding waste", "%", []curve{{"", blue, func(s telemetry.Sample) *float64 { return s.PaddingWastePct }}}},
		{"Processor and device", "%", []curve{
			{"CPU (100 = one core)", blue, func(s telemetry.Sample) *float64 { return s.CPUUsagePct }},
			{"device busy", orange, func(s telemetry.Sample) *float64 { return s.DeviceBusyPct }},
			{"GPU utilization", green, func(s telemetry.Sample) *float64 { return s.GPUUtilizationPct }},
		}},
		{"Memory", "MB", []curve{
			{"MLX", blue, func(s telemetry.Sample) *float64 { return s.GPUMemoryMB }},
			{"process", orange, func(s telemetry.Sample) *float64 { return s.ProcessMemoryMB }},
		}},
	} {
		p := newPanel(of.title, "", of.unit)
		for _, c := range of.curves {
			if err := p.line(c.name, points(run, c.of), c.color, nil, false); err != nil {
				return nil, err
			}
		}
		fit(p, run)
		panels = append(panels, p)
	}
	panels[len(panels)-1].X.Label.Text = "seconds"
	return panels, nil
}

type curve struct {
	name  string
	color color.Color
	of    func(telemetry.Sample) *float64
}

// points draws each sample at the middle of its interval.
func points(run *results.Run, of func(telemetry.Sample) *float64) plotter.XYs {
	var xy plotter.XYs
	for _, s := range run.Samples {
		if v := of(s); v != nil {
			xy = append(xy, plotter.XY{X: middle(s), Y: *v})
		}
	}
	return xy
}

func middle(s telemetry.Sample) float64 { return (s.FromMS + s.ToMS) / 2000 }

// fit gives all panels the same time axis.
func fit(p *panel, run *results.Run) {
	p.X.Min, p.X.Max = 0, run.Samples[len(run.Samples)-1].ToMS/1000
	p.finish()
}

// stack draws the stages of the latency as stacked areas.
func stack(run *results.Run) (*panel, error) {
	p := newPanel("Latency by stage, means of an interval", "", "ms")
	below := make([]float64, len(run.Samples))
	for _, stage := range []curve{
		{"inference", sky, func(s telemetry.Sample) *float64 { return s.InferenceMS }},
		{"tokenization", green, func(s telemetry.Sample) *float64 { return s.TokenizationMS }},
		{"queue wait", orange, func(s telemetry.Sample) *float64 { return s.QueueWaitMS }},
		{"other", grey, func(s telemetry.Sample) *float64 { return s.OtherMS }},
	} {
		var top, bottom plotter.XYs
		for i, s := range run.Samples {
			if s.LatencyMS == nil {
				continue
			}
			height := 0.0
			if v := stage.of(s); v != nil {
				height = *v
			}
			bottom = append(bottom, plotter.XY{X: middle(s), Y: below[i]})
			below[i] += height
			top = append(top, plotter.XY{X: middle(s), Y: below[i]})
		}
		if len(top) < 2 {
			continue
		}
		slices.Reverse(bottom)
		top = append(top, bottom...)
		area, err := plotter.NewPolygon(top)
		if err != nil {
			return nil, err
		}
		area.Color = stage.color
		area.LineStyle.Width = 0
		p.Add(area)
		p.name(stage.name, area)
	}
	err := p.line("latency", points(run, func(s telemetry.Sample) *float64 { return s.LatencyMS }), black, nil, false)
	fit(p, run)
	return p, err
}
