package diagnosis

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// fixConstant sets the constant that a form has to the only score of a server, if it
// has only one.
func (d *diagnosis) fixConstant(answers []float64) {
	if len(answers) == 0 {
		return
	}
	least, most := slices.Min(answers), slices.Max(answers)
	if most-least > 2e-7*max(math.Abs(least), math.Abs(most)) {
		return
	}
	d.forms = append(d.forms, form{fault: constant, text: fmt.Sprintf("all scores are %.6g", least), of: each(func(float64) float64 { return least })})
}

// A scale is a form up to a slope and a shift, which are fitted to the answers.
type scale struct {
	text  string                                       // with a verb for the formula
	unit  string                                       // what the slope multiplies
	value func(logit float64) float64                  // that
	back  func(answer float64) (value, weight float64) // undoes what comes after the formula
	form  func(formula float64) (score float64)        // does it
}

func same(x float64) float64 { return x }

func unweighted(x float64) (value, weight float64) { return x, 1 }

// scales returns the scales of scores: those that the right forms give, and of logits.
func (d *diagnosis) scales() []scale {
	var list []scale
	for _, f := range d.forms {
		if f.fault == "" {
			list = append(list, scale{"scores are %s", "the right score", func(z float64) float64 { return f.of([]float64{z})[0] }, unweighted, same})
		}
	}
	odds := func(x float64) (value, weight float64) { return math.Log(x / (1 - x)), x * (1 - x) }
	return append(list,
		scale{"scores are %s", "the logit", same, unweighted, same},
		scale{"scores are the sigmoid of %s", "the logit", same, odds, sigmoid},
	)
}

// fit fits a scale to the answers by least squares.
func (s scale) fit(logits, answers []float64) (form, bool) {
	var n, sx, sy, sxx, sxy float64
	for i, z := range logits {
		if math.IsNaN(answers[i]) || math.IsNaN(z) {
			continue
		}
		y, w := s.back(answers[i])
		x := s.value(z)
		w *= w
		n, sx, sy, sxx, sxy = n+w, sx+w*x, sy+w*y, sxx+w*x*x, sxy+w*x*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	shift := (sy - slope*sx) / n
	if math.IsNaN(slope+shift) || math.IsInf(slope+shift, 0) || slope == 0 {
		return form{}, false
	}
	note := fmt.Sprintf(s.text, formula(slope, shift, s.unit))
	order := "keeps"
	if slope < 0 {
		order = "reverses"
	}
	return form{
		fault: rescaled, note: note, text: "scores are rescaled: " + note + ", which " + order + " the order",
		of: each(func(z float64) float64 { return s.form(slope*s.value(z) + shift) }),
	}, true
}

// formula returns a line in words, without a shift that is close to 0.
func formula(slope, shift float64, unit string) string {
	text := fmt.Sprintf("%.4g * %s", slope, unit)
	switch {
	case math.Abs(shift) < 1e-5*max(1, math.Abs(slope)):
		return text
	case shift < 0:
		return fmt.Sprintf("%s - %.4g", text, -shift)
	}
	return fmt.Sprintf("%s + %.4g", text, shift)
}

// rescaled finds a scale that explains the plain pairs, with the simplest reading.
func (d *diagnosis) rescaled(ctx context.Context) (h hypothesis, c *comparison, ok bool, err error) {
	var answers []float64
	for _, g := range d.plain() {
		answers = append(answers, g.scores...)
	}
	readings := globals(d.local.info.Prompt, d.local.openLast != nil)
	slices.SortStableFunc(readings, func(a, b reading) int { return cmp.Compare(a.parts(), b.parts()) })
	for _, r := range readings {
		var logits []float64
		for _, g := range d.plain() {
			z, err := d.local.score(ctx, r, g.pairs)
			if err != nil {
				return h, nil, false, err
			}
			logits = append(logits, z...)
		}
		for _, s := range d.scales() {
			f, fits := s.fit(logits, answers)
			if !fits {
				continue
			}
			tried := *d
			tried.forms = append(slices.Clone(d.forms), f)
			h = hypothesis{reading: r, form: len(d.forms)}
			if c, err = tried.compare(ctx, h, d.plain()); err != nil {
				return h, nil, false, err
			}
			if size, ok := c.noise(); ok && size.rms <= noises[1].rms {
				d.forms = tried.forms
				return h, c, true, nil
			}
		}
	}
	return h, nil, false, nil
}
