// Package conform implements the command conform.
package conform

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/conform/diagnosis"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

// exitUndecided is the status if nothing can be said about the server. It is the
// status of a wrong command line too, which says as little.
const exitUndecided = command.ExitUsage

var apiChoice = command.Choice{Name: "api", Usage: "`API` of the server", Def: diagnosis.Auto, Values: diagnosis.APIs}

// Command returns the command conform.
func Command(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "url", Usage: "`URL` of the server (required)"},
		apiChoice.Flag(),
		&cli.StringFlag{Name: "served-model", DefaultText: "the server's only one, else that of --model", Usage: "`NAME` of the model in requests"},
		&cli.StringFlag{Name: "api-key-file", DefaultText: "none", Usage: "`FILE` with the server's key; " + command.KeyEnv + " may hold it instead"},
		&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, DefaultText: "2m", Usage: "timeout of a request, `TIME`"},
		&cli.StringFlag{Name: "accept", DefaultText: "none", Usage: "`FAULTS` that do not count, by their names in JSON, with commas between them"},
		command.JSONFlag(), command.QuietFlag(),
	}
	return &cli.Command{
		Name:      "conform",
		Usage:     "check whether a server scores right, and name its fault",
		UsageText: "mlxrank conform --url URL [flags]",
		Description: "Scores built-in pairs with the model in float32 here, and through a server of the same\n" +
			"model: mlxrank's or another. The table has the largest differences of the scores by\n" +
			"kind of pair, from the right scores and from those that the faults found explain. Each\n" +
			"fault was simulated with the model: token type ids that are all 0, swapped texts, a\n" +
			"sigmoid too few or too many, wrong truncation, an added prompt, results of other\n" +
			"documents, rounding, low precision and others. Differences that none explains are an\n" +
			"unknown fault, with the pairs that show it. docs/user/conform.md lists all faults.\n\n" +
			"A request has one query and at most 8 documents. auto tries the formats of\n" +
			"text-embeddings-inference, Jina, Cohere, vLLM and Voyage. All options of the server\n" +
			"have their defaults, except that it may truncate. A request that is refused for now\n" +
			"(429, 503) is sent again, up to five times. Documents that the server refuses, such as\n" +
			"empty ones, are counted and left out.\n\n" +
			"The exit status is 0 if the scores are right, 1 if they are wrong, and 2 if that is\n" +
			"unknown: the server or the model cannot be used, or the server answers no scores.\n\n" +
			command.Examples(
				[2]string{"Check a server of text-embeddings-inference or llama.cpp", "mlxrank conform --url http://127.0.0.1:8080 --model cross-encoder/ms-marco-MiniLM-L6-v2"},
				[2]string{"Check a server that computes in float16", "mlxrank conform --url http://127.0.0.1:8080 --model ./my-model --accept precision,rounding"},
				[2]string{"Print the faults as JSON", "mlxrank conform --url http://127.0.0.1:8437 --api cohere --model builtin --json | jq .faults"},
			),
		Flags:  append(flags, command.EngineFlags(weights.Default)...),
		Action: func(c *cli.Context) error { return run(c, s) },
	}
}

func run(c *cli.Context, s command.Streams) error {
	config, server, accepted, err := readFlags(c, s)
	if err != nil {
		return undecided(err)
	}
	report, err := compare(c, s, config, server)
	if err != nil {
		return undecided(err)
	}
	report.Accept(accepted)
	if c.Bool("json") {
		err = output.PrintJSON(s.Out, report)
	} else {
		err = printReport(s.Out, report)
	}
	switch {
	case err != nil:
		return err
	case report.Verdict == diagnosis.Undecided:
		return undecided(errors.New(report.Reason))
	case report.Verdict == diagnosis.Wrong:
		return command.ErrReported
	}
	return nil
}

// undecided makes an error exit with exitUndecided.
func undecided(err error) error { return cli.Exit(err, exitUndecided) }

// readFlags checks the flags.
func readFlags(c *cli.Context, s command.Streams) (config engine.Config, server diagnosis.Server, accepted []string, err error) {
	if err := command.NoArguments(c); err != nil {
		return config, server, nil, err
	}
	if err := apiChoice.Check(c, "--api"); err != nil {
		return config, server, nil, err
	}
	if c.String("url") == "" {
		return config, server, nil, command.Usagef("--url is missing; give the address of a server, such as http://127.0.0.1:8080")
	}
	if c.Duration("timeout") <= 0 {
		return config, server, nil, command.Usagef("--timeout %v is not positive", c.Duration("timeout"))
	}
	if c.IsSet("accept") {
		accepted = strings.Split(c.String("accept"), ",")
	}
	for _, name := range accepted {
		if !slices.Contains(diagnosis.Faults(), name) {
			return config, server, nil, command.Usagef("--accept %q is not one of %s", name, strings.Join(diagnosis.Faults(), ", "))
		}
	}
	if config, err = command.EngineConfig(c, s.Err); err != nil {
		return config, server, nil, err
	}
	if dtype := config.DType; command.Source(c, "dtype") == "--dtype" && c.IsSet("dtype") && dtype != engine.DTypeAuto && dtype != engine.Float32 {
		return config, server, nil, command.Usagef("--dtype %s: conform computes the right scores in float32; omit --dtype", dtype)
	}
	config.DType = engine.Float32
	key, err := command.APIKey(c.String("api-key-file"))
	return config, diagnosis.Server{
		URL: c.String("url"), API: c.String("api"), Model: c.String("served-model"), Key: key,
		Timeout: c.Duration("timeout"), Fallback: config.Model,
	}, accepted, err
}

func compare(c *cli.Context, s command.Streams, config engine.Config, server diagnosis.Server) (*diagnosis.Report, error) {
	notices := command.NewNotices(c, s.Err, config.Logger)
	bar := notices.Progress("comparing", "pairs", -1)
	defer bar.End()
	return diagnosis.Run(c.Context, config, server, bar.Add)
}

// printReport prints the table, the faults and the verdict.
func printReport(w io.Writer, r *diagnosis.Report) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", name, fmt.Sprintf(format, args...))
	}
	version := ""
	if r.Version != "" {
		version = ", " + r.Version
	}
	line("server", "%s, API %s at %s%s", r.URL, r.API, r.Path, version)
	line("model", "%s, float32, max length %d tokens", r.Model, r.MaxLength)
	if r.Form != "" {
		line("answers", "%s", r.Form)
	}
	b.WriteByte('\n')
	table := output.Table{Header: []string{"pairs", "no score", "off by", "explained to", "unexplained", "kind of pair"}}
	for _, k := range r.Kinds() {
		table.Add(strconv.Itoa(k.Pairs), strconv.Itoa(k.Pairs-k.Compared), size(k.FromRight), size(k.Explained), strconv.Itoa(k.Unexplained), k.Kind)
	}
	if err := table.Write(&b, output.Width(w)); err != nil {
		return err
	}
	if err := printUnexplained(&b, r, output.Width(w)); err != nil {
		return err
	}
	b.WriteByte('\n')
	for _, f := range r.Faults {
		name := "fault"
		if f.Accepted {
			name = "accepted"
		}
		line(name, "%s", f.Text)
	}
	for _, note := range r.Notes {
		line("note", "%s", note)
	}
	switch r.Verdict {
	case diagnosis.Right:
		line("verdict", "right: %d scores differ by at most %s, logits by %.1g of their deviation", r.Compared, size(r.MaxScore), r.MaxShare)
	case diagnosis.Wrong:
		line("verdict", "wrong")
	default:
		line("verdict", "undecided: %s", r.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mostUnexplained is how many unexplained pairs are printed.
const mostUnexplained = 10

func printUnexplained(b *strings.Builder, r *diagnosis.Report, width int) error {
	pairs := r.Unexplained()
	if len(pairs) == 0 {
		return nil
	}
	b.WriteByte('\n')
	table := output.Table{Header: []string{"right", "explained", "answered", "unexplained pair"}}
	for _, p := range pairs[:min(len(pairs), mostUnexplained)] {
		table.Add(score(p.Right), score(p.Explained), score(p.Answered), output.Display.Truncate(p.Query, 40, "…")+" | "+p.Document)
	}
	if n := len(pairs) - mostUnexplained; n > 0 {
		table.Note(fmt.Sprintf("and %d more; --json has all", n))
	}
	return table.Write(b, width)
}

// size formats a difference.
func size(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 1e-3:
		return fmt.Sprintf("%.0e", x)
	}
	return fmt.Sprintf("%.4f", x)
}

func score(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f", *x)
}
