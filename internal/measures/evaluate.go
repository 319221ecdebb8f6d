package measures

import (
	"fmt"
	"maps"
	"slices"
)

// Options selects over which queries means are taken.
type Options struct {
	// OnlyJudgedQueries takes means over the judged queries that the run has. By default
	// they are over all judged queries, and a query that the run lacks counts 0.
	OnlyJudgedQueries bool
}

// An Evaluation has the measures of a run.
type Evaluation struct {
	Queries  []string // over which the means are, sorted
	Missing  []string // queries of the judgements that the run lacks, sorted
	Unjudged []string // queries of the run without judgements, which do not count, sorted
	Results  []Result // in the order of the measures
}

// A Result has the means of one measure, and its value for each query in the order of
// Evaluation.Queries.
type Result struct {
	Measure Measure
	QueryValue
	Queries []QueryValue
}

// A QueryValue is a measure of one query's ranking.
type QueryValue struct {
	Value     float64
	Low, High float64 // over all orders of documents with equal scores
	Ceiling   float64 // of the best order of the retrieved documents
}

// Values returns the value of each query.
func (r *Result) Values() []float64 {
	values := make([]float64, len(r.Queries))
	for i := range r.Queries {
		values[i] = r.Queries[i].Value
	}
	return values
}

// Evaluate returns the measures of a run.
func Evaluate(qrels Qrels, run Run, list []Measure, options Options) (*Evaluation, error) {
	if len(qrels) == 0 {
		return nil, fmt.Errorf("no judgements (qrels): nothing can be measured")
	}
	e := &Evaluation{}
	found := 0
	for _, id := range slices.Sorted(maps.Keys(qrels)) {
		if _, ok := run[id]; ok {
			found++
		} else {
			e.Missing = append(e.Missing, id)
			if options.OnlyJudgedQueries {
				continue
			}
		}
		e.Queries = append(e.Queries, id)
	}
	for id := range run {
		if _, ok := qrels[id]; !ok {
			e.Unjudged = append(e.Unjudged, id)
		}
	}
	slices.Sort(e.Unjudged)
	if found == 0 {
		return nil, fmt.Errorf("no query of the run is judged: the run has %d queries (%s), the judgements (qrels) have %d (%s); check that both use the same ids",
			len(run), some(e.Unjudged), len(qrels), some(e.Missing))
	}
	if err := checkRun(run, e.Queries); err != nil {
		return nil, err
	}
	e.measure(qrels, run, list)
	return e, nil
}

func (e *Evaluation) measure(qrels Qrels, run Run, list []Measure) {
	e.Results = make([]Result, len(list))
	for i, m := range list {
		e.Results[i] = Result{Measure: m, Queries: make([]QueryValue, len(e.Queries))}
	}
	for i, id := range e.Queries {
		q := newQuery(qrels[id])
		r := newRankings(q.judged, Rank(run[id]))
		for j, m := range list {
			e.Results[j].Queries[i] = QueryValue{m.value(&q, r.actual), m.value(&q, r.low), m.value(&q, r.high), m.value(&q, r.best)}
		}
	}
	for i := range e.Results {
		e.Results[i].QueryValue = mean(e.Results[i].Queries)
	}
}

func mean(values []QueryValue) QueryValue {
	var sum QueryValue
	for _, v := range values {
		sum.Value += v.Value
		sum.Low += v.Low
		sum.High += v.High
		sum.Ceiling += v.Ceiling
	}
	n := float64(len(values))
	return QueryValue{sum.Value / n, sum.Low / n, sum.High / n, sum.Ceiling / n}
}

// some returns the first few ids for an error.
func some(ids []string) string {
	const few = 3
	if len(ids) == 0 {
		return "none"
	}
	text := fmt.Sprintf("%.100q", ids[:min(few, len(ids))])
	text = text[1 : len(text)-1]
	if len(ids) > few {
		text += " ..."
	}
	return text
}
