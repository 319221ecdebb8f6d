// Package bench implements the commands bench and bench compare.
package bench

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/bench"
	"github.com/mlxrank/mlxrank/bench/compare"
	"github.com/mlxrank/mlxrank/bench/experiment"
	reports "github.com/mlxrank/mlxrank/bench/report"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/weights"
)

var benchFormatChoice = command.Choice{Name: "format", Usage: "summary `FORMAT`", Def: "text", Values: []string{"text", "benchstat"}}

// Command returns the command bench with its subcommand compare.
func Command(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "resume", DisableDefaultText: true, Usage: "continue an interrupted run from its results"},
		&cli.BoolFlag{Name: "profile", DisableDefaultText: true, Usage: "report the time of each class of work (CPU only; slows the run)"},
		benchFormatChoice.Flag(), command.ProfileFlag(),
		&cli.StringFlag{Name: "url", DefaultText: "none", Usage: "`URL` of a server to measure instead of an engine"},
		apiChoice.Flag(),
		&cli.StringFlag{Name: "api-key-file", DefaultText: "none", Usage: "`FILE` with the key for the server at --url; " + command.KeyEnv + " may hold it instead"},
	}
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure latency and throughput and write a report",
		UsageText: "mlxrank bench [flags] [EXPERIMENT.yaml]\nmlxrank bench compare [flags] A B",
		Description: "An experiment is a YAML file. Its keys are the flags below, with _ for -, and name and\n" +
			"description. A key that can be compared may have a list of values, and its flag\n" +
			"values with commas between them: bench measures all combinations. (device, dtype,\n" +
			"max_length, max_batch and max_batch_tokens are lists in YAML only.) Flags override\n" +
			"the experiment, which overrides the environment and the config file.\n\n" +
			"The folder of results gets the report NAME_results.md, all request timings as JSON,\n" +
			"and plots. Earlier results are moved to a folder named by their time. A failed point\n" +
			"is reported as ERROR and the other points are measured; the exit status is 1. An\n" +
			"interrupted run keeps the points that are complete.\n\n" +
			"--url measures a running server, mlxrank's or another, from the client's side. A\n" +
			"request ranks the documents of its pairs for the query of its first pair. The report\n" +
			"also has the stages of the server if the response headers have them. Settings of\n" +
			"the engine are ignored, except --model, which jina and cohere send. Refused (429)\n" +
			"and failed requests are counted and not sent again. After a 429, a sender of a\n" +
			"closed loop waits as long as Retry-After asks, at most 30 s. The key of the server\n" +
			"is in the file of --api-key-file, or in " + command.KeyEnv + ".\n\n" +
			command.Examples(
				[2]string{"Run the experiment of make bench", "mlxrank bench experiments/14_optimized_production.yaml"},
				[2]string{"Measure nine points without a file", "mlxrank bench --model builtin --batch 8,16,32 --concurrency 1,2,4 --requests 20"},
				[2]string{"Send five requests per second on average for a minute (open loop)", "mlxrank bench --model builtin --rate 5 --duration 60s"},
				[2]string{"Measure a running server", "mlxrank bench --url http://127.0.0.1:8437 experiments/14_optimized_production.yaml"},
				[2]string{"Measure a server with Cohere's API", "mlxrank bench --url http://peer:8080 --api cohere --model rerank-v3.5 --batch 20"},
				[2]string{"Measure the time of each class of work: matmul, attention, tokenization, ...", "mlxrank bench --profile experiments/14_optimized_production.yaml"},
				[2]string{"Write results for Go's benchstat", "mlxrank bench --model builtin --runs 6 --format benchstat >new.txt"},
			),
		Flags:       slices.Concat(flags, benchFlags()),
		Subcommands: []*cli.Command{compareCommand(s)},
		Action:      command.Profiled(func(c *cli.Context) error { return runBench(c, s) }),
	}
}

// oldThreads is the name of --threads before version 0.2.
const oldThreads = "cpu-shards"

// benchFlags returns the flags that bench and bench compare share.
func benchFlags() []cli.Flag {
	flags := []cli.Flag{&cli.StringFlag{Name: "results", Value: "results", DefaultText: "results", Usage: "`FOLDER` for results"}}
	for _, key := range experiment.Keys {
		if key.Usage == "" {
			continue // EngineFlags has it
		}
		text := key.Def
		if text == "" {
			text = "none"
		}
		flags = append(flags, &cli.StringFlag{Name: key.Flag(), DefaultText: text, Usage: key.Usage, Hidden: key.Deprecated()})
	}
	flags = append(flags, command.EngineFlags(weights.Default)...)
	command.SetLogLevel(flags, "info") // without a terminal, progress goes to the log
	return append(flags, &cli.IntFlag{Name: oldThreads, Usage: "deprecated: use --threads", Hidden: true})
}

func runBench(c *cli.Context, s command.Streams) error {
	if err := benchFormatChoice.Check(c, "--format"); err != nil {
		return err
	}
	if c.NArg() > 1 {
		return command.Usagef("bench takes one experiment, found %q and %q; to compare two, use bench compare --run (see mlxrank bench --help)", c.Args().Get(0), c.Args().Get(1))
	}
	b, err := newBenchRun(c, s)
	if err != nil {
		return err
	}
	e, err := b.experiment(c.Args().First())
	if err != nil {
		return err
	}
	b.options.Resume = c.Bool("resume")
	if b.options.Server, err = newServer(c); err != nil {
		return err
	}
	b.options.Engine.Lab = &lab.Options{Profile: c.Bool("profile")}
	if b.options.Engine.Lab.Profile && b.options.Server != nil {
		return command.Usagef("--profile measures this process and not the server at --url; omit one of them")
	}
	r, err := bench.Run(c.Context, e, b.options)
	if err := b.end(err, r); r == nil || err != nil && !errors.Is(err, bench.ErrFailed) {
		return err
	}
	return errors.Join(printBench(c, s, r), err)
}

// printBench prints a result. Go's benchmark format has no profile, so with it the
// profile goes to standard error.
func printBench(c *cli.Context, s command.Streams, r *results.Result) error {
	profile := reports.Profile(r)
	if c.String("format") != "benchstat" {
		if profile != "" {
			profile = "\n" + profile
		}
		_, err := io.WriteString(s.Out, reports.Summary(r)+profile)
		return err
	}
	_, err := io.WriteString(s.Out, compare.Benchmarks(r))
	_, perr := io.WriteString(s.Err, profile)
	return errors.Join(err, perr)
}

// benchRun holds what bench and bench compare --run share.
type benchRun struct {
	options  bench.Options
	sources  experiment.Sources // without the file
	progress *benchProgress
	log      zerolog.Logger
}

// newBenchRun reads the flags of benchFlags.
func newBenchRun(c *cli.Context, s command.Streams) (*benchRun, error) {
	if c.IsSet(oldThreads) {
		if c.IsSet("threads") {
			return nil, command.Usagef("--threads and --%s are the same setting; give one", oldThreads)
		}
		if err := c.Set("threads", strconv.Itoa(c.Int(oldThreads))); err != nil {
			return nil, err
		}
	}
	given := map[string]bool{} // on the command line
	for _, key := range experiment.Keys {
		given[key.Name] = c.IsSet(key.Flag())
	}
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return nil, err
	}
	config.QueueTokens = 0 // the engine's default, as in a server
	b := &benchRun{progress: newBenchProgress(s.Err)}
	if b.log, err = command.NewLogger(c.String("log-level"), c.String("log-format"), b.progress.w); err != nil {
		return nil, err
	}
	b.progress.log = b.log
	config.Logger = b.log
	if !c.IsSet("log-level") {
		config.Logger = b.log.Level(zerolog.WarnLevel) // the engine logs two lines per second at info
	}
	b.sources = experiment.Sources{Flags: map[string]string{}, Defaults: map[string]string{}}
	for _, key := range experiment.Keys {
		switch value := c.String(key.Flag()); {
		case given[key.Name]:
			b.sources.Flags[key.Name] = value
		case c.IsSet(key.Flag()) || key.Name == "model": // from the environment, the config file or the default
			b.sources.Defaults[key.Name] = value
		}
	}
	b.options = bench.Options{
		Folder: c.String("results"), Engine: config, Program: command.Version, Log: b.log,
		Progress: b.progress.show, Every: b.progress.every(),
	}
	return b, nil
}

// experiment reads an experiment from a file, or from flags only if file is empty.
func (b *benchRun) experiment(file string) (*experiment.Experiment, error) {
	sources := b.sources
	sources.File = file
	e, err := experiment.Open(sources)
	if err != nil {
		return nil, command.Usagef("%s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	for _, warning := range e.Warnings {
		b.log.Warn().Msg(warning)
	}
	return e, nil
}

// end logs where the results are, and turns err into the error of the command.
func (b *benchRun) end(err error, all ...*results.Result) error {
	b.progress.end()
	for _, r := range all {
		if r == nil {
			continue
		}
		files := results.Files{Dir: b.options.Folder, Name: r.Name}
		if errors.Is(err, context.Canceled) {
			b.log.Warn().Str("report", files.Report()).Msg("interrupted; complete points are kept, and --resume continues the run")
			continue
		}
		b.log.Info().Str("report", files.Report()).Str("json", files.JSON()).Msg("written")
	}
	if errors.Is(err, bench.ErrInput) {
		return command.Usagef("%v", err)
	}
	return err
}

var apiChoice = command.Choice{Name: "api", Usage: "`API` of the server at --url", Def: bench.APIs[0], Values: bench.APIs}

// newServer returns the server to measure, or nil to measure an engine.
func newServer(c *cli.Context) (*bench.Server, error) {
	if err := apiChoice.Check(c, "--api"); err != nil {
		return nil, err
	}
	if !c.IsSet("url") {
		if c.IsSet("api") { // --api-key-file may be set too: serve reads it from the same config file
			return nil, command.Usagef("--api needs --url with the server to measure")
		}
		return nil, nil
	}
	key, err := command.APIKey(c.String("api-key-file"))
	if err != nil {
		return nil, err
	}
	server, err := bench.NewServer(c.String("url"), c.String("api"), key)
	if err != nil {
		return nil, command.Usagef("--url: %v", err)
	}
	return server, nil
}
