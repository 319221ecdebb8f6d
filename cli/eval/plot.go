package eval

import (
	"path/filepath"
	"strings"

	"github.com/mlxrank/mlxrank/bench/plots"
)

// drawPlot draws the first measure of all configurations by depth and by time.
func (e *evaluation) drawPlot() ([]byte, error) {
	var curves []plots.QualityCurve
	for _, config := range e.report.Configurations {
		if len(config.Depths) == 0 {
			continue
		}
		curve := plots.QualityCurve{Name: config.shortName()}
		for _, d := range config.Depths {
			m := d.Measures[0]
			point := plots.Quality{Depth: d.Depth, MS: d.MS, Value: m.Value, Low: m.Value, High: m.Value}
			if m.Low != nil {
				first := m.Value - m.Difference
				point.Low, point.High = first+*m.Low, first+*m.High
			}
			curve.Points = append(curve.Points, point)
		}
		curves = append(curves, curve)
	}
	svg := strings.EqualFold(filepath.Ext(e.plot), ".svg")
	return plots.DrawQuality(e.measures[0].String(), e.before[0].mean, curves, svg)
}
