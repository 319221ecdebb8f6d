package plots

import (
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// An axis is a swept number on the x axis.
type axis struct {
	key, label string
	of         func(experiment.Settings) float64
}

var axes = []axis{
	{"batch", "pairs per request", func(s experiment.Settings) float64 { return float64(s.Batch) }},
	{"concurrency", "concurrent requests", func(s experiment.Settings) float64 { return float64(s.Concurrency) }},
	{"rate", "requests per second", func(s experiment.Settings) float64 { return s.Rate }},
	{"max_batch", "max pairs per batch", func(s experiment.Settings) float64 { return float64(s.MaxBatch) }},
	{"max_length", "max tokens per pair", func(s experiment.Settings) float64 { return float64(s.MaxLength) }},
	{"batch_timeout_ms", "batch timeout, ms", func(s experiment.Settings) float64 { return s.BatchTimeoutMS }},
	{"threads", "CPU threads", func(s experiment.Settings) float64 { return float64(s.Threads) }},
	{"tokenizer_workers", "tokenizer workers", func(s experiment.Settings) float64 { return float64(s.TokenizerWorkers) }},
}

// sweeps draws throughput and P95 over each swept number, with a curve for each
// combination of the other settings.
func sweeps(r *results.Result) ([]picture, error) {
	var pictures []picture
	for _, a := range axes {
		if !slices.Contains(r.Swept, a.key) {
			continue
		}
		rate := newPanel("Throughput", "", "pairs/s")
		tail := newPanel("P95 of latency", a.label, "ms")
		for i, group := range a.groups(r) {
			c := palette[i%len(palette)]
			var dashes []vg.Length // after the last colour
			if i >= len(palette) {
				dashes = []vg.Length{vg.Points(5), vg.Points(3)}
			}
			if err := group.rates.curve(rate, group.name, c, dashes); err != nil {
				return nil, err
			}
			if err := group.tails.curve(tail, group.name, c, dashes); err != nil {
				return nil, err
			}
		}
		for _, p := range []*panel{rate, tail} {
			a.scale(p, r)
		}
		tail.names = nil // the panel above names the same curves
		pictures = append(pictures, picture{file: "sweep_" + a.key, title: "Throughput and P95 over " + a.key, panels: []*panel{rate, tail}})
	}
	return pictures, nil
}

// scale adds a tick at each value, on a logarithmic axis if they span a factor of 8.
func (a axis) scale(p *panel, r *results.Result) {
	var marks plot.ConstantTicks
	for _, point := range r.Points {
		x := a.of(point.Settings)
		if slices.ContainsFunc(marks, func(t plot.Tick) bool { return t.Value == x }) {
			continue
		}
		marks = append(marks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'g', -1, 64)})
	}
	p.X.Tick.Marker = marks
	p.finish()
	low, high := marks[0].Value, marks[0].Value
	for _, mark := range marks {
		low, high = min(low, mark.Value), max(high, mark.Value)
	}
	if low > 0 && high >= 8*low {
		p.X.Scale = plot.LogScale{}
		p.X.Min, p.X.Max = low/1.1, high*1.1
		return
	}
	space := max((high-low)*0.04, 0.5)
	p.X.Min, p.X.Max = low-space, high+space
}

// A group holds points that differ only in the axis.
type group struct {
	name         string
	rates, tails spreads
}

// spreads are the points of a curve with error bars from the lowest to the highest
// run.
type spreads struct {
	plotter.XYs
	plotter.YErrors
}

// add adds a point with several runs.
func (s *spreads) add(x, y float64, runs []float64) {
	s.XYs = append(s.XYs, plotter.XY{X: x, Y: y})
	s.YErrors = append(s.YErrors, struct{ Low, High float64 }{y - min(y, slices.Min(runs)), max(y, slices.Max(runs)) - y})
}

// apart reports whether the runs of any point differ.
func (s *spreads) apart() bool {
	return slices.ContainsFunc(s.YErrors, func(e struct{ Low, High float64 }) bool { return e.Low > 0 || e.High > 0 })
}

// curve adds the curve to a panel, with error bars if runs differ.
func (s *spreads) curve(p *panel, name string, c color.RGBA, dashes []vg.Length) error {
	if s.apart() {
		bars, err := plotter.NewYErrorBars(s)
		if err != nil {
			return err
		}
		bars.Color, bars.Width = c, vg.Points(1)
		p.Add(bars)
	}
	return p.line(name, s.XYs, c, dashes, true)
}

func (a axis) groups(r *results.Result) []*group {
	others := slices.DeleteFunc(slices.Clone(r.Swept), func(key string) bool { return key == a.key })
	var groups []*group
	for i := range r.Points {
		p := &r.Points[i]
		rate, tail, tails := pointRates(p)
		if p.Error != "" || math.IsNaN(tail) {
			continue
		}
		var values []string
		for _, key := range others {
			values = append(values, key+"="+p.Settings.Value(key))
		}
		name := strings.Join(values, ", ")
		at := slices.IndexFunc(groups, func(g *group) bool { return g.name == name })
		if at < 0 {
			at = len(groups)
			groups = append(groups, &group{name: name})
		}
		x := a.of(p.Settings)
		groups[at].rates.add(x, rate, p.Rates())
		groups[at].tails.add(x, tail, tails)
	}
	return groups
}

// pointRates returns the throughput and the P95 latency that the report shows for a
// point, and the P95 of each of its runs. They are NaN if a run has no requests.
func pointRates(p *results.Point) (rate, tail float64, tails []float64) {
	shown := p.Shown()
	if len(shown) == 0 {
		return math.NaN(), math.NaN(), nil
	}
	for _, run := range shown {
		rate += run.Throughput() / float64(len(shown))
		tail += telemetry.Percentile(run.Latencies(), 95) / float64(len(shown))
	}
	for i := range p.Runs {
		tails = append(tails, telemetry.Percentile(p.Runs[i].Latencies(), 95))
	}
	return rate, tail, tails
}
