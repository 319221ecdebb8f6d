package diagnosis

import (
	"cmp"
	"math"
	"slices"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/lab"
)

// A form is how a server makes the scores of a request from logits.
type form struct {
	fault fault // what is wrong with it; "" if nothing is
	note  string
	text  string // the fault in words, if formFaults does not have it
	of    func(logits []float64) []float64
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// each makes a form of a function of one logit.
func each(f func(float64) float64) func([]float64) []float64 {
	return func(logits []float64) []float64 {
		out := make([]float64, len(logits))
		for i, x := range logits {
			out[i] = f(x)
		}
		return out
	}
}

// forms returns the forms for an engine's model, the right ones first.
func forms(e *engine.Engine) []form {
	raw := form{sigmoidMissing, "scores are logits", "", each(func(x float64) float64 { return x })}
	list := []form{{"", "scores are the sigmoid of the logits", "", each(sigmoid)}}
	switch e.Info().Activation {
	case engine.SigmoidScores, engine.Softmax:
		list = append(list, raw)
	case engine.Raw:
		raw.fault = ""
		list = append(list, raw)
	default:
		own := func(x float64) float64 { return e.Activate(lab.Key{}, x) }
		list = append(list, form{"", "scores are the model's " + string(e.Info().Activation), "", each(own)}, raw)
	}
	return append(list,
		form{sigmoidTwice, "", "", each(func(x float64) float64 { return sigmoid(sigmoid(x)) })},
		form{softmaxOverDocuments, "", "", softmax},
		form{minMaxScaled, "", "", minMax},
	)
}

func softmax(logits []float64) []float64 {
	out, sum, largest := make([]float64, len(logits)), 0.0, slices.Max(logits)
	for i, x := range logits {
		out[i] = math.Exp(x - largest)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// minMax gives NaN for a single logit: programs differ there.
func minMax(logits []float64) []float64 {
	out, least, most := make([]float64, len(logits)), slices.Min(logits), slices.Max(logits)
	for i, x := range logits {
		out[i] = (x - least) / (most - least)
	}
	return out
}

// slopes returns how fast each score grows with its own logit.
func (f form) slopes(logits []float64) []float64 {
	const step = 1e-3
	out, moved := make([]float64, len(logits)), slices.Clone(logits)
	for i, x := range logits {
		moved[i] = x + step
		up := f.of(moved)[i]
		moved[i] = x - step
		out[i] = math.Abs(up-f.of(moved)[i]) / (2 * step)
		moved[i] = x
	}
	return out
}

// An order is how a server attaches the scores of a request to its documents.
type order int

const (
	orderRight    order = iota
	orderRanks          // the index of a result is its rank
	orderUnsorted       // indexes are sorted by score, scores are not
	orderReversed       // from the last document
	orderShort          // documents sorted by length, short ones first
	orderLong           // long ones first
	orderAny            // another order
	orders
)

// of returns for each document of a group the document whose score it gets.
func (o order) of(group []Pair, predicted, answered []float64) []int {
	n := len(group)
	sorted := func(values func(i int) float64) []int {
		list := make([]int, n)
		for i := range list {
			list[i] = i
		}
		slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(values(b), values(a)) })
		return list
	}
	ranking := sorted(func(i int) float64 { return predicted[i] })
	out := make([]int, n)
	for k := range out {
		switch o {
		case orderRanks:
			out[k] = ranking[k]
		case orderUnsorted:
			out[ranking[k]] = k
		case orderReversed:
			out[k] = n - 1 - k
		default:
			out[k] = k
		}
	}
	switch o {
	case orderShort:
		return sorted(func(i int) float64 { return -float64(len(group[i].Document)) })
	case orderLong:
		return sorted(func(i int) float64 { return float64(len(group[i].Document)) })
	case orderAny:
		for rank, i := range sorted(func(i int) float64 { return answered[i] }) {
			out[i] = ranking[rank]
		}
	}
	return out
}

// A grid is the set of numbers that a server's answers are rounded to.
type grid struct {
	decimals int // -1 for none
	bits     int // of the significand; 0 for all
}

// findGrid finds the coarsest grid that has all answers.
func findGrid(answers []float64) grid {
	tolerance := func(x float64) float64 { return 1.2e-7*math.Abs(x) + 1e-12 }
	on := func(round func(float64) float64) bool {
		return !slices.ContainsFunc(answers, func(x float64) bool { return math.Abs(round(x)-x) > tolerance(x) })
	}
	for decimals := 0; decimals <= 6; decimals++ {
		scale := math.Pow10(decimals)
		shown := func(x float64) bool { return tolerance(x) < 0.2/scale } // float32 has the decimals
		if slices.ContainsFunc(answers, shown) && on(func(x float64) float64 { return math.Round(x*scale) / scale }) {
			return grid{decimals, 0}
		}
	}
	for _, bits := range []int{8, 11} {
		if on(func(x float64) float64 {
			fraction, exponent := math.Frexp(x)
			return math.Ldexp(math.RoundToEven(math.Ldexp(fraction, bits)), exponent-bits)
		}) {
			return grid{-1, bits}
		}
	}
	return grid{-1, 0}
}

// half returns the most by which rounding changes a number.
func (g grid) half(x float64) float64 {
	switch {
	case g.decimals >= 0:
		return 0.5 * math.Pow10(-g.decimals)
	case g.bits > 0:
		return math.Ldexp(math.Abs(x), -g.bits)
	}
	return 0
}
