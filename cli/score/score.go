package score

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

var outputFormatChoice = command.Choice{Name: "output-format", Usage: "output `FORMAT`", Def: "same", Values: []string{"same", "trec"}}

var onErrorChoice = command.Choice{Name: "on-error", Usage: "`ACTION` for a line that cannot be scored", Def: "fail", Values: []string{"fail", "skip"}}

func Command(s command.Streams) *cli.Command {
	flags := append(input.PairFlags(),
		&cli.StringFlag{Name: "output", Usage: "`FILE` for the scored pairs, - for standard output (required)"},
		outputFormatChoice.Flag(),
		runTagFlag,
		&cli.BoolFlag{Name: "overwrite-score", Usage: "replace scores that the input already has", DisableDefaultText: true},
		onErrorChoice.Flag(),
		command.LongFlag(),
		command.ProfileFlag(),
		&cli.BoolFlag{Name: "resume", Usage: "continue an interrupted run of the same command", DisableDefaultText: true},
		command.QuietFlag(),
	)
	return &cli.Command{
		Name:      "score",
		Usage:     "score the query-document pairs of a file",
		UsageText: "mlxrank score --input FILE --output FILE [flags]",
		Description: input.FormatsHelp +
			"The output is the same lines in the same order with a score added: a field \"score\"\n" +
			"of the object, or a last column. Every other byte of a line is kept; an object with\n" +
			"an empty document also gets \"empty\": true. A TREC run becomes a TREC run. With\n" +
			"--output-format trec, msmarco becomes one too, and jsonl whose objects have\n" +
			"\"query_id\" and \"document_id\": queries in the order they come in, of each the best\n" +
			"documents first, each once, with logits as scores, since scores of good documents\n" +
			"round to the same number.\n\n" +
			"A document longer than the model takes is cut at its end, or, with --long passages,\n" +
			"scored in passages that overlap by a quarter; the best passage counts.\n\n" +
			"With --on-error skip, {\"error\": ..., \"line\": ...} stands in the place of a line that\n" +
			"cannot be scored, or empty columns and, for the score, \"error: line N: ...\"; a TREC\n" +
			"run leaves it out.\n\n" +
			"An output file appears when all is scored, and not before; a file that stood there\n" +
			"stays until then. It is compressed if its name ends in .gz or .zst. A run that is\n" +
			"interrupted or killed leaves FILE.mlxrank-partial and FILE.mlxrank-state: the same\n" +
			"command with --resume goes on from there, and makes what one run would have made.\n" +
			"Without anything to go on with, --resume starts from the beginning.\n" +
			"Standard output, by - or by /dev/stdout, other descriptors, devices and pipes are\n" +
			"written as scores are ready. What comes through a pipe is answered\n" +
			"line by line as it comes, so that another program can write a pair and wait for its\n" +
			"score; what came meanwhile is scored together.\n\n" +
			command.SummaryHelp +
			command.Examples(
				[2]string{"Score a file with the built-in model", "mlxrank score --model builtin --input pairs.jsonl --output scores.jsonl"},
				[2]string{"Go on after an interrupt", "mlxrank score --model builtin --input pairs.jsonl --output scores.jsonl --resume"},
				[2]string{"As part of a pipe", "mlxrank score --model builtin --input - --output - <pairs.jsonl | jq .score"},
				[2]string{"A TREC run of MS MARCO's top 1000", "mlxrank score --input top1000.dev.tsv.gz --output dev.run --output-format trec"},
				[2]string{"Rerank a TREC run", "mlxrank score --input bm25.run --queries queries.tsv --documents collection.tsv --output reranked.run"},
				[2]string{"Rerank a run on a BEIR collection", "mlxrank score --input bm25.run --queries queries.jsonl --documents corpus.jsonl --output reranked.run --run-tag minilm"},
			),
		Flags:  append(flags, command.EngineFlags(weights.Default)...),
		Action: command.Profiled(func(c *cli.Context) error { return score(c, s) }),
	}
}

func score(c *cli.Context, s command.Streams) (err error) {
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if err := checkScoreFlags(c); err != nil {
		return err
	}
	run := &scoring{log: config.Logger, notices: command.NewNotices(c, s.Err, config.Logger), skip: c.String("on-error") == "skip"}
	if run.long, err = command.LongMode(c); err != nil {
		return err
	}
	if run.pairs, err = input.OpenPairs(c, s.In, scoreOptions(c)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.pairs.Close()) }()
	if err := checkApart(run.pairs, c.String("output")); err != nil {
		return err
	}
	if run.out, err = createOutput(c.Context, c.String("output"), s.Out, c.Bool("resume")); err != nil {
		return err
	}
	defer func() { err = run.out.close(err) }()
	if err := run.check(); err != nil {
		return err
	}
	if run.engine, err = engine.Open(c.Context, config); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(c.Context, run.engine, config.Logger)) }()
	run.facts = output.NewSummary(run.engine.Info())
	if err := run.begin(c); err != nil {
		return err
	}
	if err := run.scoreAll(c.Context); err != nil {
		return err
	}
	if err := run.out.commit(); err != nil {
		return err
	}
	run.report()
	return nil
}

// checkScoreFlags checks the flags of score's own.
func checkScoreFlags(c *cli.Context) error {
	if err := command.Require(c, "input", "output"); err != nil {
		return err
	}
	for _, ch := range []command.Choice{outputFormatChoice, onErrorChoice} {
		if err := ch.Check(c, "--"+ch.Name); err != nil {
			return err
		}
	}
	_, toDescriptor := descriptor(c.String("output"))
	switch {
	case c.Bool("resume") && toDescriptor:
		return command.Usagef("--resume needs an output file: nothing is kept of what is written to %s", c.String("output"))
	case checkRunTag(c.String("run-tag")) != nil:
		return checkRunTag(c.String("run-tag"))
	case c.String("format") == "tsv" && c.String("output-format") == "trec":
		return command.Usagef("--output-format trec needs ids, and tsv has none; --format msmarco has qid, pid, query, passage")
	}
	return nil
}

func scoreOptions(c *cli.Context) records.Options {
	options := records.Options{Score: records.RefuseScore, IDs: c.String("output-format") == "trec"}
	if c.Bool("overwrite-score") {
		options.Score = records.ReplaceScore
	}
	return options
}
