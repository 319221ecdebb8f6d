package weights

import (
	"fmt"
	"strings"
)

// A Scoring is the function that makes a score of a pair's logits.
type Scoring string

// The functions that make scores. All keep the order of the logits but Softmax,
// which also counts the other labels.
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

// torchScorings maps a class of torch.nn to the function it computes.
var torchScorings = map[string]Scoring{
	"Identity": ScoringRaw, "Sigmoid": ScoringSigmoid, "Softmax": ScoringSoftmax, "Tanh": ScoringTanh, "ReLU": ScoringReLU,
	"Softplus": ScoringSoftplus, "LogSigmoid": ScoringLogSigmoid, "Softsign": ScoringSoftsign, "Hardsigmoid": ScoringHardsigmoid,
}

// torchScoring returns the function that a Python name stands for, "" if it is
// not supported.
func torchScoring(name string) Scoring {
	dot := strings.LastIndexByte(name, '.')
	module, class := name[:dot+1], name[dot+1:]
	scoring := torchScorings[class]
	own := "torch.nn.modules.activation."
	if scoring == ScoringRaw {
		own = "torch.nn.modules.linear."
	}
	if module == own || module == "torch.nn." || module == "torch.nn.modules." {
		return scoring
	}
	return ""
}

// A namedScoring is an activation as a file of the model names it.
type namedScoring struct {
	file string
	name *string // nil: the file names none
}

// resolveScoring sets Scoring by the rule of CrossEncoder: what the first of the
// files names decides; a class that is not torch's is passed over with a
// warning, as CrossEncoder does unless it trusts the code of strangers. Without
// a name it is sigmoid for one label and raw for several.
func (m *Model) resolveScoring(named ...namedScoring) {
	for _, n := range named {
		switch {
		case n.name == nil:
		case strings.HasPrefix(*n.name, "torch."):
			m.Scoring, m.ScoringName, m.ScoringFile = torchScoring(*n.name), *n.name, n.file
			return
		default:
			m.warn("%s: the activation %q is not one of torch; the default is used instead, as CrossEncoder does without trust_remote_code", n.file, *n.name)
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
