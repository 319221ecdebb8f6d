package fleet

import (
	"fmt"
	"image/color"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Colours that most colour-blind people can distinguish (Okabe and Ito).
var (
	scaleBlue   = color.RGBA{G: 114, B: 178, A: 255}
	scaleOrange = color.RGBA{R: 230, G: 159, A: 255}
	scaleGrey   = color.RGBA{R: 225, G: 225, B: 225, A: 255}
)

// A scaleCurve is a line of a plot: a value of each sample, or its increase per second.
type scaleCurve struct {
	name  string
	value func(scaleSample) float64
	rate  bool
}

// plotScale draws the samples of a simulation over time.
func plotScale(r *scaleReport, file string) error {
	var grid [][]*plot.Plot
	for _, panel := range []struct {
		title, unit string
		curves      []scaleCurve
	}{
		{"Finished parts", "parts", []scaleCurve{{"", func(s scaleSample) float64 { return float64(s.Finished) }, false}}},
		{"Workers alive", "workers", []scaleCurve{{"", func(s scaleSample) float64 { return float64(s.Alive) }, false}}},
		{"CPU of the server", "cores", []scaleCurve{{"", func(s scaleSample) float64 { return s.CPU }, true}}},
		{"Memory and disk of the server", "MB", []scaleCurve{
			{"resident memory", func(s scaleSample) float64 { return s.MemoryMB }, false},
			{"files on disk", func(s scaleSample) float64 { return s.DiskMB }, false},
		}},
		{"Messages of the server", "per second", []scaleCurve{
			{"received", func(s scaleSample) float64 { return float64(s.InMsgs) }, true},
			{"sent", func(s scaleSample) float64 { return float64(s.OutMsgs) }, true},
		}},
	} {
		p := plot.New()
		p.Title.Text, p.Y.Label.Text, p.Y.Min, p.X.Min = panel.title, panel.unit, 0, 0
		p.Y.Tick.Marker, p.Legend.Top, p.Legend.Left = plainTicks{}, true, true
		lines := plotter.NewGrid()
		lines.Vertical.Color, lines.Horizontal.Color = scaleGrey, scaleGrey
		p.Add(lines)
		for i, curve := range panel.curves {
			line, err := plotter.NewLine(curve.points(r.Samples))
			if err != nil {
				return err
			}
			line.Width, line.Color = vg.Points(1.5), []color.Color{scaleBlue, scaleOrange}[i]
			p.Add(line)
			if curve.name != "" {
				p.Legend.Add(curve.name, line)
			}
		}
		p.X.Max = r.Samples[len(r.Samples)-1].Seconds
		p.Y.Max = max(p.Y.Max, 0.1) * (1.15 + 0.3*float64(len(panel.curves)-1)) // room for the legend
		grid = append(grid, []*plot.Plot{p})
	}
	grid[0][0].Title.Text = fmt.Sprintf("%d workers, %d parts of %.1f s; every third worker dies once. Finished parts", r.Workers, r.Parts, r.PartSeconds)
	grid[len(grid)-1][0].X.Label.Text = "seconds"
	return drawGrid(grid, file)
}

func (c scaleCurve) points(samples []scaleSample) plotter.XYs {
	var points plotter.XYs
	for i, s := range samples {
		switch {
		case !c.rate:
			points = append(points, plotter.XY{X: s.Seconds, Y: c.value(s)})
		case i > 0 && s.Seconds-samples[i-1].Seconds > 0.5: // the last sample may follow at once
			before := samples[i-1]
			points = append(points, plotter.XY{X: (s.Seconds + before.Seconds) / 2, Y: (c.value(s) - c.value(before)) / (s.Seconds - before.Seconds)})
		}
	}
	return points
}

func drawGrid(grid [][]*plot.Plot, file string) error {
	const margin = 8
	image := vgimg.NewWith(vgimg.UseWH(9*vg.Inch, vg.Length(len(grid))*1.9*vg.Inch), vgimg.UseDPI(110))
	tiles := draw.Tiles{Rows: len(grid), Cols: 1, PadTop: margin, PadBottom: margin, PadLeft: margin, PadRight: 2 * margin, PadY: margin}
	for i, row := range plot.Align(grid, tiles, draw.New(image)) {
		grid[i][0].Draw(row[0])
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := (vgimg.PngCanvas{Canvas: image}).WriteTo(out); err != nil {
		return err
	}
	return out.Close()
}

// plainTicks are the default ticks with labels without exponents.
type plainTicks struct{}

func (plainTicks) Ticks(low, high float64) []plot.Tick {
	marks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range marks {
		if marks[i].Label != "" {
			marks[i].Label = strconv.FormatFloat(marks[i].Value, 'f', -1, 32)
		}
	}
	return marks
}
