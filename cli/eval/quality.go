package eval

import (
	"cmp"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// values are a measure of each query, and its mean. Lowest and highest bound the mean
// over all orders of documents with equal scores. The ceiling is the mean of the best
// order of all documents.
type values struct {
	each                           []float64
	mean, lowest, highest, ceiling float64
}

// evaluate returns the measures of a run, each over all queries.
func (e *evaluation) evaluate(run measures.Run) ([]values, error) {
	result, err := measures.Evaluate(e.judgements, run, e.measures, measures.Options{})
	if err != nil {
		return nil, err
	}
	all := make([]values, len(result.Results))
	for m := range all {
		r := &result.Results[m]
		all[m] = values{r.Values(), r.Value, r.Low, r.High, r.Ceiling}
	}
	return all, nil
}

// compare measures a run and compares it with the first stage, in config.
func (e *evaluation) compare(config *configuration, run measures.Run) error {
	after, err := e.evaluate(run)
	if err != nil {
		return err
	}
	config.after = after
	config.Measures, err = e.compareAll(e.before, after)
	return err
}

// compareAll compares all measures. The tests resample thousands of times, so each
// measure has a goroutine.
func (e *evaluation) compareAll(before, after []values) ([]comparison, error) {
	all := make([]comparison, len(e.measures))
	var group errgroup.Group
	for m := range all {
		group.Go(func() (err error) {
			all[m], err = compareValues(e.measures[m], before[m], after[m])
			return err
		})
	}
	return all, group.Wait()
}

// compareValues compares two lists of values of the same queries.
func compareValues(measure measures.Measure, before, after values) (comparison, error) {
	c, err := measures.Compare(before.each, after.each)
	if err != nil {
		return comparison{}, err
	}
	result := comparison{
		Measure: measure.String(), Before: before.mean, After: after.mean, Lowest: after.lowest, Highest: after.highest,
		Difference: c.Difference, P: c.Randomization, TTest: c.TTest, Won: c.Won, Lost: c.Lost, Same: c.Equal,
	}
	if c.Interval != nil {
		result.Low, result.High = &c.Interval.Low, &c.Interval.High
	}
	return result, nil
}

// compareToBest compares the first measure of each configuration with the best one.
func (e *evaluation) compareToBest() error {
	all := e.report.Configurations
	if len(all) < 2 {
		return nil
	}
	best := slices.MaxFunc(all, func(a, b *configuration) int { return cmp.Compare(a.after[0].mean, b.after[0].mean) })
	for _, config := range all {
		if config == best {
			continue
		}
		c, err := measures.Compare(best.after[0].each, config.after[0].each)
		if err != nil {
			return err
		}
		config.PToBest = &c.Randomization
	}
	return nil
}

// addCeilings adds the measures of a perfect order of the first candidates: by
// relevance, and judged documents before others.
func (e *evaluation) addCeilings(config *configuration) error {
	perfect := &scored{logits: make([][]float32, len(e.queries))}
	for q, list := range e.candidates {
		judged := e.qrels[e.queries[q]]
		for _, d := range list[:min(config.Depth, len(list))] {
			logit := float32(0)
			if relevance, ok := judged[d.ID]; ok {
				logit = float32(relevance) + 0.5
			}
			perfect.logits[q] = append(perfect.logits[q], logit)
		}
	}
	ceilings, err := e.evaluate(e.reranked(perfect, config.Depth))
	if err != nil {
		return err
	}
	for m := range ceilings {
		config.Measures[m].Ceiling = &ceilings[m].mean
	}
	return nil
}

// cells formats a comparison as cells of a table.
func (c *comparison) cells() []string {
	ceiling, interval := "-", "-"
	if c.Ceiling != nil {
		ceiling = number(*c.Ceiling)
	}
	if c.Low != nil {
		interval = signed(*c.Low) + " " + signed(*c.High)
	}
	return []string{c.Measure, number(c.Before), number(c.After), signed(c.Difference), interval,
		pValue(c.P), strconv.Itoa(c.Won), strconv.Itoa(c.Lost), strconv.Itoa(c.Same), ceiling}
}
