package eval

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// LossDepth is how many documents of each query MeasureLoss scores.
const LossDepth = 20

// A Loss is what a configuration of a model costs on the collection of --demo, next to
// another one of the same model.
type Loss struct {
	Queries, Pairs int
	MaxLength      int
	Tau            float64 // Kendall's, mean over queries
	SameTop        float64 // share of queries with the same first ten documents, in any order
	Worst, Mean    float64 // difference of logits, in standard deviations of the reference's
	NDCG           float64 // at 10
	ReferenceNDCG  float64
}

// MeasureLoss scores the first documents of each query of --demo with both
// configurations. It takes the first queries only, 0 for all.
func MeasureLoss(ctx context.Context, reference, config engine.Config, queries int, notices command.Notices) (_ Loss, err error) {
	col := &collection{}
	defer func() { err = errors.Join(err, col.close()) }()
	if err := errors.Join(col.readDemo(), col.prepare(false)); err != nil {
		return Loss{}, err
	}
	if queries > 0 && queries < len(col.queries) {
		col.queries, col.candidates = col.queries[:queries], col.candidates[:queries]
		maps.DeleteFunc(col.judgements, func(id string, _ map[string]int) bool { return !slices.Contains(col.queries, id) })
	}
	measure, err := measures.ParseList("nDCG@10")
	if err != nil {
		return Loss{}, err
	}
	e := &evaluation{options: &options{measures: measure, notices: notices}, collection: col}
	if err := e.start(); err != nil {
		return Loss{}, err
	}
	l := Loss{Queries: len(e.queries)}
	var both []*configuration
	for _, c := range []engine.Config{reference, config} {
		s, err := e.scoreOnce(ctx, c, &l)
		if err != nil {
			return l, err
		}
		made := &configuration{Name: s.name(), DType: s.facts.DType, scored: s, Depths: []depthPoint{{}}}
		if err := e.compare(made, e.reranked(s, LossDepth)); err != nil {
			return l, err
		}
		both = append(both, made)
	}
	cost, err := e.precisionCost(both[1], both[0])
	if err != nil {
		return l, err
	}
	l.Tau, l.Worst = cost.Tau, cost.LargestInSD
	if cost.Largest > 0 {
		l.Mean = cost.Mean / cost.Largest * cost.LargestInSD
	}
	l.ReferenceNDCG, l.NDCG = both[0].after[0].mean, both[1].after[0].mean
	l.SameTop = e.sameTop(both[0].scored, both[1].scored)
	return l, nil
}

// scoreOnce opens a model, scores the collection, and closes it.
func (e *evaluation) scoreOnce(ctx context.Context, config engine.Config, l *Loss) (_ *scored, err error) {
	model, err := engine.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(ctx, model, config.Logger)) }()
	if err := model.Ready(ctx); err != nil {
		return nil, err
	}
	s, err := e.score(ctx, model, []int{LossDepth})
	if err == nil {
		l.Pairs, l.MaxLength = s.total, model.Info().MaxLength
	}
	return s, err
}

// sameTop returns the share of queries with the same first documents in any order.
func (e *evaluation) sameTop(a, b *scored) float64 {
	same := 0
	for q := range e.queries {
		first := map[string]bool{}
		for _, id := range e.top(q, a.logits[q]) {
			first[id] = true
		}
		all := true
		for _, id := range e.top(q, b.logits[q]) {
			all = all && first[id]
		}
		if all {
			same++
		}
	}
	return float64(same) / float64(len(e.queries))
}
