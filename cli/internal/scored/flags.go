package scored

import (
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
)

// The choices of commands that write scored records.
var (
	outputFormat = command.Choice{Name: "output-format", Usage: "output `FORMAT`", Def: "same", Values: []string{"same", "trec"}}
	onError      = command.Choice{Name: "on-error", Usage: "`ACTION` for a line that cannot be scored", Def: "fail", Values: []string{"fail", "skip"}}
)

// Flags returns the flags of every command that reads pairs and writes scored records.
func Flags() []cli.Flag {
	return append(input.PairFlags(),
		&cli.StringFlag{Name: "output", Usage: "`FILE` for the scored pairs, - for standard output (required)"},
		outputFormat.Flag(),
		RunTagFlag,
		&cli.BoolFlag{Name: "overwrite-score", Usage: "replace scores that the input already has", DisableDefaultText: true},
		onError.Flag(),
		command.LongFlag(),
		command.CalibrationFlag(),
	)
}

// CheckFlags checks the values of Flags.
func CheckFlags(c *cli.Context) error {
	if err := command.Require(c, "input", "output"); err != nil {
		return err
	}
	for _, ch := range []command.Choice{outputFormat, onError} {
		if err := ch.Check(c, "--"+ch.Name); err != nil {
			return err
		}
	}
	if c.String("format") == "tsv" && !c.IsSet("query-id-field") && c.String("output-format") == "trec" {
		return command.Usagef("--output-format trec needs ids, and tsv has none; --format msmarco has qid, pid, query, passage")
	}
	return CheckRunTag(c.String("run-tag"))
}

// SkipsErrors reports whether --on-error says to skip lines that cannot be scored.
func SkipsErrors(c *cli.Context) bool { return c.String("on-error") == "skip" }

// ReaderOptions returns the options of the input's reader that the flags select.
func ReaderOptions(c *cli.Context) records.Options {
	options := records.Options{Score: records.RefuseScore, IDs: c.String("output-format") == "trec"}
	if c.Bool("overwrite-score") {
		options.Score = records.ReplaceScore
	}
	return options
}
