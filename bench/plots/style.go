package plots

import (
	"image/color"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Colours that most colour-blind people can distinguish (Okabe and Ito).
var (
	blue   = color.RGBA{R: 0, G: 114, B: 178, A: 255}
	orange = color.RGBA{R: 230, G: 159, B: 0, A: 255}
	green  = color.RGBA{R: 0, G: 158, B: 115, A: 255}
	red    = color.RGBA{R: 213, G: 94, B: 0, A: 255}
	sky    = color.RGBA{R: 86, G: 180, B: 233, A: 255}
	purple = color.RGBA{R: 204, G: 121, B: 167, A: 255}
	grey   = color.RGBA{R: 190, G: 190, B: 190, A: 255}
	faint  = color.RGBA{R: 225, G: 225, B: 225, A: 255}
	black  = color.RGBA{A: 255}
)

var palette = []color.RGBA{blue, orange, green, red, purple, sky, black}

// palettePercentiles are the colours of P50, P95 and P99.
var palettePercentiles = []color.RGBA{green, orange, red}

// newPanel makes a panel with a grid and a y axis that begins at 0.
func newPanel(title, x, y string) *panel {
	p := &panel{Plot: plot.New(), legend: plot.NewLegend()}
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	p.Title.Padding = vg.Points(3)
	p.legend.Top, p.legend.Left, p.legend.Padding = true, true, vg.Points(2)
	p.Y.Min, p.X.Padding, p.Y.Padding = 0, 0, 0
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{}, ticks{}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = faint, faint
	p.Add(grid)
	return p
}

// name adds a curve to the legend.
func (p *panel) name(name string, thumb plot.Thumbnailer) {
	p.names = append(p.names, name)
	p.legend.Add(name, thumb)
}

// finish adds space above the curves, and a note to a panel without curves.
func (p *panel) finish() {
	switch {
	case len(p.names) == 0:
		p.Title.Text += ": not measured"
	case len(p.names) == 1 && p.names[0] != "":
		p.Title.Text += ": " + p.names[0]
	}
	if !(p.Y.Max > 0) {
		p.Y.Max = 1
	}
	p.Y.Min = 0
	p.Y.Max *= 1.1
}

// ticks are the default ticks with labels without exponents.
type ticks struct{}

func (ticks) Ticks(low, high float64) []plot.Tick {
	marks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range marks {
		if marks[i].Label != "" {
			marks[i].Label = strconv.FormatFloat(marks[i].Value, 'f', -1, 32)
		}
	}
	return marks
}

// line adds a curve unless it has no points.
func (p *panel) line(name string, points plotter.XYs, c color.Color, dashes []vg.Length, dots bool) error {
	if len(points) == 0 {
		return nil
	}
	curve, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	curve.Color, curve.Width, curve.Dashes = c, vg.Points(1.5), dashes
	marks.Color, marks.Radius, marks.Shape = c, vg.Points(2.5), draw.CircleGlyph{}
	p.Add(curve)
	if dots || len(points) == 1 {
		p.Add(marks)
	}
	p.name(name, curve)
	return nil
}
