package tune

import (
	"io"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/bench/workload"
	"github.com/mlxrank/mlxrank/cli/eval"
	"github.com/mlxrank/mlxrank/engine"
)

// tune measures at most so many queries with so many documents each.
const (
	mostQueries = 32
	documents   = 20
)

// texts are the queries to score, with judgements if there are any.
type texts struct {
	name    string
	queries [][]engine.Pair
	judged  *eval.Judged       // nil without judgements
	list    []eval.JudgedQuery // the same queries
}

// openTexts reads the judged collection that the flags name, or else the pairs that are
// part of the program.
func openTexts(c *cli.Context, stdin io.Reader) (*texts, error) {
	judged, err := eval.OpenJudged(c, stdin)
	if err != nil {
		return nil, err
	}
	if judged == nil {
		return builtinTexts()
	}
	t := &texts{name: judged.Name(), judged: judged}
	if t.list, err = judged.Queries(mostQueries, documents); err != nil {
		return nil, err
	}
	for _, q := range t.list {
		t.queries = append(t.queries, q.Pairs)
	}
	return t, nil
}

// builtinTexts returns the first documents of each query of the builtin benchmark.
func builtinTexts() (*texts, error) {
	w, err := workload.Open(workload.Builtin, 0)
	if err != nil {
		return nil, err
	}
	t := &texts{name: "texts of the builtin benchmark"}
	last := ""
	for _, pair := range w.Pairs {
		if pair.Query != last {
			t.queries, last = append(t.queries, nil), pair.Query
		}
		if q := &t.queries[len(t.queries)-1]; len(*q) < documents {
			*q = append(*q, pair)
		}
	}
	t.queries = t.queries[:min(len(t.queries), mostQueries)]
	return t, nil
}

func (t *texts) close() error {
	if t.judged == nil {
		return nil
	}
	return t.judged.Close()
}
