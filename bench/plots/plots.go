// Package plots draws a benchmark's results as PNG and SVG.
package plots

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/mlxrank/mlxrank/bench/report"
	"github.com/mlxrank/mlxrank/bench/results"
)

const (
	width      = 10 * vg.Inch
	height     = 2.1 * vg.Inch // of a panel
	resolution = 110           // dots per inch
	margin     = 0.15 * vg.Inch
)

// A picture is a column of panels.
type picture struct {
	file, title string
	panels      []*panel
	stretch     vg.Length // of the height of a panel; 0 is 1
}

// A panel is a plot with its legend beside it.
type panel struct {
	*plot.Plot
	legend plot.Legend
	names  []string // of its curves
}

// side returns the width of the legend, 0 for a single curve.
func (p *panel) side() vg.Length {
	if len(p.names) < 2 {
		return 0
	}
	widest := vg.Length(0)
	for _, name := range p.names {
		widest = max(widest, p.legend.TextStyle.Width(name))
	}
	return widest + p.legend.ThumbnailWidth + 2*margin
}

// Draw writes the plots of results into a folder. It returns them for the report,
// with paths relative to the parent folder.
func Draw(r *results.Result, folder string) ([]report.Plot, error) {
	var pictures []picture
	for i := range r.Points {
		p := &r.Points[i]
		run := p.Typical()
		if p.Error != "" || run == nil || len(run.Requests) == 0 {
			continue
		}
		suffix, title := "", ""
		if len(r.Points) > 1 {
			suffix = fmt.Sprintf("_config%d", i+1)
			title = fmt.Sprintf(", config %d: %s", i+1, p.Settings.Label(r.Swept))
		}
		if len(run.Samples) > 0 {
			panels, err := timeline(run)
			if err != nil {
				return nil, err
			}
			pictures = append(pictures, picture{file: "timeline" + suffix, title: "Over time" + title, panels: panels})
		}
		panels, err := distribution(run)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture{file: "latency" + suffix, title: "Latencies" + title, panels: panels})
	}
	curves, err := sweeps(r)
	if err != nil {
		return nil, err
	}
	return write(append(curves, pictures...), folder)
}

func write(pictures []picture, folder string) ([]report.Plot, error) {
	if len(pictures) == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, fmt.Errorf("plots: %w", err)
	}
	var written []report.Plot
	for _, p := range pictures {
		link := filepath.Base(folder) + "/" + p.file
		written = append(written, report.Plot{Title: p.title, PNG: link + ".png", SVG: link + ".svg"})
		png, err := p.png()
		if err != nil {
			return nil, err
		}
		svg, err := p.svg()
		if err != nil {
			return nil, err
		}
		for name, data := range map[string][]byte{p.file + ".png": png, p.file + ".svg": svg} {
			if err := results.WriteFile(filepath.Join(folder, name), data); err != nil {
				return nil, err
			}
		}
	}
	return written, nil
}

// size returns the height of the picture.
func (p picture) size() vg.Length {
	return height * vg.Length(len(p.panels)) * cmp.Or(p.stretch, 1)
}

func (p picture) png() ([]byte, error) {
	image := vgimg.NewWith(vgimg.UseWH(width, p.size()), vgimg.UseDPI(resolution))
	p.draw(draw.New(image))
	return encode(vgimg.PngCanvas{Canvas: image})
}

func (p picture) svg() ([]byte, error) {
	vector := vgsvg.New(width, p.size())
	p.draw(draw.New(vector))
	return encode(vector)
}

func encode(canvas io.WriterTo) ([]byte, error) {
	var data bytes.Buffer
	if _, err := canvas.WriteTo(&data); err != nil {
		return nil, fmt.Errorf("plots: %w", err)
	}
	return data.Bytes(), nil
}

// draw draws the panels below one another with aligned areas, and the legends to
// their right.
func (p picture) draw(canvas draw.Canvas) {
	strip := vg.Length(0)
	grid := make([][]*plot.Plot, len(p.panels))
	for i, panel := range p.panels {
		grid[i] = []*plot.Plot{panel.Plot}
		strip = min(max(strip, panel.side()), width/2)
	}
	left := draw.Crop(canvas, 0, -strip, 0, 0)
	tiles := draw.Tiles{Rows: len(p.panels), Cols: 1, PadTop: margin, PadBottom: margin, PadLeft: margin, PadRight: 2 * margin, PadY: margin}
	for i, row := range plot.Align(grid, tiles, left) {
		p.panels[i].Draw(row[0])
		if p.panels[i].side() == 0 {
			continue
		}
		beside := canvas
		beside.Min = vg.Point{X: canvas.Max.X - strip, Y: row[0].Min.Y}
		beside.Max = vg.Point{X: canvas.Max.X - margin, Y: row[0].Max.Y - 2*margin}
		p.panels[i].legend.Draw(beside)
	}
}
