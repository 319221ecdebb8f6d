package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// A choice is a flag with a few allowed values.
type choice struct {
	name, usage string
	def         string
	values      []string
	deprecated  map[string]string // old values, and the values that replace them
}

// A choiceFlag is a string flag that knows its allowed values.
type choiceFlag struct {
	*cli.StringFlag
	values []string
}

var choices = []choice{
	{name: "device", usage: "compute on `DEVICE`", def: "auto", values: []string{"auto", "gpu", "cpu"}},
	{name: "dtype", usage: "compute in `DTYPE`", def: "auto", values: []string{"auto", "float32", "float16", "bfloat16"}},
	{name: "activation", usage: "turn logits into scores by `NAME`; auto is the model's, softmax is for several labels", def: "auto", values: []string{"auto", "raw", "sigmoid", "softmax"}},
	{name: "log-level", usage: "log from `LEVEL` on", def: "warn", values: []string{"trace", "debug", "info", "warn", "error"}},
	{name: "log-format", usage: "log as `FORMAT`", def: "console", values: []string{"console", "json"}},
}

func (ch choice) flag() cli.Flag {
	usage := ch.usage + ": " + strings.Join(ch.values, ", ")
	for _, old := range slices.Sorted(maps.Keys(ch.deprecated)) {
		usage += fmt.Sprintf("; %s is deprecated: use %s", old, ch.deprecated[old])
	}
	return &choiceFlag{&cli.StringFlag{Name: ch.name, Value: ch.def, DefaultText: ch.def, Usage: usage}, ch.values}
}

// check returns an error unless the flag has an allowed value. The error names
// source as the origin of the value.
func (ch choice) check(c *cli.Context, source string) error {
	if value := ch.value(c); !slices.Contains(ch.values, value) {
		return usagef("%s %q is not one of %s", source, value, strings.Join(ch.values, ", "))
	}
	return nil
}

// value returns the value of the flag. A deprecated value counts as the one that
// replaces it.
func (ch choice) value(c *cli.Context) string {
	given := c.String(ch.name)
	return cmp.Or(ch.deprecated[given], given)
}

// sharedFlags names the flags that the environment and the config file can set
// too.
func sharedFlags() []string {
	names := []string{"model", "adapter", "label", "max-length", "threads"}
	for _, ch := range choices {
		names = append(names, ch.name)
	}
	return names
}

// commandLineOnly names the engine's flags that neither the environment nor the
// config file can set.
var commandLineOnly = []string{"max-batch", "max-batch-tokens", "library", "config", "help"}

// engineFlags are the flags of every command that opens a model.
func engineFlags(model string) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "model", Value: model, DefaultText: model,
			Usage: "score with `MODEL`: the id of one on the Hugging Face hub, a directory, or builtin"},
		&cli.StringFlag{Name: "adapter", Usage: "merge the PEFT LoRA adapter in `DIR` into the model"},
		&cli.StringFlag{Name: "label", DefaultText: "the only one", Usage: "score by the label `NAME`, where a model has several; by number from 0 too"},
		&cli.IntFlag{Name: "max-length", DefaultText: "the model's", Usage: "cut pairs to `N` tokens"},
		&cli.IntFlag{Name: "threads", DefaultText: "the processors' or the CPU quota's", Usage: "CPU threads that compute and that tokenise: `N` of each"},
		&cli.IntFlag{Name: "max-batch", DefaultText: "the device's", Usage: "execute at most `N` pairs at once"},
		&cli.IntFlag{Name: "max-batch-tokens", DefaultText: "the device's", Usage: "execute at most `N` tokens at once, padding included"},
	}
	for _, ch := range choices {
		flags = append(flags, ch.flag())
	}
	return append(flags,
		&cli.StringFlag{Name: "library", DefaultText: "searched for", Usage: "load libmlxrank from `PATH`"},
		&cli.StringFlag{Name: "config", DefaultText: "the user's", Usage: "read defaults of these flags from `FILE`"},
	)
}

// logFrom gives a command another default of --log-level.
func logFrom(flags []cli.Flag, level string) {
	for _, flag := range flags {
		if f, ok := flag.(*choiceFlag); ok && f.Name == "log-level" {
			f.Value, f.DefaultText = level, level
		}
	}
}

// alias gives a command another name for one of its whole-number flags.
func alias(flags []cli.Flag, name, other string) {
	for _, flag := range flags {
		if f, ok := flag.(*cli.IntFlag); ok && f.Name == name {
			f.Aliases = append(f.Aliases, other)
		}
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON", DisableDefaultText: true}
}

// engineConfig checks the flags of engineFlags, wherever their values are from.
func engineConfig(c *cli.Context, stderr io.Writer) (engine.Config, error) {
	set, err := applySettings(c)
	if err != nil {
		return engine.Config{}, err
	}
	if err := checkUnfusedGraph(); err != nil {
		return engine.Config{}, err
	}
	for _, ch := range choices {
		if err := ch.check(c, set.source(ch.name)); err != nil {
			return engine.Config{}, err
		}
	}
	for _, name := range []string{"model", "adapter", "label", "library"} {
		if c.IsSet(name) && c.String(name) == "" {
			return engine.Config{}, usagef("%s is empty", set.source(name))
		}
	}
	if n := c.Int("max-length"); c.IsSet("max-length") && n < 3 {
		return engine.Config{}, usagef("%s %d is too small: a pair needs 3 tokens for [CLS] and twice [SEP]", set.source("max-length"), n)
	}
	for _, name := range []string{"threads", "max-batch", "max-batch-tokens"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return engine.Config{}, usagef("%s %d is not a positive number", set.source(name), c.Int(name))
		}
	}
	logger, err := newLogger(c.String("log-level"), c.String("log-format"), stderr)
	if err != nil {
		return engine.Config{}, err
	}
	warnOfVariables(c, logger)
	return engine.Config{
		Model:      c.String("model"),
		Adapter:    c.String("adapter"),
		Device:     c.String("device"),
		DType:      c.String("dtype"),
		MaxLength:  c.Int("max-length"),
		Activation: c.String("activation"),
		Label:      c.String("label"),
		Library:    c.String("library"),
		Threads:    c.Int("threads"),
		Logger:     logger,
		Progress:   downloadsOf(c.App).report,

		MaxBatch:       c.Int("max-batch"),
		MaxBatchTokens: c.Int("max-batch-tokens"),
		QueueTokens:    math.MaxInt, // nobody else has requests in this process
	}, nil
}

func newLogger(level, format string, w io.Writer) (zerolog.Logger, error) {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), err
	}
	if format == "console" {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !colours(w), TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger(), nil
}
