// Package tune implements the command tune.
package tune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/mem"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/eval"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/system"
	"github.com/mlxrank/mlxrank/weights"
)

// Command returns the command tune.
func Command(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		command.WriteConfigFlag(), command.JSONFlag(), command.QuietFlag(),
		&cli.BoolFlag{Name: measureFlag, Hidden: true},
	}
	return &cli.Command{
		Name:      "tune",
		Usage:     "measure which dtype, threads and microbatches are best on this machine",
		UsageText: "mlxrank tune --model MODEL [--write-config]\nmlxrank tune --model MODEL --qrels FILE --run FILE --queries FILE --documents FILE [flags]",
		Description: "tune measures every dtype that the device offers, then numbers of threads and sizes of\n" +
			"microbatches for the best one. No round begins after " + strconv.Itoa(int(budget.Seconds())) + " seconds, but each configuration\n" +
			"has at least " + strconv.Itoa(leastRounds) + ": a small model takes about that long, a large one minutes.\n" +
			"It prints pairs per second, the time of a query with 20 documents, the peak of memory,\n" +
			"and quality compared with float32, and chooses the fastest configuration that loses\n" +
			"nothing that can be measured; the default stays unless another is clearly faster. The\n" +
			"bound and the rule are below the table.\n\n" +
			"The texts come from the builtin benchmark. With judgements, as mlxrank eval takes\n" +
			"them (--qrels with --run, or --candidates, --beir or --demo), quality is nDCG@10 too, and\n" +
			"it decides. At most " + strconv.Itoa(mostQueries) + " queries with their first " + strconv.Itoa(documents) + " candidates are used.\n\n" +
			"--threads and --microbatch-tokens, given on the command line, are measured alone.\n" +
			"--write-config sets dtype, and threads and microbatch-tokens if the defaults are not\n" +
			"the best, in the config file that all commands read. It keeps everything else there.\n\n" +
			command.Examples(
				[2]string{"See what is best for a model", "mlxrank tune --model builtin"},
				[2]string{"Use it from now on", "mlxrank tune --model builtin --write-config"},
				[2]string{"Decide by your own judgements", "mlxrank tune --model builtin --qrels qrels.txt --run bm25.run --queries queries.tsv --documents corpus.jsonl"},
			),
		Flags: slices.Concat(flags, eval.JudgedFlags(), command.EngineFlags(weights.Default)),
		Action: func(c *cli.Context) error {
			if c.Bool(measureFlag) {
				return work(c.Context, s.In, s.Out)
			}
			return tune(c, s)
		},
	}
}

// An interrupted run has printed what it measured.
type interrupted struct{ error }

func (i interrupted) Unwrap() error { return i.error }
func (i interrupted) Advice() string {
	return "the table has what was measured until then, and no config file was written"
}

func tune(c *cli.Context, s command.Streams) (err error) {
	if err := command.NoArguments(c); err != nil {
		if c.Bool("write-config") {
			err = command.Usagef("%v; --config names the file for --write-config", err)
		}
		return err
	}
	if c.IsSet("dtype") {
		return command.Usagef("tune measures every dtype; omit --dtype")
	}
	threads, tokens := c.IsSet("threads"), c.IsSet("microbatch-tokens") // on the command line
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if !threads {
		config.Threads = 0
	}
	if !tokens {
		config.MicrobatchTokens = 0
	}
	var file *command.SettingsFile
	if c.Bool("write-config") {
		if file, err = command.NewSettingsFile(c, "dtype", "threads", "microbatch-tokens"); err != nil {
			return err
		}
	}
	stored, err := fetch(c.Context, config)
	if err != nil {
		return err
	}
	list, err := openTexts(c, s.In)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.close()) }()
	notices := command.NewNotices(c, s.Err, config.Logger)
	t := &tuning{texts: list, stored: stored, bar: notices.Progress("measuring", "pairs", 1000), start: time.Now()}
	defer t.closeAll()
	chosen, measuring := t.run(c.Context, config)
	t.bar.End()
	if measuring != nil && (c.Context.Err() == nil || len(t.measured()) == 0) {
		return measuring
	}
	r := t.report(chosen, measuring != nil)
	if chosen != nil && file != nil {
		measuring = errors.Join(measuring, r.Choice.write(file, t.stored, t.standard())) // after the table, which took the time
	}
	if r.Interrupted {
		measuring = interrupted{measuring}
	}
	if c.Bool("json") {
		return errors.Join(output.PrintJSON(s.Out, r), measuring)
	}
	return errors.Join(r.print(s.Out), measuring)
}

// fetch downloads the model if it is missing, and checks its files. It returns the dtype
// of small weights, "" if the model has none.
func fetch(ctx context.Context, config engine.Config) (engine.DType, error) {
	model, err := weights.Open(ctx, config.Model, weights.Options{
		Adapter:  config.Adapter,
		Progress: func(p weights.Progress) { config.Progress(engine.Download(p)) },
		Warn:     func(text string) { config.Logger.Warn().Msg(text) },
	})
	if err != nil {
		return "", err
	}
	for _, warning := range model.Warnings {
		config.Logger.Warn().Str("model", model.Ref).Msg(warning)
	}
	stored := engine.DType("")
	if model.Quantization.Bits > 0 {
		stored = engine.DType(model.Quantization.Format())
	}
	return stored, model.Close()
}

// run measures and chooses.
func (t *tuning) run(ctx context.Context, config engine.Config) (*configuration, error) {
	base := settings{
		Model: config.Model, Adapter: config.Adapter, Label: config.Label, Library: config.Library, Device: config.Device,
		MaxLength: config.MaxLength, Threads: config.Threads, MicrobatchTokens: config.MicrobatchTokens,
		MaxBatch: config.MaxBatch, MaxBatchTokens: config.MaxBatchTokens,
	}
	for _, dtype := range command.DTypes() {
		s := base
		s.DType = dtype
		c := &configuration{settings: s, baseline: dtype == engine.Float32, standard: true}
		if err := t.open(ctx, c); err != nil {
			if c.baseline || ctx.Err() != nil {
				return nil, err
			}
			reason, _, _ := strings.Cut(err.Error(), "\n")
			t.failed = append(t.failed, failure{dtype, strings.TrimPrefix(reason, "engine: ")})
			continue
		}
		t.all = append(t.all, c)
		if c.baseline {
			t.keep = fits(c.peak, len(command.DTypes()))
		}
		if !t.keep {
			c.close()
		}
	}
	dtypes := slices.Clone(t.all)
	if err := t.rounds(ctx, dtypes, dtypeBudget); err != nil {
		return nil, err
	}
	if err := t.compare(); err != nil {
		return nil, err
	}
	chosen := pickDType(dtypes, t.standard())
	for _, c := range dtypes {
		if c != chosen {
			c.close()
		}
	}
	sizes := append([]*configuration{chosen}, t.sizes(chosen, config)...)
	if len(sizes) == 1 {
		return chosen, nil
	}
	t.all = append(t.all, sizes[1:]...)
	t.keep = fits(chosen.peak, len(sizes))
	from := len(chosen.speeds)
	if err := t.rounds(ctx, sizes, budget); err != nil {
		return nil, err
	}
	if err := t.compare(); err != nil {
		return nil, err
	}
	return pickSizes(sizes, chosen, from), nil
}

// fits reports whether so many workers can hold the model at the same time.
func fits(peak uint64, workers int) bool {
	memory, err := mem.VirtualMemory()
	return err == nil && peak*uint64(workers) < memory.Available/2
}

// sizes returns the configurations of a dtype with other numbers of threads and other
// sizes of microbatches, unless the command line gives them.
func (t *tuning) sizes(chosen *configuration, config engine.Config) []*configuration {
	workers, tokens := []int{0}, []int{0}
	if n := system.Processors(); config.Threads == 0 && chosen.opened.Info.Device == string(engine.CPU) && n > 1 {
		workers = append(workers, 1)
		if n > 3 {
			workers = append(workers, n/2)
		}
	}
	if n := chosen.opened.Tokens; config.MicrobatchTokens == 0 {
		tokens = append(tokens, n/2, 2*n)
	}
	var list []*configuration
	for _, w := range workers {
		for _, n := range tokens {
			if w == 0 && n == 0 {
				continue
			}
			s := chosen.settings
			if w > 0 {
				s.Threads = w
			}
			if n > 0 {
				s.MicrobatchTokens = n
			}
			list = append(list, &configuration{settings: s})
		}
	}
	return list
}

// compare compares every configuration with float32.
func (t *tuning) compare() error {
	baseline := t.all[0]
	for _, c := range t.measured() {
		n := min(len(c.logits), len(baseline.logits))
		c.quality = compareLogits(baseline.logits[:n], c.logits[:n])
		if t.texts.judged != nil {
			if err := c.quality.judge(t.texts, baseline.logits[:n], c.logits[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// measured returns the configurations that have had a round.
func (t *tuning) measured() []*configuration {
	return slices.DeleteFunc(slices.Clone(t.all), func(c *configuration) bool { return len(c.speeds) == 0 || len(c.logits) == 0 })
}

// isDefault reports whether mlxrank uses a configuration without settings.
func (t *tuning) isDefault(c *configuration) bool {
	return c.standard && c.settings.DType == cmp.Or(t.stored, auto(c.opened.Info.Device))
}

// standard returns the configuration that another must beat: the default, or float32 if
// the default does not open or is out of the bound.
func (t *tuning) standard() *configuration {
	i := slices.IndexFunc(t.measured(), func(c *configuration) bool { return t.isDefault(c) && c.quality.isWithinBound() })
	if i < 0 {
		return t.all[0]
	}
	return t.measured()[i]
}

// report describes what was measured and chosen.
func (t *tuning) report(chosen *configuration, stopped bool) *report {
	baseline := t.all[0]
	info := baseline.opened.Info
	r := &report{
		Model: info.Model, Device: info.Device, DeviceName: info.DeviceName, Texts: t.texts.name,
		Queries: len(baseline.logits), Documents: documents, Tokens: t.meanTokens(),
		BudgetS: budget.Seconds(), TookS: time.Since(t.start).Seconds(), Bound: t.texts.bound(),
		Interrupted: stopped, Failed: t.failed,
	}
	if stopped {
		// Rounds that were not compared yet.
		if err := t.compare(); err != nil {
			r.Bound += fmt.Sprintf(" (not compared: %v)", err)
		}
	}
	for _, c := range t.measured() {
		r.Rows = append(r.Rows, t.newRow(c))
	}
	if chosen != nil {
		row := t.newRow(chosen)
		r.Choice = &choice{DType: row.DType, Threads: row.Threads, MicrobatchTokens: row.MicrobatchTokens, Why: t.reason(chosen)}
		r.Rule = t.rule()
	}
	return r
}

func (t *tuning) meanTokens() float64 {
	if t.scoredPairs == 0 {
		return 0
	}
	return float64(t.scoredTokens) / float64(t.scoredPairs)
}

// write writes the choice to the config file.
func (c *choice) write(file *command.SettingsFile, stored engine.DType, standard *configuration) error {
	if err := file.Write(c.settings(stored, standard)); err != nil {
		c.ConfigError = err.Error()
		return err
	}
	c.ConfigFile = file.Path
	return nil
}

// settings returns what the config file needs for the choice: the defaults only in
// place of other values. The dtype of small weights is auto: under its own name it would
// change other models.
func (c *choice) settings(stored engine.DType, standard *configuration) []command.Setting {
	dtype := c.DType
	if dtype == stored {
		dtype = engine.DTypeAuto
	}
	list := []command.Setting{{Name: "dtype", Value: string(dtype)}}
	if c.Threads > 0 {
		list = append(list, command.Setting{Name: "threads", Value: strconv.Itoa(c.Threads), Optional: c.Threads == standard.opened.Threads})
	}
	return append(list, command.Setting{Name: "microbatch-tokens", Value: strconv.Itoa(c.MicrobatchTokens), Optional: c.MicrobatchTokens == standard.opened.Tokens})
}
