package eval

import (
	"errors"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// JudgedFlags returns the flags of eval that name judged queries and their candidates.
func JudgedFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{Name: "demo", DisableDefaultText: true, Usage: "use the judged collection that is part of mlxrank"},
		&cli.StringFlag{Name: "qrels", DefaultText: "none", Usage: "`FILE` of judgements"},
		&cli.StringSliceFlag{Name: "run", Usage: "`FILE` with the run to rerank"},
		&cli.StringFlag{Name: "candidates", DefaultText: "none", Usage: "`FILE` of queries and documents to rerank, in place of --run"},
		&cli.StringFlag{Name: "beir", DefaultText: "none", Usage: "`DIR` of a BEIR collection, in place of --queries, --documents and --qrels"},
	}, input.TextFlags()...)
}

// A Judged holds queries with judgements and candidates, for other commands that
// measure quality as eval does.
type Judged struct {
	evaluation
	measure measures.Measure
}

// JudgedMeasure is the measure of a Judged.
const JudgedMeasure = "nDCG@10"

// OpenJudged reads what JudgedFlags name. It returns nil if none of them is given.
func OpenJudged(c *cli.Context, stdin io.Reader) (*Judged, error) {
	o := &options{configs: make([]engine.Config, 1)}
	named := slices.ContainsFunc([]string{"demo", "qrels", "run", "candidates", "beir", "queries", "documents"}, c.IsSet)
	switch {
	case !named:
		return nil, nil
	case c.Bool("demo"):
		for _, name := range []string{"qrels", "run", "candidates", "beir", "queries", "documents"} {
			if c.IsSet(name) {
				return nil, command.Usagef("--demo has a collection of its own; omit --%s or --demo", name)
			}
		}
	case len(c.StringSlice("run")) > 1:
		return nil, command.Usagef("--run is given twice; models rerank one run")
	case c.IsSet("run") && !c.IsSet("beir") && !c.IsSet("queries") && !c.IsSet("documents"):
		return nil, command.Usagef("--queries and --documents are missing; a model needs the texts")
	}
	if err := o.checkInputs(c); err != nil {
		return nil, err
	}
	col, err := openCollection(c, stdin, o)
	if err != nil {
		return nil, err
	}
	measure, err := measures.Parse(JudgedMeasure)
	if err != nil {
		return nil, errors.Join(err, col.close())
	}
	return &Judged{evaluation{options: o, collection: col}, measure}, nil
}

// Name returns the name of the file with the candidates.
func (j *Judged) Name() string { return j.first.name }

// Close closes the files.
func (j *Judged) Close() error { return j.close() }

// A JudgedQuery is a query with its first candidates.
type JudgedQuery struct {
	ID    string
	Pairs []engine.Pair
	ids   []string // of the documents
}

// Queries returns at most so many queries, evenly over all that have candidates, each
// with its first candidates down to a depth.
func (j *Judged) Queries(most, depth int) ([]JudgedQuery, error) {
	var with []int
	for q, list := range j.collection.candidates {
		if len(list) > 1 {
			with = append(with, q)
		}
	}
	if len(with) == 0 {
		return nil, errors.New("no judged query has two candidates to rank")
	}
	n := min(most, len(with))
	var queries []JudgedQuery
	for i := range n {
		q := with[i*len(with)/n]
		query := JudgedQuery{ID: j.collection.queries[q]}
		for rank, d := range j.collection.candidates[q][:min(depth, len(j.collection.candidates[q]))] {
			text, document, err := j.text(place{q, rank})
			if err != nil {
				return nil, err
			}
			query.Pairs, query.ids = append(query.Pairs, engine.Pair{Query: text, Document: document}), append(query.ids, d.ID)
		}
		queries = append(queries, query)
	}
	return queries, nil
}

// Values returns the measure of each query if its candidates are ranked by these logits, of
// which a query may have fewer. The queries are some of Queries, in its order.
func (j *Judged) Values(queries []JudgedQuery, logits [][]float32) ([]float64, error) {
	run, qrels := make(measures.Run), make(measures.Qrels)
	for q, query := range queries {
		qrels[query.ID] = j.qrels[query.ID]
		for i, id := range query.ids[:len(logits[q])] {
			run[query.ID] = append(run[query.ID], measures.Retrieved{ID: id, Score: float64(logits[q][i])})
		}
	}
	result, err := measures.Evaluate(qrels, run, []measures.Measure{j.measure}, measures.Options{})
	if err != nil {
		return nil, err
	}
	return result.Results[0].Values(), nil
}
