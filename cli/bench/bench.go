package bench

import (
	"context"
	"errors"
	"io"
	"slices"
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

func Command(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "resume", DisableDefaultText: true, Usage: "continue an interrupted run from its results"},
		&cli.BoolFlag{Name: "profile", DisableDefaultText: true, Usage: "report the time of each class of work (CPU only; slows the run)"},
		benchFormatChoice.Flag(), command.ProfileFlag(),
	}
	flags = append(flags, urlFlags()...)
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure latency and throughput, and write a report",
		UsageText: "mlxrank bench [flags] [EXPERIMENT.yaml]\nmlxrank bench compare [flags] A B",
		Description: "An experiment is YAML with the names of the flags below as keys, with _ for -, and\n" +
			"with name and description. Where several values of a flag can be compared, the key may\n" +
			"be a list, and the flag values with commas between them: all combinations are\n" +
			"measured. (device, dtype, max_length, max_batch and max_batch_tokens are lists in\n" +
			"YAML only.) Flags go before the experiment's file, and the file before the\n" +
			"environment and the config file.\n\n" +
			"The report is written to NAME_results.md in the folder of results, with all request\n" +
			"timings beside it as JSON, and plots. Earlier results are moved into a folder named by\n" +
			"their time. A point that fails is reported as ERROR, the others go on, and the exit\n" +
			"status is 1. What is complete when the run is interrupted is kept.\n\n" +
			"--url measures a running server, mlxrank's or another, by what its clients see: a\n" +
			"request ranks the documents of its pairs for the query of the first. The report sets\n" +
			"the server's stages beside it, where its headers have them. Settings of the\n" +
			"engine have no meaning then, except --model, which jina and cohere send. What the\n" +
			"server refuses (429) or fails at is counted and not sent again; after a 429, a closed\n" +
			"loop's sender waits as long as Retry-After asks, up to 30 s. The server's key is in\n" +
			"the file of --api-key-file, or in " + command.KeyEnv + ".\n\n" +
			command.Examples(
				[2]string{"The experiment of make bench", "mlxrank bench experiments/14_optimized_production.yaml"},
				[2]string{"A sweep of nine points without a file", "mlxrank bench --model builtin --batch 8,16,32 --concurrency 1,2,4 --requests 20"},
				[2]string{"An open loop: five requests a second on average, for a minute", "mlxrank bench --model builtin --rate 5 --duration 60s"},
				[2]string{"A running server", "mlxrank bench --url http://127.0.0.1:8437 experiments/14_optimized_production.yaml"},
				[2]string{"Another one, in Cohere's format", "mlxrank bench --url http://peer:8080 --api cohere --model rerank-v3.5 --batch 20"},
				[2]string{"Where the time goes: matmul, attention, LayerNorm, tokenising, ...", "mlxrank bench --profile experiments/14_optimized_production.yaml"},
				[2]string{"For Go's benchstat", "mlxrank bench --model builtin --runs 6 --format benchstat >new.txt"},
			),
		Flags:       slices.Concat(flags, benchFlags()),
		Subcommands: []*cli.Command{compareCommand(s)},
		Action:      command.Profiled(func(c *cli.Context) error { return runBench(c, s) }),
	}
}

// benchFlags returns the flags of every command that measures.
func benchFlags() []cli.Flag {
	flags := []cli.Flag{&cli.StringFlag{Name: "results", Value: "results", DefaultText: "results", Usage: "`FOLDER` for results"}}
	for _, key := range experiment.Keys {
		if key.Usage == "" {
			continue // among engineFlags
		}
		text := key.Def
		if text == "" {
			text = "none"
		}
		flags = append(flags, &cli.StringFlag{Name: key.Flag(), DefaultText: text, Usage: key.Usage})
	}
	flags = append(flags, command.EngineFlags(weights.Default)...)
	command.AddAlias(flags, "threads", "cpu-shards") // its name before version 0.2
	command.SetLogLevel(flags, "info")               // without a terminal, progress goes to the log
	return flags
}

func runBench(c *cli.Context, s command.Streams) error {
	if err := benchFormatChoice.Check(c, "--format"); err != nil {
		return err
	}
	if c.NArg() > 1 {
		return command.Usagef("bench takes one experiment, found %q and %q; bench compare --run takes two (see mlxrank bench --help)", c.Args().Get(0), c.Args().Get(1))
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
	if b.options.Server, err = serverOf(c); err != nil {
		return err
	}
	b.options.Engine.Lab = &lab.Options{Profile: c.Bool("profile")}
	if b.options.Engine.Lab.Profile && b.options.Server != nil {
		return command.Usagef("--profile looks into this process and not into the server at --url")
	}
	r, err := bench.Run(c.Context, e, b.options)
	if err := b.end(err, r); r == nil || err != nil && !errors.Is(err, bench.ErrFailed) {
		return err
	}
	return errors.Join(printBench(c, s, r), err)
}

// printBench prints a result. A profile is no part of Go's benchmark format.
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
	if _, perr := io.WriteString(s.Err, profile); err == nil {
		err = perr
	}
	return err
}

// A benchRun is what bench and compare --run share.
type benchRun struct {
	options  bench.Options
	sources  experiment.Sources // except for the file
	progress *benchProgress
	log      zerolog.Logger
}

func newBenchRun(c *cli.Context, s command.Streams) (*benchRun, error) {
	given := map[string]bool{} // on the command line
	for _, key := range experiment.Keys {
		given[key.Name] = c.IsSet(key.Flag())
	}
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return nil, err
	}
	config.QueueTokens = 0 // the engine's own bound, as a server has it
	b := &benchRun{progress: newBenchProgress(s.Err)}
	if b.log, err = command.NewLogger(c.String("log-level"), c.String("log-format"), b.progress.w); err != nil {
		return nil, err
	}
	b.progress.log = b.log
	config.Logger = b.log
	if !c.IsSet("log-level") {
		config.Logger = b.log.Level(zerolog.WarnLevel) // or there would be two lines a second
	}
	b.sources = experiment.Sources{Flags: map[string]string{}, Defaults: map[string]string{}}
	for _, key := range experiment.Keys {
		switch value := c.String(key.Flag()); {
		case given[key.Name]:
			b.sources.Flags[key.Name] = value
		case c.IsSet(key.Flag()) || key.Name == "model": // by environment, file or default
			b.sources.Defaults[key.Name] = value
		}
	}
	b.options = bench.Options{
		Folder: c.String("results"), Engine: config, Program: command.Version, Log: b.log,
		Progress: b.progress.show, Every: b.progress.every(),
	}
	return b, nil
}

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

// end reports where results are and which exit status an error means.
func (b *benchRun) end(err error, all ...*results.Result) error {
	b.progress.end()
	for _, r := range all {
		if r == nil {
			continue
		}
		files := results.Files{Dir: b.options.Folder, Name: r.Name}
		if errors.Is(err, context.Canceled) {
			b.log.Warn().Str("report", files.Report()).Msg("interrupted: what is complete is kept, and --resume goes on with it")
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

// urlFlags are those that measure a server.
func urlFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", DefaultText: "none", Usage: "`URL` of a server to measure instead of an engine"},
		apiChoice.Flag(),
		&cli.StringFlag{Name: "api-key-file", DefaultText: "none", Usage: "`FILE` with the key for the server at --url; " + command.KeyEnv + " may hold it instead"},
	}
}

// serverOf is the server to measure, nil if it is an engine.
func serverOf(c *cli.Context) (*bench.Server, error) {
	if err := apiChoice.Check(c, "--api"); err != nil {
		return nil, err
	}
	if !c.IsSet("url") {
		if c.IsSet("api") { // a key's file may be in the config file, for serve
			return nil, command.Usagef("--api is how to call a server, but there is no --url")
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
