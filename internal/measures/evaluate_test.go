package measures

import (
	"math"
	"strings"
	"testing"
)

func TestEvaluateErrors(t *testing.T) {
	t.Parallel()
	qrels := Qrels{"q1": {"d1": 1}}
	for name, c := range map[string]struct {
		qrels Qrels
		run   Run
		want  string
	}{
		"no judgements":  {nil, Run{"q1": nil}, "no judgements"},
		"other ids":      {qrels, Run{"1": nil, "2": nil}, `the run has 2 queries ("1" "2"), the judgements (qrels) have 1 ("q1")`},
		"empty run":      {qrels, nil, "the run has 0 queries (none)"},
		"NaN":            {qrels, Run{"q1": {{"d1", math.NaN()}}}, `query "q1", document "d1": score is NaN`},
		"document twice": {qrels, Run{"q1": {{"d1", 1}, {"d2", 2}, {"d1", 3}}}, `document "d1" is in the run twice`},
	} {
		if e, err := Evaluate(c.qrels, c.run, nil, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, e, err, c.want)
		}
	}
}

// TestEvaluateQueries shows which queries count.
func TestEvaluateQueries(t *testing.T) {
	t.Parallel()
	qrels := Qrels{"q1": {"d1": 1}, "q2": {"d1": 1}, "q3": {"d1": -1}}
	run := Run{"q1": {{"d1", 1}}, "q3": nil, "q9": {{"d1", math.NaN()}}}
	list := []Measure{{NDCG, 10, 1}}
	all, err := Evaluate(qrels, run, list, Options{})
	if err != nil || len(all.Queries) != 3 || all.Results[0].Value != 1.0/3 {
		t.Errorf("%+v, %v; want the mean over 3 queries", all, err)
	}
	if len(all.Missing) != 1 || all.Missing[0] != "q2" || len(all.Unjudged) != 1 || all.Unjudged[0] != "q9" {
		t.Errorf("missing %q, unjudged %q", all.Missing, all.Unjudged)
	}
	judged, err := Evaluate(qrels, run, list, Options{OnlyJudgedQueries: true})
	if err != nil || len(judged.Queries) != 2 || judged.Results[0].Value != 0.5 {
		t.Errorf("%+v, %v; want the mean over 2 queries", judged, err)
	}
}
