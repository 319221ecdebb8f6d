package plots

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func quality(name string, scale float64) QualityCurve {
	curve := QualityCurve{Name: name}
	for i, depth := range []int{10, 20, 50, 100, 200} {
		value := 0.6 + 0.02*scale*float64(i)
		curve.Points = append(curve.Points, Quality{Depth: depth, MS: scale * float64(depth), Value: value, Low: value - 0.02, High: value + 0.03})
	}
	return curve
}

func TestDrawQuality(t *testing.T) {
	for name, curves := range map[string][]QualityCurve{
		"one":     {quality("builtin float32", 1)},
		"several": {quality("builtin float32", 1), quality("builtin bfloat16", 0.6), quality("cross-encoder/ms-marco-MiniLM-L6-v2 float32", 2)},
		"a point": {{"builtin", []Quality{{Depth: 20, MS: 3, Value: 0.5, Low: 0.5, High: 0.5}}}},
	} {
		data, err := DrawQuality("nDCG@10", 0.59, curves, false)
		if err != nil {
			t.Fatal(err)
		}
		if keep := os.Getenv("PLOTS"); keep != "" { // to look at them
			if err := os.WriteFile(filepath.Join(keep, "quality_"+strings.ReplaceAll(name, " ", "_")+".png"), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		image, err := png.Decode(bytes.NewReader(data))
		if err != nil || image.Bounds().Dx() < 900 {
			t.Errorf("%s: %v", name, err)
		}
		svg, err := DrawQuality("nDCG@10", 0.59, curves, true)
		if err != nil {
			t.Fatal(err)
		}
		checkXML(t, svg)
		for _, text := range []string{"nDCG@10 by depth", "nDCG@10 by time", "first stage", curves[0].Name} {
			if !strings.Contains(string(svg), text) {
				t.Errorf("%s: the SVG lacks %q", name, text)
			}
		}
	}
}
