// Package eval implements the command eval.
package eval

import (
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/weights"
)

// Command returns the command eval.
func Command(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:  "eval",
		Usage: "measure how well models rerank, against judgements",
		UsageText: "mlxrank eval --demo\n" +
			"mlxrank eval --qrels FILE --run FILE --queries FILE --documents FILE [--model MODEL]... [flags]\n" +
			"mlxrank eval --beir DIR --run FILE [flags]\n" +
			"mlxrank eval --candidates FILE [--qrels FILE] [flags]\n" +
			"mlxrank eval --qrels FILE --run FILE [--run FILE]... [flags]",
		Description: description + command.SummaryHelp +
			command.Examples(
				[2]string{"See what eval shows, with the built-in model and collection", "mlxrank eval --demo"},
				[2]string{"Choose among two models and two number formats", "mlxrank eval --beir scifact --run bm25.run --model builtin --model cross-encoder/ms-marco-MiniLM-L6-v2 --dtype float32,bfloat16 --plot quality.png"},
				[2]string{"Choose a depth, and keep the reranked run for trec_eval", "mlxrank eval --qrels qrels.txt --run bm25.run --queries queries.tsv --documents collection.tsv --depth 20,50,100 --write-run reranked.run"},
				[2]string{"Choose a threshold from labelled pairs", "mlxrank eval --candidates labelled.jsonl --model builtin --precision 0.95"},
				[2]string{"Make probabilities of scores", "mlxrank eval --candidates labelled.jsonl --model builtin --write-calibration builtin.json"},
				[2]string{"Compare runs of other programs, query by query", "mlxrank eval --qrels qrels.txt --run bm25.run --run other.run --per-query -"},
			),
		Flags:  slices.Concat(evalFlags(), command.EngineListFlags(weights.Default)),
		Action: command.Profiled(func(c *cli.Context) error { return eval(c, s) }),
	}
}

const description = "Judgements (qrels) name the documents that answer each query. eval compares the\n" +
	"ranking of a first stage, such as BM25, with the ranking after a model reranked its\n" +
	"best documents. It shows each measure before and after, the difference with a 95 %\n" +
	"bootstrap interval and the p-value of a paired randomization test over queries, the\n" +
	"queries won and lost, and the ceiling: the measure of a perfect order of the same\n" +
	"candidates. The depth curve shows quality and time for each number of reranked\n" +
	"documents. With the queries and documents given, --model, --max-length and --dtype\n" +
	"may have several values; each combination is a configuration. Without them, no model\n" +
	"is opened: the other runs are compared with the first --run.\n\n" +
	"Inputs, which may be compressed with gzip or zstd:\n" +
	"  --qrels       TREC's (qid 0 docid relevance) or BEIR's (query-id, corpus-id, score)\n" +
	"  --run         a TREC run (qid Q0 docid rank score tag), or qid pid rank\n" +
	"  --candidates  the formats of mlxrank score, such as JSONL with labels or MS MARCO's\n" +
	"                top-1000 files\n" +
	"  --beir        a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv; --qrels\n" +
	"                replaces the latter\n" +
	input.FormatsPage + "\n\n" +
	"Measures have the names of ir_measures: nDCG@10, RR@10, AP, R@100, P@10, Judged@10 and\n" +
	"others, at any depth, and AP(rel=2) for a higher least relevance. Values are\n" +
	"trec_eval's: the rank column of a run is ignored, documents with equal scores have\n" +
	"descending order of ids, the gain is the relevance, its discount log2(rank + 1), and a\n" +
	"document without a judgement is not relevant. If the order of equal scores can change\n" +
	"a measure, a note shows its lowest and highest value. A judged query that a run lacks\n" +
	"counts 0; --only-judged-queries omits the queries that not all runs have. Models rank\n" +
	"by their logits; documents below the depth keep the order of the first stage.\n\n" +
	"--thresholds shows the scores of relevant and other pairs, precision and recall by\n" +
	"threshold, and the threshold for --precision. --write-calibration writes the\n" +
	"temperature and shift that fit the scores to the judgements, for --calibration of\n" +
	"rerank, score and serve.\n\n" +
	"--demo evaluates the builtin model on a small collection that is part of mlxrank,\n" +
	"without a network. docs/user/eval.md explains every number.\n\n"

// eval runs the command.
func eval(c *cli.Context, s command.Streams) (err error) {
	o, err := newOptions(c, s)
	if err != nil {
		return err
	}
	col, err := openCollection(c, s.In, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, col.close()) }()
	e := &evaluation{options: o, collection: col}
	if err := e.start(); err != nil {
		return err
	}
	if err := e.checkKinds(); err != nil {
		return err
	}
	if err := e.compareRuns(); err != nil {
		return err
	}
	if err := e.rerankAll(c.Context); err != nil {
		return err
	}
	if err := e.comparePrecisions(); err != nil {
		return err
	}
	if err := e.compareToBest(); err != nil {
		return err
	}
	e.warn()
	e.failed = errors.Join(e.failed, e.writeFiles())
	return errors.Join(e.print(s.Out), e.failed)
}
