package weights

import (
	"fmt"
	"strings"
)

// A Scoring names the function from a pair's logits to its score.
type Scoring string

// The supported scoring functions. All except Softmax, which depends on the other
// labels too, keep the order of the logits.
const (
	ScoringRaw         Scoring = "raw" // the logit itself
	ScoringSigmoid     Scoring = "sigmoid"
	ScoringSoftmax     Scoring = "softmax" // over the labels
	ScoringTanh        Scoring = "tanh"
	ScoringReLU        Scoring = "relu"
	ScoringSoftplus    Scoring = "softplus"
	ScoringLogSigmoid  Scoring = "logsigmoid"
	ScoringSoftsign    Scoring = "softsign"
	ScoringHardsigmoid Scoring = "hardsigmoid"
)

// torchScorings maps the classes of torch.nn to scoring functions.
var torchScorings = map[string]Scoring{
	"Identity": ScoringRaw, "Sigmoid": ScoringSigmoid, "Softmax": ScoringSoftmax, "Tanh": ScoringTanh, "ReLU": ScoringReLU,
	"Softplus": ScoringSoftplus, "LogSigmoid": ScoringLogSigmoid, "Softsign": ScoringSoftsign, "Hardsigmoid": ScoringHardsigmoid,
}

// torchScoring returns the scoring function of a Python name, "" if it is not
// supported.
func torchScoring(name string) Scoring {
	class, ok := torchClass(name)
	if !ok {
		return ""
	}
	return torchScorings[class]
}

// torchClass returns the class of torch.nn that a Python name names. It is not ok if
// torch has no such name.
func torchClass(name string) (class string, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	module, class := name[:dot+1], name[dot+1:]
	own := "torch.nn.modules.activation."
	if class == "Identity" {
		own = "torch.nn.modules.linear."
	}
	return class, module == own || module == "torch.nn." || module == "torch.nn.modules."
}

// A namedScoring is the Python name of a scoring function in a file of the model.
type namedScoring struct {
	file string
	name *string // nil if the file names none
}

// resolveScoring sets Scoring by the rule of CrossEncoder: the first file that
// names a class of torch decides. Another class gives a warning and is ignored,
// as CrossEncoder does without trust_remote_code. Without a name, Scoring is
// sigmoid for one label and raw for several.
func (m *Model) resolveScoring(named ...namedScoring) {
	for _, n := range named {
		switch {
		case n.name == nil:
		case strings.HasPrefix(*n.name, "torch."):
			m.Scoring, m.ScoringName, m.ScoringFile = torchScoring(*n.name), *n.name, n.file
			return
		default:
			m.warn("%s: the activation %q is not a class of torch; the default is used, as in CrossEncoder without trust_remote_code", n.file, *n.name)
		}
	}
	m.Scoring = ScoringRaw
	if m.Config.Labels == 1 {
		m.Scoring = ScoringSigmoid
	}
}

func (m *Model) warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}
