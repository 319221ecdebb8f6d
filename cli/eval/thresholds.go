package eval

import (
	"fmt"
	"strconv"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// A thresholdReport describes how far scores separate relevant pairs from others, and
// the sigmoid that fits the judgements.
type thresholdReport struct {
	Pairs       int                   `json:"pairs"`
	Relevance   int                   `json:"least_relevance"` // of a relevant pair
	Relevant    measures.Distribution `json:"relevant_logits"`
	Other       measures.Distribution `json:"other_logits"`
	Points      []thresholdPoint      `json:"points"` // for each tenth of recall
	Precision   float64               `json:"wanted_precision"`
	Threshold   *thresholdPoint       `json:"threshold"` // for the wanted precision; nil without a clean separation
	Best        thresholdPoint        `json:"most_precise"`
	Histogram   []measures.Bin        `json:"histogram"`
	Calibration *sigmoidFit           `json:"calibration"` // nil if no sigmoid fits
	NoFit       string                `json:"calibration_error,omitempty"`
}

// A thresholdPoint is what a threshold keeps. Low and High are the interval of the
// precision of the chosen threshold.
type thresholdPoint struct {
	Score     float32  `json:"score"`
	Logit     float64  `json:"logit"`
	Precision float64  `json:"precision"`
	Low       *float64 `json:"precision_low,omitempty"`
	High      *float64 `json:"precision_high,omitempty"`
	Recall    float64  `json:"recall"`
	Kept      int      `json:"kept"`
	Relevant  int      `json:"relevant"`
}

// A sigmoidFit is the sigmoid of (logit - shift) / temperature that fits best.
type sigmoidFit struct {
	Temperature float64 `json:"temperature"`
	Shift       float64 `json:"shift"`
	LossBefore  float64 `json:"log_loss_before"`
	LossAfter   float64 `json:"log_loss_after"`
	Separable   bool    `json:"separable"`
}

// worse reports whether the fit is no better than no calibration, beyond rounding. The
// smoothed labels of a complete separation can have such a fit.
func (f *sigmoidFit) worse() bool { return f.LossAfter > f.LossBefore*(1+1e-6) }

// checkKinds rejects candidates without a relevant pair or without any other, before
// a model is opened for --thresholds or --write-calibration.
func (e *evaluation) checkKinds() error {
	if len(e.configs) == 0 || !e.thresholds && e.calibration == "" {
		return nil
	}
	depths, least := e.chosenDepths(), e.measures[0].Rel
	relevant, pairs := 0, e.pairsBetween(0, depths[len(depths)-1])
	for q, list := range e.candidates {
		for _, d := range list[:min(len(list), depths[len(depths)-1])] {
			if relevance, ok := e.qrels[e.queries[q]][d.ID]; ok && relevance >= least {
				relevant++
			}
		}
	}
	if relevant > 0 && relevant < pairs {
		return nil
	}
	flag, kind := "--thresholds", "relevant"
	if !e.thresholds {
		flag = "--write-calibration"
	}
	if relevant > 0 {
		kind = "other"
	}
	return fmt.Errorf("%s needs relevant pairs (judged %d or more) and others; none of the %s to score is %s; omit %s, or add such pairs",
		flag, least, output.Count(pairs, "pair", "pairs"), kind, flag)
}

// histogramBins is how many bins the histogram of logits has.
const histogramBins = 20

// labelled returns the logits of all pairs with their judgements, and the score of
// each logit. The first measure defines the least relevance. Pairs without a
// judgement are not relevant, as in the measures.
func (e *evaluation) labelled(s *scored) (pairs []measures.Labelled, scores map[float64]float32, least int) {
	least, scores = e.measures[0].Rel, make(map[float64]float32)
	for q, logits := range s.logits {
		judged := e.qrels[e.queries[q]]
		for rank, logit := range logits {
			relevance, ok := judged[e.candidates[q][rank].ID]
			pairs = append(pairs, measures.Labelled{Logit: float64(logit), Relevant: ok && relevance >= least})
			scores[float64(logit)] = s.scores[q][rank]
		}
	}
	return pairs, scores, least
}

// findThresholds fills the threshold report of a configuration.
func (e *evaluation) findThresholds(config *configuration) error {
	pairs, scores, least := e.labelled(config.scored)
	separation, err := measures.Separate(pairs)
	if err != nil {
		return fmt.Errorf("--thresholds: %w", err)
	}
	newPoint := func(p measures.Point) thresholdPoint {
		return thresholdPoint{Score: scores[p.Logit], Logit: p.Logit, Precision: p.Precision, Recall: p.Recall, Kept: p.Kept, Relevant: p.Relevant}
	}
	r := &thresholdReport{Pairs: len(pairs), Relevance: least, Precision: e.precision,
		Relevant: separation.Relevant, Other: separation.Other}
	best, next := separation.Curve[0], 1
	for _, p := range separation.Curve {
		if p.Precision > best.Precision || p.Precision == best.Precision && p.Kept > best.Kept {
			best = p
		}
		if tenths := int(10*p.Recall + 1e-9); tenths >= next {
			r.Points, next = append(r.Points, newPoint(p)), tenths+1
		}
	}
	r.Best = newPoint(best)
	if chosen, ok := separation.ForPrecision(e.precision); ok {
		p := newPoint(chosen.Point)
		p.Low, p.High = &chosen.Interval.Low, &chosen.Interval.High
		r.Threshold = &p
	}
	r.Histogram = separation.Histogram(histogramBins)
	if fit, err := measures.FitSigmoid(pairs); err != nil {
		r.NoFit = err.Error()
	} else {
		r.Calibration = &sigmoidFit{fit.Temperature, fit.Shift, fit.Before, fit.After, fit.Separable}
	}
	config.Thresholds = r
	return nil
}

// thresholdSections formats the thresholds of a configuration for people.
func thresholdSections(config *configuration) []section {
	r := config.Thresholds
	logits := section{title: "logits of " + config.Name, header: []string{"pairs", "number", "mean", "lowest", "5 %", "25 %", "median", "75 %", "95 %", "highest"}}
	for _, group := range []struct {
		name string
		measures.Distribution
	}{{"relevant", r.Relevant}, {"other", r.Other}} {
		row := []string{group.name, strconv.Itoa(group.N)}
		for _, x := range []float64{group.Mean, group.Min, group.P5, group.P25, group.P50, group.P75, group.P95, group.Max} {
			row = append(row, fmt.Sprintf("%.3f", x))
		}
		logits.rows = append(logits.rows, row)
	}
	logits.notes = []string{fmt.Sprintf("relevant: judged %d or more; pairs without a judgement count as other", r.Relevance)}
	table := section{title: "thresholds of " + config.Name, header: []string{"score", "logit", "precision", "recall", "kept", "relevant"}}
	for _, p := range r.Points {
		table.rows = append(table.rows, []string{formatScore(p.Score), fmt.Sprintf("%.4f", p.Logit), number(p.Precision), number(p.Recall),
			strconv.Itoa(p.Kept), strconv.Itoa(p.Relevant)})
	}
	if p := r.Threshold; p != nil {
		table.notes = append(table.notes, fmt.Sprintf("for precision %v: threshold %s (logit %.4f), precision %.4f (95 %% interval %.4f to %.4f), recall %.4f, keeps %s",
			r.Precision, formatScore(p.Score), p.Logit, p.Precision, *p.Low, *p.High, p.Recall, output.Count(p.Kept, "pair", "pairs")))
	} else {
		table.notes = append(table.notes, fmt.Sprintf("for precision %v: no clean separation; the most precise threshold, %s, has precision %.4f and keeps %s",
			r.Precision, formatScore(r.Best.Score), r.Best.Precision, output.Count(r.Best.Kept, "pair", "pairs")))
	}
	if f := r.Calibration; f != nil {
		table.notes = append(table.notes, fmt.Sprintf("calibration: temperature %.4f, shift %.4f; log loss %.4f before, %.4f after", f.Temperature, f.Shift, f.LossBefore, f.LossAfter))
		if f.worse() {
			table.notes = append(table.notes, "this calibration is worse than none: more labelled pairs are needed")
		}
		if f.Separable {
			table.notes = append(table.notes, "the scores separate the pairs completely, so that the temperature depends on a regularisation")
		}
	} else {
		table.notes = append(table.notes, "calibration: "+r.NoFit)
	}
	return []section{logits, table}
}

// formatScore formats a score so that --threshold keeps it.
func formatScore(x float32) string { return strconv.FormatFloat(float64(x), 'g', -1, 32) }
