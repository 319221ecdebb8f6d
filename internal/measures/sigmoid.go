package measures

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// A SigmoidFit has the temperature and shift that make sigmoid((logit-shift)/temperature)
// the best probability of relevance, by log loss.
type SigmoidFit struct {
	Temperature float64 `json:"temperature"`
	Shift       float64 `json:"shift"`
	Before      float64 `json:"log_loss_before"` // mean log loss of sigmoid(logit)
	After       float64 `json:"log_loss_after"`
	Pairs       int     `json:"pairs"`
	Relevant    int     `json:"relevant"`

	// Separable reports that a threshold separates the labels without fault. Then a lower
	// temperature is always better, and the fit is to Platt's smoothed labels instead.
	Separable bool `json:"separable"`
}

var (
	errReversed = errors.New("other pairs have higher logits than relevant ones on the whole: no temperature above 0 fits; check the labels, the model and the label that is scored")
	errConstant = errors.New("all logits are equal: no temperature fits")
)

// FitSigmoid fits the sigmoid to labelled pairs.
func FitSigmoid(pairs []Labelled) (SigmoidFit, error) {
	if err := checkLabelled(pairs); err != nil {
		return SigmoidFit{}, err
	}
	relevant, other := split(pairs)
	if slices.Max(relevant) == slices.Min(relevant) && slices.Max(other) == slices.Min(other) && relevant[0] == other[0] {
		return SigmoidFit{}, errConstant
	}
	if slices.Max(relevant) <= slices.Min(other) {
		return SigmoidFit{}, errReversed
	}
	fit := SigmoidFit{Pairs: len(pairs), Relevant: len(relevant), Separable: slices.Min(relevant) >= slices.Max(other)}
	high, low := 1.0, 0.0
	if fit.Separable {
		high = float64(len(relevant)+1) / float64(len(relevant)+2)
		low = 1 / float64(len(other)+2)
	}
	line, err := newRegression(pairs, high, low).solve()
	if err != nil {
		return SigmoidFit{}, err
	}
	fit.Temperature, fit.Shift = 1/line.slope, -line.intercept/line.slope
	if !(fit.Temperature > 0) || math.IsInf(fit.Temperature, 0) || math.IsNaN(fit.Shift) || math.IsInf(fit.Shift, 0) {
		return SigmoidFit{}, errReversed
	}
	fit.Before = LogLoss(pairs, 1, 0)
	fit.After = LogLoss(pairs, fit.Temperature, fit.Shift)
	return fit, nil
}

// LogLoss returns the mean log loss of sigmoid((logit-shift)/temperature), in nats.
func LogLoss(pairs []Labelled, temperature, shift float64) float64 {
	sum := 0.0
	for _, p := range pairs {
		x := (p.Logit - shift) / temperature
		if p.Relevant {
			x = -x
		}
		sum += logExp1(x)
	}
	return sum / float64(len(pairs))
}

// logExp1 returns log(1 + exp(x)), which never overflows.
func logExp1(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// A line maps a logit to the log-odds of relevance.
type line struct{ slope, intercept float64 }

// A regression is a logistic regression with one variable, which is standardized so that
// the search does not depend on its scale.
type regression struct {
	x, y        []float64
	mean, scale float64
}

func newRegression(pairs []Labelled, high, low float64) *regression {
	r := &regression{x: make([]float64, len(pairs)), y: make([]float64, len(pairs))}
	for i, p := range pairs {
		r.x[i], r.y[i] = p.Logit, low
		if p.Relevant {
			r.y[i] = high
		}
	}
	r.mean, r.scale = stat.MeanStdDev(r.x, nil)
	for i := range r.x {
		r.x[i] = (r.x[i] - r.mean) / r.scale
	}
	return r
}

func (r *regression) loss(l line) float64 {
	sum := 0.0
	for i, x := range r.x {
		z := l.slope*x + l.intercept
		sum += logExp1(z) - r.y[i]*z
	}
	return sum
}

// solve minimises the loss by Newton's method. The loss is convex, and each step is
// halved until it lowers the loss, so the search cannot diverge.
func (r *regression) solve() (line, error) {
	const steps, tolerance = 200, 1e-12
	at := line{}
	loss := r.loss(at)
	for range steps {
		step, decrement := r.newton(at)
		if decrement <= tolerance*float64(len(r.x)) {
			next := line{at.slope + step.slope, at.intercept + step.intercept}
			if r.loss(next) <= loss {
				at = next
			}
			return line{at.slope / r.scale, at.intercept - at.slope*r.mean/r.scale}, nil
		}
		for size := 1.0; ; size /= 2 {
			next := line{at.slope + size*step.slope, at.intercept + size*step.intercept}
			if l := r.loss(next); l < loss {
				at, loss = next, l
				break
			}
			if size < 1e-10 {
				return line{}, fmt.Errorf("the fit of the sigmoid stopped at log loss %g of %d pairs; the logits may be too far apart", loss/float64(len(r.x)), len(r.x))
			}
		}
	}
	return line{}, fmt.Errorf("the fit of the sigmoid to %d pairs found no minimum in %d steps", len(r.x), steps)
}

// newton returns the step to the minimum of the loss's second-order approximation, and
// twice the decrease that it promises.
func (r *regression) newton(at line) (step line, decrement float64) {
	var g0, g1, h00, h01, h11 float64
	for i, x := range r.x {
		p := sigmoid(at.slope*x + at.intercept)
		d, w := p-r.y[i], p*(1-p)
		g0 += d
		g1 += d * x
		h00 += w
		h01 += w * x
		h11 += w * x * x
	}
	const ridge = 1e-12 // keeps the matrix regular where all weights are tiny
	h00 += ridge
	h11 += ridge
	det := h00*h11 - h01*h01
	step = line{slope: -(h00*g1 - h01*g0) / det, intercept: -(h11*g0 - h01*g1) / det}
	return step, -(g0*step.intercept + g1*step.slope)
}

// sigmoid never takes the exponential of a positive number, which could overflow.
func sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	z := math.Exp(x)
	return z / (1 + z)
}
