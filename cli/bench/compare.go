package bench

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/bench"
	"github.com/mlxrank/mlxrank/bench/compare"
	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
)

var compareFormatChoice = command.Choice{Name: "format", Usage: "comparison `FORMAT`", Def: "text", Values: []string{"text", "json", "benchstat"}}

func compareCommand(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "run", DisableDefaultText: true, Usage: "measure experiments A and B alternately"},
		&cli.IntFlag{Name: "rounds", Value: 6, Usage: "runs `N` of each experiment"},
		&cli.StringFlag{Name: "fail-if-slower", DefaultText: "never", Usage: "max `PERCENT` by which the throughput of B may be lower, such as 5%; above it, the exit status is 1"},
		compareFormatChoice.Flag(),
	}
	return &cli.Command{
		Name:      "compare",
		Usage:     "compare two results, or two experiments measured alternately",
		UsageText: "mlxrank bench compare [flags] A_results.json B_results.json\nmlxrank bench compare --run [--rounds N] [flags] A.yaml B.yaml",
		Description: "Prints the figures of A and B and the ratio B/A with its 95 % confidence interval, by\n" +
			"bootstrap over runs. Results of different times also differ by the load of the\n" +
			"machine. --run measures A B A B ... and compares round by round, so that noise\n" +
			"affects both equally.\n\n" +
			"--fail-if-slower does not fail if the confidence interval contains 1. With too few\n" +
			"runs for an interval, the ratio decides. The format benchstat is Go's benchmark\n" +
			"format with one line per run and the name of the experiment for benchstat's -col.\n\n" +
			command.Examples(
				[2]string{"Compare two results", "mlxrank bench compare old_results.json new_results.json"},
				[2]string{"Measure two experiments alternately, for continuous integration", "mlxrank bench compare --run --rounds 6 --fail-if-slower 5% a.yaml b.yaml"},
				[2]string{"Compare with Go's benchstat", "mlxrank bench compare --format benchstat a_results.json b_results.json | benchstat -col experiment -"},
			),
		Flags:  slices.Concat(flags, benchFlags()),
		Action: func(c *cli.Context) error { return compareBench(c, s) },
	}
}

func compareBench(c *cli.Context, s command.Streams) error {
	if err := compareFormatChoice.Check(c, "--format"); err != nil {
		return err
	}
	limit, err := slowerLimit(c)
	if err != nil {
		return err
	}
	if c.NArg() != 2 {
		return command.Usagef("bench compare takes two files, found %d: give two results, %s, or with --run two experiments, %s (see mlxrank bench compare --help)",
			c.NArg(), "results/OLD_results.json results/NEW_results.json", "A.yaml B.yaml")
	}
	if c.Int("rounds") < 1 {
		return command.Usagef("--rounds %d is too small; expected at least 1", c.Int("rounds"))
	}
	both, err := toCompare(c, s)
	if err != nil {
		return err
	}
	comparison, err := compare.Results(both[0], both[1], c.Bool("run"))
	if err != nil {
		return command.Usagef("%v", err)
	}
	if err := printComparison(s, c.String("format"), comparison, both); err != nil {
		return err
	}
	if slower := comparison.Slower(limit); c.IsSet("fail-if-slower") && slower != "" {
		return fmt.Errorf("%s", slower)
	}
	return nil
}

// slowerLimit returns the limit of --fail-if-slower as a fraction.
func slowerLimit(c *cli.Context) (float64, error) {
	if !c.IsSet("fail-if-slower") {
		return 0, nil
	}
	text := c.String("fail-if-slower")
	limit, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	if err != nil || !(limit >= 0 && limit < 100) {
		return 0, command.Usagef("--fail-if-slower %q is not a percentage; expected 0 to 100, such as 5%%", text)
	}
	return limit / 100, nil
}

// toCompare reads or measures the two results.
func toCompare(c *cli.Context, s command.Streams) (both [2]*results.Result, err error) {
	for _, file := range c.Args().Slice() {
		ext := strings.ToLower(filepath.Ext(file))
		switch {
		case (ext == ".yaml" || ext == ".yml") && !c.Bool("run"):
			return both, command.Usagef("%s is an experiment: add --run to measure both, or give the results of mlxrank bench, NAME_results.json", file)
		case ext == ".json" && c.Bool("run"):
			return both, command.Usagef("%s is a result, and --run measures experiments: give two YAML files, or omit --run", file)
		}
	}
	if !c.Bool("run") {
		for i := range both {
			if both[i], err = results.Read(c.Args().Get(i)); err != nil {
				return both, command.Usagef("%v", err)
			}
		}
		return both, nil
	}
	b, err := newBenchRun(c, s)
	if err != nil {
		return both, err
	}
	var experiments [2]*experiment.Experiment
	for i := range experiments {
		if experiments[i], err = b.experiment(c.Args().Get(i)); err != nil {
			return both, err
		}
	}
	both, err = bench.RunInTurns(c.Context, experiments, c.Int("rounds"), b.options)
	return both, b.end(err, both[0], both[1])
}

// printComparison prints the warnings and the comparison.
func printComparison(s command.Streams, format string, c *compare.Comparison, both [2]*results.Result) error {
	for _, warning := range c.Warnings {
		if _, err := fmt.Fprintf(s.Err, "warning: %s\n", warning); err != nil {
			return err
		}
	}
	switch format {
	case "json":
		return output.PrintJSON(s.Out, c)
	case "benchstat":
		_, err := io.WriteString(s.Out, compare.Benchmarks(both[0])+compare.Benchmarks(both[1]))
		return err
	}
	_, err := io.WriteString(s.Out, c.Text())
	return err
}
