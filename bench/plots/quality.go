package plots

import (
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// A Quality is the quality of rankings whose first Depth documents were reranked.
type Quality struct {
	Depth     int
	MS        float64 // per query
	Value     float64
	Low, High float64 // interval
}

// A QualityCurve holds the quality of a configuration at each depth.
type QualityCurve struct {
	Name   string
	Points []Quality
}

// DrawQuality draws a measure over the depth and over the time, and a line at the
// measure of the first stage. It returns a PNG, or an SVG if svg.
func DrawQuality(measure string, first float64, curves []QualityCurve, svg bool) ([]byte, error) {
	depths := newPanel(measure+" by depth, 95 % interval of the difference", "documents reranked per query", measure)
	times := newPanel(measure+" by time, numbers are depths", "ms per query, scored together", measure)
	depths.legend.TextStyle.Font.Size, times.legend.TextStyle.Font.Size = vg.Points(9), vg.Points(9)
	deepest := 0
	for _, curve := range curves {
		for _, q := range curve.Points {
			deepest = max(deepest, q.Depth)
		}
	}
	// Curves lie side by side, since number formats often give the same values.
	beside := func(i int, q Quality) float64 {
		return float64(q.Depth) + float64(deepest)*0.005*(float64(i)-float64(len(curves)-1)/2)
	}
	if err := qualityPanel(depths, first, curves, beside, true); err != nil {
		return nil, err
	}
	if err := qualityPanel(times, first, curves, func(_ int, q Quality) float64 { return q.MS }, false); err != nil {
		return nil, err
	}
	depths.X.Tick.Marker = depthTicks(curves)
	times.names = nil // the panel above names the same curves
	p := picture{panels: []*panel{depths, times}, stretch: 1.7}
	if svg {
		return p.svg()
	}
	return p.png()
}

// depthTicks has a tick at each depth.
func depthTicks(curves []QualityCurve) plot.ConstantTicks {
	var marks plot.ConstantTicks
	seen := map[int]bool{}
	for _, curve := range curves {
		for _, q := range curve.Points {
			if !seen[q.Depth] {
				seen[q.Depth] = true
				marks = append(marks, plot.Tick{Value: float64(q.Depth), Label: strconv.Itoa(q.Depth)})
			}
		}
	}
	return marks
}

// qualityPanel draws the curves over x, with intervals or else with the depths.
func qualityPanel(p *panel, first float64, curves []QualityCurve, x func(int, Quality) float64, bars bool) error {
	ys, xs := limits{first, first}, limits{math.Inf(1), math.Inf(-1)}
	for i, curve := range curves {
		c := palette[i%len(palette)]
		var s spreads
		labels := plotter.XYLabels{}
		for _, q := range curve.Points {
			at := plotter.XY{X: x(i, q), Y: q.Value}
			s.XYs = append(s.XYs, at)
			s.YErrors = append(s.YErrors, struct{ Low, High float64 }{q.Value - q.Low, q.High - q.Value})
			labels.XYs, labels.Labels = append(labels.XYs, at), append(labels.Labels, strconv.Itoa(q.Depth))
			ys.add(q.Value)
			if bars {
				ys.add(q.Low)
				ys.add(q.High)
			}
			xs.add(at.X)
		}
		if !bars {
			s.YErrors = make(plotter.YErrors, len(s.XYs))
		}
		if err := s.curve(p, curve.Name, c, dashesAfter(i)); err != nil {
			return err
		}
		if bars || len(labels.XYs) == 0 {
			continue
		}
		if err := p.label(labels, c); err != nil {
			return err
		}
	}
	space := max((ys.high-ys.low)*0.12, 0.005)
	p.Y.Min, p.Y.Max = ys.low-space, ys.high+space
	if xs.low > 0 && xs.high >= 8*xs.low && !bars {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, logTicks(xs.low/1.3, xs.high*1.3)
		p.X.Min, p.X.Max = xs.low/1.3, xs.high*1.3
	} else {
		p.X.Min, p.X.Max = 0, xs.high*1.06
	}
	return p.level(first)
}

// logTicks has ticks at 1, 2 and 5 times the powers of 10 between two positive values.
func logTicks(low, high float64) plot.ConstantTicks {
	var marks plot.ConstantTicks
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for _, factor := range []float64{1, 2, 5} {
			if value := factor * power; value >= low && value <= high {
				marks = append(marks, plot.Tick{Value: value, Label: strconv.FormatFloat(value, 'g', 6, 64)})
			}
		}
	}
	return marks
}

// dashesAfter distinguishes curves beyond the last colour.
func dashesAfter(i int) []vg.Length {
	if i < len(palette) {
		return nil
	}
	return []vg.Length{vg.Points(5), vg.Points(3)}
}

// label writes labels above points.
func (p *panel) label(labels plotter.XYLabels, c color.Color) error {
	texts, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	texts.Offset = vg.Point{X: vg.Points(-3), Y: vg.Points(5)}
	for i := range texts.TextStyle {
		texts.TextStyle[i].Color, texts.TextStyle[i].Font.Size, texts.TextStyle[i].Font.Variant = c, vg.Points(8), "Sans"
	}
	p.Add(texts)
	return nil
}

// level draws the line of the first stage over the whole width.
func (p *panel) level(y float64) error {
	line, err := plotter.NewLine(plotter.XYs{{X: p.X.Min, Y: y}, {X: p.X.Max, Y: y}})
	if err != nil {
		return err
	}
	line.Color, line.Width, line.Dashes = grey, vg.Points(1.5), []vg.Length{vg.Points(2), vg.Points(2)}
	p.Add(line)
	p.name("first stage", line)
	return nil
}

// limits are the lowest and the highest value so far.
type limits struct{ low, high float64 }

func (l *limits) add(x float64) { l.low, l.high = min(l.low, x), max(l.high, x) }
