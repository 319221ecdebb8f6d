// Package score implements the command score.
package score

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

// Command returns the command score.
func Command(s command.Streams) *cli.Command {
	flags := append(scored.Flags(),
		&cli.StringFlag{Name: "part", Usage: "score part `I/N` of N equal parts only; score merge joins the outputs"},
		command.CacheFlag(),
		command.ProfileFlag(),
		&cli.BoolFlag{Name: "resume", Usage: "continue an interrupted run of the same command", DisableDefaultText: true},
		command.QuietFlag(),
	)
	return &cli.Command{
		Name:      "score",
		Usage:     "score the query-document pairs of a file",
		UsageText: "mlxrank score --input FILE --output FILE [flags]",
		Description: input.FormatsHelp +
			"The output has the same lines in the same order with a score added: a field \"score\"\n" +
			"of the object, or a last column. All other bytes of a line are kept. An object with\n" +
			"an empty document also gets \"empty\": true.\n\n" +
			"The output for a TREC run is a TREC run. --output-format trec writes one for msmarco,\n" +
			"and for jsonl whose objects have \"query_id\" and \"document_id\". A TREC run keeps the\n" +
			"order of the queries, lists the best documents of a query first, and has each pair\n" +
			"once. Its scores are logits, since scores of good documents round to the same number.\n\n" +
			"A document longer than the model takes is truncated, or, with --long passages,\n" +
			"scored in passages that overlap by a quarter; the best passage counts.\n\n" +
			"With --on-error skip, {\"error\": ..., \"line\": ...} replaces a line that cannot be\n" +
			"scored. In columns, the line becomes empty columns with \"error: line N: ...\" as the\n" +
			"score. A TREC run leaves the line out.\n\n" +
			"An output file appears when all lines are scored; an older file of that name stays\n" +
			"until then. It is compressed if its name ends in .gz or .zst. An interrupted or\n" +
			"killed run leaves FILE.mlxrank-partial and FILE.mlxrank-state. The same command with\n" +
			"--resume continues from there, and its output is the same as that of one run.\n" +
			"Without these files, --resume starts from the beginning.\n\n" +
			"--part 3/16 scores the third of sixteen equal parts, so that sixteen machines can share a\n" +
			"file that each of them has. The output of a part is one file, whose last line\n" +
			"describes the part; mlxrank score merge joins all of them to the output of one run.\n\n" +
			"Standard output (- or /dev/stdout), other descriptors, devices and pipes receive\n" +
			"scores as they are ready. If the input is a pipe too, each line is answered as it\n" +
			"arrives, so that another program can write a pair and wait for its score. Lines that\n" +
			"arrive while others are scored are scored together.\n\n" +
			command.SummaryHelp +
			command.Examples(
				[2]string{"Score a file with the built-in model", "mlxrank score --model builtin --input pairs.jsonl --output scores.jsonl"},
				[2]string{"Continue after an interrupt", "mlxrank score --model builtin --input pairs.jsonl --output scores.jsonl --resume"},
				[2]string{"Score the third of sixteen parts on one of several machines", "mlxrank score --model builtin --input pairs.jsonl --part 3/16 --output scores.part03"},
				[2]string{"Join the parts", "mlxrank score merge --output scores.jsonl scores.part*"},
				[2]string{"Score again without computing what an earlier run has scored", "mlxrank score --cache ~/.cache/mlxrank-scores --input pairs.jsonl --output scores.jsonl"},
				[2]string{"Write probabilities of relevance, by a file of mlxrank eval", "mlxrank score --calibration calibration.json --input pairs.jsonl --output scores.jsonl"},
				[2]string{"Score in a pipe", "mlxrank score --model builtin --input - --output - <pairs.jsonl | jq .score"},
				[2]string{"Score a table with other names of columns", `mlxrank score --model builtin --input pairs.csv --query-fields question --fields title,body --output scores.csv`},
				[2]string{"Write a TREC run of MS MARCO's top 1000", "mlxrank score --input top1000.dev.tsv.gz --output dev.run --output-format trec"},
				[2]string{"Rerank a TREC run", "mlxrank score --input bm25.run --queries queries.tsv --documents collection.tsv --output reranked.run"},
				[2]string{"Rerank a run on a BEIR collection", "mlxrank score --input bm25.run --queries queries.jsonl --documents corpus.jsonl --output reranked.run --run-tag minilm"},
			),
		Flags:       append(flags, command.EngineFlags(weights.Default)...),
		Subcommands: []*cli.Command{mergeCommand(s)},
		Action:      command.Profiled(func(c *cli.Context) error { return score(c, s) }),
	}
}

func score(c *cli.Context, s command.Streams) (err error) {
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if err := command.SetCalibration(c, &config); err != nil {
		return err
	}
	if err := scored.CheckFlags(c); err != nil {
		return err
	}
	part, err := partOf(c)
	if err != nil {
		return err
	}
	run := &scoring{part: part, log: config.Logger, notices: command.NewNotices(c, s.Err, config.Logger), skip: scored.SkipsErrors(c)}
	if run.long, err = command.LongMode(c); err != nil {
		return err
	}
	if run.pairs, err = input.OpenPairs(c, s.In, scored.ReaderOptions(c)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.pairs.Close()) }()
	if err := scored.CheckApart(run.pairs.Files(), c.String("output")); err != nil {
		return err
	}
	if run.out, err = scored.Create(c.Context, c.String("output"), s.Out, c.Bool("resume")); err != nil {
		return err
	}
	defer func() { err = run.out.Close(err) }()
	if part != nil {
		err = run.pairs.Keep(c.Context)
	} else {
		run.survey, err = scored.Check(run.pairs, nil, run.notices, run.skip)
	}
	if err != nil {
		return err
	}
	closeCache, err := command.SetCache(c, &config, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeCache()) }()
	if run.engine, err = engine.Open(c.Context, config); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(c.Context, run.engine, config.Logger)) }()
	if err := run.engine.Ready(c.Context); err != nil {
		return err
	}
	run.facts = output.NewSummary(run.engine.Info())
	if part != nil {
		// The borders of parts depend on the engine.
		if err := run.findPart(); err != nil {
			return err
		}
	}
	if err := run.begin(c); err != nil {
		return err
	}
	if err := run.scoreAll(c.Context); err != nil {
		return err
	}
	if err := run.out.Commit(); err != nil {
		return err
	}
	run.report()
	return nil
}
