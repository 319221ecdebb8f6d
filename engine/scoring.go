package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/mlxrank/mlxrank/weights"
)

// activations lists the functions that a caller may choose.
var activations = []Activation{Raw, SigmoidScores, Softmax}

// A scorer makes scores from the logits of a pair.
type scorer struct {
	function    weights.Scoring
	label       int
	calibration *Calibration // of the sigmoid, nil for none
}

// functions make a score from one logit. All keep the order of logits, so that
// documents can be ranked by logits where scores are rounded to the same number.
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

// Sigmoid returns the probability of a logit.
func Sigmoid(x float32) float32 { return float32(sigmoid(float64(x))) }

// sigmoid never takes the exponential of a positive number, which could overflow.
func sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	z := math.Exp(x)
	return z / (1 + z)
}

// softplus computes PyTorch's softplus, which returns x above 20.
func softplus(x float64) float64 {
	if x > 20 {
		return x
	}
	return logExp1(x)
}

// logExp1 returns log(1 + exp(x)).
func logExp1(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// score returns the label's score and the logit to rank by. For softmax the logit is
// the label's log-odds, because they differ where probabilities are rounded to 1.
func (s scorer) score(logits []float32) (score, logit float32) {
	x := float64(logits[s.label])
	if s.function == weights.ScoringSoftmax {
		x = logOdds(logits, s.label)
		return float32(sigmoid(x)), float32(x)
	}
	if s.function == weights.ScoringSigmoid {
		return float32(s.calibration.Score(x)), logits[s.label]
	}
	return float32(functions[s.function](x)), logits[s.label]
}

// scoreAll returns the scores of every label.
func (s scorer) scoreAll(logits []float32) []LabelScore {
	all := make([]LabelScore, len(logits))
	for label := range logits {
		s.label = label
		score, logit := s.score(logits)
		all[label] = LabelScore{score, logit}
	}
	return all
}

// logOdds returns the logarithm of the label's probability over that of all others.
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

// resolveScoring returns the function that makes scores: the requested one, or
// else the model's.
func resolveScoring(asked Activation, model *weights.Model) (weights.Scoring, error) {
	function := weights.Scoring(asked)
	if asked == "" || asked == ActivationAuto {
		if function = model.Scoring; function == "" {
			return "", fmt.Errorf("%w: model %q: %s: %q; choose another: activation raw (--activation raw), sigmoid or softmax",
				ErrActivation, model.Ref, model.ScoringFile, model.ScoringName)
		}
	}
	return function, checkScoring(function, model.Config.Labels)
}

// checkScoring rejects a function whose scores would all be equal.
func checkScoring(function weights.Scoring, labels int) error {
	if function == weights.ScoringSoftmax && labels < 2 {
		return fmt.Errorf("engine: activation softmax needs several labels, the model has 1; choose sigmoid or raw")
	}
	return nil
}

// checkOptions rejects options that no request can have.
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
		return s, fmt.Errorf("engine: activation %q is not one of %v", opts.Activation, activations)
	}
	s.function = weights.Scoring(opts.Activation)
	return s, checkScoring(s.function, e.pipeline.labels)
}
