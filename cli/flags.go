package cli

import (
	"io"
	"math"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/engine"
)

const defaultModel = "cross-encoder/ms-marco-MiniLM-L-6-v2"

// choice is a flag with a few allowed values, of which the first given is the
// default.
type choice struct {
	name, usage string
	def         string
	values      []string
}

var choices = []choice{
	{"device", "compute on `DEVICE`", "auto", []string{"auto", "gpu", "cpu"}},
	{"dtype", "compute in `DTYPE`", "auto", []string{"auto", "float32", "float16", "bfloat16"}},
	{"activation", "turn logits into scores by `NAME`", "auto", []string{"auto", "raw", "sigmoid"}},
	{"log-level", "log from `LEVEL` on", "warn", []string{"trace", "debug", "info", "warn", "error"}},
	{"log-format", "log as `FORMAT`", "console", []string{"console", "json"}},
}

func (ch choice) flag() cli.Flag {
	return &cli.StringFlag{Name: ch.name, Value: ch.def, DefaultText: ch.def,
		Usage: ch.usage + ": " + strings.Join(ch.values, ", ")}
}

// engineFlags are the flags of every command that opens a model.
func engineFlags(model string) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "model", Value: model, DefaultText: model,
			Usage: "score with `MODEL`: a directory, or builtin"},
		&cli.StringFlag{Name: "adapter", Usage: "merge the PEFT LoRA adapter in `DIR` into the model"},
		&cli.IntFlag{Name: "max-length", DefaultText: "the model's", Usage: "cut pairs to `N` tokens"},
		&cli.IntFlag{Name: "max-batch", DefaultText: "the device's", Usage: "execute at most `N` pairs at once"},
		&cli.IntFlag{Name: "max-batch-tokens", DefaultText: "the device's", Usage: "execute at most `N` tokens at once, padding included"},
		&cli.StringFlag{Name: "library", DefaultText: "searched for", Usage: "load libmlxrank from `PATH`"},
	}
	for _, ch := range choices {
		flags = append(flags, ch.flag())
	}
	return flags
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON", DisableDefaultText: true}
}

// engineConfig checks the flags of engineFlags.
func engineConfig(c *cli.Context, stderr io.Writer) (engine.Config, error) {
	for _, ch := range choices {
		if value := c.String(ch.name); !slices.Contains(ch.values, value) {
			return engine.Config{}, usagef("--%s %q is not one of %s", ch.name, value, strings.Join(ch.values, ", "))
		}
	}
	for _, name := range []string{"model", "adapter", "library"} {
		if c.IsSet(name) && c.String(name) == "" {
			return engine.Config{}, usagef("--%s is empty", name)
		}
	}
	if c.IsSet("max-length") && c.Int("max-length") < 3 {
		return engine.Config{}, usagef("--max-length %d is too small: a pair needs 3 tokens for [CLS] and twice [SEP]", c.Int("max-length"))
	}
	for _, name := range []string{"max-batch", "max-batch-tokens"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return engine.Config{}, usagef("--%s %d is not a positive number", name, c.Int(name))
		}
	}
	logger, err := newLogger(c.String("log-level"), c.String("log-format"), stderr)
	if err != nil {
		return engine.Config{}, err
	}
	return engine.Config{
		Model:      c.String("model"),
		Adapter:    c.String("adapter"),
		Device:     c.String("device"),
		DType:      c.String("dtype"),
		MaxLength:  c.Int("max-length"),
		Activation: c.String("activation"),
		Library:    c.String("library"),
		Logger:     logger,

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
		w = zerolog.ConsoleWriter{Out: w, NoColor: !isTerminal(w), TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger(), nil
}
