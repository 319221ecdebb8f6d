package command

import (
	"context"
	"io"
	"math"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

// CloseEngine closes the engine. After an interrupt it does not wait for the
// batches on the device: they can take seconds, no caller needs them, and the
// process is about to end.
func CloseEngine(ctx context.Context, e *engine.Engine, log zerolog.Logger) error {
	if ctx.Err() == nil {
		return e.Close()
	}
	go func() {
		if err := e.Close(); err != nil {
			log.Warn().Err(err).Msg("close after an interrupt")
		}
	}()
	return nil
}

var choices = []Choice{
	{Name: "device", Usage: "compute `DEVICE`", Def: "auto", Values: []string{"auto", "gpu", "cpu"}},
	{Name: "dtype", Usage: "number format `DTYPE` of the computation", Def: "auto", Values: []string{"auto", "float32", "float16", "bfloat16"}},
	{Name: "activation", Usage: "activation `NAME` from logits to scores; auto for the model's own, softmax for several labels", Def: "auto", Values: []string{"auto", "raw", "sigmoid", "softmax"}},
	{Name: "log-level", Usage: "lowest `LEVEL` of log lines", Def: "warn", Values: []string{"trace", "debug", "info", "warn", "error"}},
	{Name: "log-format", Usage: "log `FORMAT`", Def: "console", Values: []string{"console", "json"}},
}

// sharedFlags lists the flags that the environment and the config file can also set.
func sharedFlags() []string {
	names := []string{"model", "adapter", "label", "max-length", "threads"}
	for _, ch := range choices {
		names = append(names, ch.Name)
	}
	return names
}

// commandLineOnly lists the engine's flags that only the command line can set.
var commandLineOnly = []string{"max-batch", "max-batch-tokens", "library", "config", "help"}

// EngineFlags returns the flags of every command that opens a model.
func EngineFlags(model string) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "model", Value: model, DefaultText: model,
			Usage: "`MODEL` to score with: a Hugging Face id, a directory, or builtin"},
		&cli.StringFlag{Name: "adapter", Usage: "`DIR` of a PEFT LoRA adapter to merge into the model"},
		&cli.StringFlag{Name: "label", DefaultText: "the only one", Usage: "`LABEL` to score, by name or zero-based index"},
		&cli.IntFlag{Name: "max-length", DefaultText: "the model's", Usage: "max tokens per pair, `N`; longer pairs are cut"},
		&cli.IntFlag{Name: "threads", DefaultText: "one per processor, within the CPU quota", Usage: "number of CPU threads, `N`, for computation and again for tokenization"},
		&cli.IntFlag{Name: "max-batch", DefaultText: "the device's", Usage: "max pairs per batch, `N`"},
		&cli.IntFlag{Name: "max-batch-tokens", DefaultText: "the device's", Usage: "max tokens per batch, `N`, padding included"},
	}
	for _, ch := range choices {
		flags = append(flags, ch.Flag())
	}
	return append(flags,
		&cli.StringFlag{Name: "library", DefaultText: "searched for", Usage: "`PATH` of libmlxrank"},
		&cli.StringFlag{Name: "config", DefaultText: "the user's config.yaml", Usage: "config `FILE` with values for these flags"},
	)
}

// SetLogLevel changes the default of --log-level.
func SetLogLevel(flags []cli.Flag, level string) {
	for _, flag := range flags {
		if f, ok := flag.(*ChoiceFlag); ok && f.Name == "log-level" {
			f.Value, f.DefaultText = level, level
		}
	}
}

// EngineConfig checks the values of EngineFlags, from the command line, the
// environment or the config file, and returns the engine's configuration.
func EngineConfig(c *cli.Context, stderr io.Writer) (engine.Config, error) {
	if err := applySettings(c); err != nil {
		return engine.Config{}, err
	}
	if err := checkUnfusedGraph(); err != nil {
		return engine.Config{}, err
	}
	for _, ch := range choices {
		if err := ch.Check(c, Source(c, ch.Name)); err != nil {
			return engine.Config{}, err
		}
	}
	for _, name := range []string{"model", "adapter", "label", "library"} {
		if c.IsSet(name) && c.String(name) == "" {
			return engine.Config{}, Usagef("%s is empty", Source(c, name))
		}
	}
	if n := c.Int("max-length"); c.IsSet("max-length") && n < 3 {
		return engine.Config{}, Usagef("%s %d is too small; a pair needs 3 tokens for [CLS] and two [SEP]", Source(c, "max-length"), n)
	}
	for _, name := range []string{"threads", "max-batch", "max-batch-tokens"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return engine.Config{}, Usagef("%s %d is not a positive number", Source(c, name), c.Int(name))
		}
	}
	logger, err := NewLogger(c.String("log-level"), c.String("log-format"), stderr)
	if err != nil {
		return engine.Config{}, err
	}
	warnOfVariables(c, logger)
	downloads := SharedDownloads(c.App)
	return engine.Config{
		Model:      c.String("model"),
		Adapter:    c.String("adapter"),
		Device:     engine.Device(c.String("device")),
		DType:      engine.DType(c.String("dtype")),
		MaxLength:  c.Int("max-length"),
		Activation: engine.Activation(c.String("activation")),
		Label:      c.String("label"),
		Library:    c.String("library"),
		Threads:    c.Int("threads"),
		Logger:     logger,
		Progress:   func(d engine.Download) { downloads.Report(weights.Progress(d)) },

		MaxBatch:       c.Int("max-batch"),
		MaxBatchTokens: c.Int("max-batch-tokens"),
		QueueTokens:    math.MaxInt, // no other caller has requests in this process
	}, nil
}

// NewLogger returns a logger that writes to w in the format console or json.
func NewLogger(level, format string, w io.Writer) (zerolog.Logger, error) {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), err
	}
	if format == "console" {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !output.CanColour(w), TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger(), nil
}
