package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/engine"
)

func scoreCommand(s Streams) *cli.Command {
	flags := []cli.Flag{
		inputFlag(),
		&cli.StringFlag{Name: "output", Usage: "write the scored pairs to `FILE`, - for standard output (required)"},
	}
	return &cli.Command{
		Name:      "score",
		Usage:     "score query-document pairs of a JSONL file",
		UsageText: "mlxrank score --input FILE --output FILE [flags]",
		Description: "Each line of the input is a JSON object with the strings \"query\" and \"document\".\n" +
			"The output is the same lines in the same order with a field \"score\" added; every\n" +
			"other byte of a line is kept. Blank lines are skipped. An output file appears when\n" +
			"all is scored, and not before; a file that stood there stays until then. Standard\n" +
			"output is written as scores are ready. A summary goes to standard error.\n\n" +
			examples(
				[2]string{"Score a file with the built-in model", "mlxrank score --model builtin --input pairs.jsonl --output scores.jsonl"},
				[2]string{"As part of a pipe", "mlxrank score --model builtin --input - --output - <pairs.jsonl | jq .score"},
			),
		Flags:  append(flags, engineFlags(defaultModel)...),
		Action: func(c *cli.Context) error { return score(c, s) },
	}
}

func inputFlag() cli.Flag {
	return &cli.StringFlag{Name: "input", Usage: "read the pairs from `FILE`, - for standard input (required)"}
}

// requireFlags refuses a command line without the named flags, or with
// arguments.
func requireFlags(c *cli.Context, names ...string) error {
	for _, name := range names {
		if c.String(name) == "" {
			return usagef("--%s is missing (see %s --help)", name, c.Command.HelpName)
		}
	}
	return noArguments(c)
}

func score(c *cli.Context, s Streams) (err error) {
	config, err := engineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if err := requireFlags(c, "input", "output"); err != nil {
		return err
	}
	in, err := openInput(c.Context, c.String("input"), s.In)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := checkPairs(in); err != nil {
		return err
	}
	out, err := createOutput(c.String("output"), s.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.discard()) }()
	e, err := engine.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeEngine(c.Context, e, config.Logger)) }()
	run := newFacts(e.Info())
	if err := scoreAll(c.Context, e, in, out, run); err != nil {
		return err
	}
	if err := out.commit(); err != nil {
		return err
	}
	return run.write(s.Err)
}

// checkPairs reads an input that can be read twice to its end, so that a
// malformed line is found before the pairs above it have been scored for
// nothing.
func checkPairs(in *input) error {
	if !in.rewindable() {
		return nil
	}
	r := pairReader{lines: newLines(in.name, in), reserved: "score"}
	for {
		w, err := r.next()
		if err != nil {
			return err
		}
		if len(w.pairs) == 0 {
			break
		}
	}
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s: %w", in.name, err)
	}
	return nil
}

func scoreAll(ctx context.Context, e *engine.Engine, in *input, out *output, run *facts) error {
	r := pairReader{lines: newLines(in.name, in), reserved: "score"}
	for {
		w, err := r.next()
		if err != nil {
			return err
		}
		if len(w.pairs) == 0 {
			return nil
		}
		result, err := e.Score(ctx, w.pairs)
		if err != nil {
			return err
		}
		run.add(len(w.pairs), result)
		if err := writeScores(out, w.lines, result.Scores); err != nil {
			return err
		}
	}
}

// writeScores writes the lines with their scores added.
func writeScores(out *output, lines [][]byte, scores []float32) error {
	for i, line := range lines {
		scored, err := appendField(line, "score", scores[i])
		if err != nil {
			return err
		}
		if _, err := out.Write(append(scored, '\n')); err != nil {
			return out.wrap(err)
		}
	}
	if out.streamed() {
		return out.wrap(out.Flush())
	}
	return nil
}
