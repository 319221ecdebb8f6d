package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/mlxrank/mlxrank/weights"
)

// activations are the functions that a caller may choose.
var activations = []string{string(weights.ScoringRaw), string(weights.ScoringSigmoid), string(weights.ScoringSoftmax)}

// A scorer makes scores of the logits of a pair.
type scorer struct {
	function weights.Scoring
	label    int
}

// functions make a score of one logit. None of them turns the order of logits
// round, so that documents can be ranked by logits where scores are rounded to
// the same number.
var functions = map[weights.Scoring]func(x float64) float64{
	weights.ScoringRaw:         func(x float64) float64 { return x },
	weights.ScoringSigmoid:     sigmoid,
	weights.ScoringTanh:        math.Tanh,
	weights.ScoringReLU:        func(x float64) float64 { return max(x, 0) },
	weights.ScoringSoftplus:    softplus,
	weights.ScoringLogSigmoid:  func(x float64) float64 { return -logExp1(-x) },
	weights.ScoringSoftsign:    func(x float64) float64 { return x / (1 + math.Abs(x)) },
	weights.ScoringHardsigmoid: func(x float64) float64 { return min(max(x+3, 0), 6) / 6 },
}

// Sigmoid makes a probability of a logit.
func Sigmoid(x float32) float32 { return float32(sigmoid(float64(x))) }

// sigmoid never takes the exponential of a positive number, which could overflow.
func sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	z := math.Exp(x)
	return z / (1 + z)
}

// softplus is PyTorch's, which is the identity beyond 20.
func softplus(x float64) float64 {
	if x > 20 {
		return x
	}
	return logExp1(x)
}

// logExp1 is log(1 + exp(x)).
func logExp1(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// score returns the score by the label and the logit to rank by. For softmax
// that is the log-odds of the label, whose sigmoid is its probability: where
// probabilities are rounded to 1, it keeps them apart.
func (s scorer) score(logits []float32) (score, logit float32) {
	x := float64(logits[s.label])
	if s.function == weights.ScoringSoftmax {
		x = logOdds(logits, s.label)
		return float32(sigmoid(x)), float32(x)
	}
	return float32(functions[s.function](x)), logits[s.label]
}

// scoreAll returns the scores by every label.
func (s scorer) scoreAll(logits []float32) ([]LabelScore, error) {
	all := make([]LabelScore, len(logits))
	for label := range logits {
		score, logit := scorer{s.function, label}.score(logits)
		if !finite(logit) {
			return nil, ErrNotFinite
		}
		all[label] = LabelScore{score, logit}
	}
	return all, nil
}

// logOdds is the logarithm of the label's probability over that of all others.
func logOdds(logits []float32, label int) float64 {
	largest := math.Inf(-1)
	for i, x := range logits {
		if i != label {
			largest = max(largest, float64(x))
		}
	}
	sum := 0.0
	for i, x := range logits {
		if i != label {
			sum += math.Exp(float64(x) - largest)
		}
	}
	return float64(logits[label]) - largest - math.Log(sum)
}

// resolveScoring returns the function that makes scores: the one asked for,
// else the model's.
func resolveScoring(asked string, model *weights.Model) (weights.Scoring, error) {
	function := weights.Scoring(asked)
	if asked == "" || asked == "auto" {
		if function = model.Scoring; function == "" {
			return "", fmt.Errorf("%w: model %q: %s: %q; choose another: activation raw (--activation raw), sigmoid or softmax",
				ErrActivation, model.Ref, model.ScoringFile, model.ScoringName)
		}
	}
	return function, checkScoring(function, model.Config.Labels)
}

// checkScoring refuses a function that says nothing for so many labels.
func checkScoring(function weights.Scoring, labels int) error {
	if function == weights.ScoringSoftmax && labels < 2 {
		return fmt.Errorf("engine: activation softmax needs several labels, and the model has one: its scores would all be 1; choose sigmoid or raw")
	}
	return nil
}

// checkOptions checks what a request asks for.
func (e *Engine) checkOptions(opts ScoreOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	_, err := e.scorerFor(opts)
	return err
}

// scorerFor returns the scorer of a request, which may choose an activation.
func (e *Engine) scorerFor(opts ScoreOptions) (scorer, error) {
	s := e.scorer
	if opts.Activation == "" {
		return s, nil
	}
	if !slices.Contains(activations, opts.Activation) {
		return s, fmt.Errorf("engine: activation %q is none of %v", opts.Activation, activations)
	}
	s.function = weights.Scoring(opts.Activation)
	return s, checkScoring(s.function, e.pipeline.labels)
}
