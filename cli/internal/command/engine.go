package command

import (
	"context"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

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
	{Name: "dtype", Usage: "number format `DTYPE` of the computation", Def: "auto", Values: []string{"auto", "float32", "float16", "bfloat16", "int8", "int8w", "int4w"}},
	{Name: "activation", Usage: "activation `NAME` from logits to scores; auto for the model's own, softmax for several labels", Def: "auto", Values: []string{"auto", "raw", "sigmoid", "softmax"}},
	{Name: "log-level", Usage: "lowest `LEVEL` of log lines", Def: "warn", Values: []string{"trace", "debug", "info", "warn", "error"}},
	{Name: "log-format", Usage: "log `FORMAT`", Def: "console", Values: []string{"console", "json"}},
}

// DTypes lists the number formats of --dtype but auto, float32 first.
func DTypes() []engine.DType {
	var list []engine.DType
	for _, ch := range choices {
		if ch.Name == "dtype" {
			for _, value := range ch.Values {
				if dtype := engine.DType(value); dtype != engine.DTypeAuto {
					list = append(list, dtype)
				}
			}
		}
	}
	return list
}

// sharedFlags lists the flags that the environment and the config file can also set.
func sharedFlags() []string {
	names := []string{"model", "adapter", "label", "max-length", "threads", "microbatch-tokens"}
	for _, ch := range choices {
		names = append(names, ch.Name)
	}
	return append(names, "calibration", "cache")
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
		&cli.IntFlag{Name: "microbatch-tokens", DefaultText: "the device's", Usage: "max tokens that one thread computes together, `N`; mlxrank tune measures which is best"},
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

// SomeEngineFlags returns the named ones of EngineFlags.
func SomeEngineFlags(model string, names ...string) []cli.Flag {
	return slices.DeleteFunc(EngineFlags(model), func(flag cli.Flag) bool { return !slices.Contains(names, flag.Names()[0]) })
}

// SetLogLevel changes the default of --log-level.
func SetLogLevel(flags []cli.Flag, level string) {
	for _, flag := range flags {
		if f, ok := flag.(*ChoiceFlag); ok && f.Name == "log-level" {
			f.Value, f.DefaultText = level, level
		}
	}
}

// EngineListFlags returns the flags of a command that opens models one after the
// other: EngineFlags, in which --model may be given several times, and --dtype and
// --max-length take lists.
func EngineListFlags(model string) []cli.Flag {
	flags := EngineFlags(model)
	for i, flag := range flags {
		switch name := flag.Names()[0]; name {
		case "model":
			flags[i] = &cli.StringSliceFlag{Name: name, Value: cli.NewStringSlice(model), DefaultText: model,
				Usage: "`MODEL` to score with: a Hugging Face id, a directory, or builtin; give it once for each model"}
		case "max-length":
			flags[i] = &cli.StringFlag{Name: name, DefaultText: "the model's", Usage: "max tokens per pair, `N` or a list such as 128,512; longer pairs are cut"}
		case "dtype":
			flag.(*ChoiceFlag).Usage += "; or a list of these with commas"
		}
	}
	return flags
}

// EngineConfigs checks the values of EngineListFlags as EngineConfig does. It returns
// the configurations of each combination of models, maximum lengths and number
// formats, in this order.
func EngineConfigs(c *cli.Context, stderr io.Writer) ([]engine.Config, error) {
	base, err := engineConfig(c, stderr)
	if err != nil {
		return nil, err
	}
	models := c.StringSlice("model")
	if slices.Contains(models, "") {
		return nil, Usagef("%s is empty", Source(c, "model"))
	}
	for i, model := range models {
		if slices.Contains(models[:i], model) {
			return nil, Usagef("--model %s is given twice; give it once", model)
		}
	}
	if len(models) > 1 && base.Adapter != "" {
		return nil, Usagef("--adapter is for one model, found %d; run the command once for each model", len(models))
	}
	lengths := []int{0}
	if c.IsSet("max-length") {
		if lengths, err = Numbers(c, "max-length", leastLength); err != nil {
			return nil, err
		}
	}
	var configs []engine.Config
	for _, model := range models {
		for _, length := range lengths {
			for _, dtype := range strings.Split(c.String("dtype"), ",") {
				base.Model, base.MaxLength, base.DType = model, length, engine.DType(dtype)
				configs = append(configs, base)
			}
		}
	}
	return configs, nil
}

// Numbers returns the numbers of a flag whose value is a list with commas.
func Numbers(c *cli.Context, name string, least int) ([]int, error) {
	var list []int
	for _, text := range strings.Split(c.String(name), ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		switch {
		case err != nil:
			return nil, Usagef("%s cannot be %q; expected whole numbers with commas between them", Source(c, name), c.String(name))
		case n < least:
			return nil, Usagef("%s %d is too small; expected at least %d", Source(c, name), n, least)
		case slices.Contains(list, n):
			return nil, Usagef("%s has %d twice; give it once", Source(c, name), n)
		}
		list = append(list, n)
	}
	return list, nil
}

// leastLength is the smallest maximum length: a pair has [CLS] and two [SEP].
const leastLength = 3

// EngineConfig checks the values of EngineFlags, from the command line, the
// environment or the config file, and returns the engine's configuration.
func EngineConfig(c *cli.Context, stderr io.Writer) (engine.Config, error) {
	config, err := engineConfig(c, stderr)
	if err != nil {
		return engine.Config{}, err
	}
	if c.IsSet("model") && c.String("model") == "" {
		return engine.Config{}, Usagef("%s is empty", Source(c, "model"))
	}
	if n := c.Int("max-length"); c.IsSet("max-length") && n < leastLength {
		return engine.Config{}, Usagef("%s %d is too small; a pair needs 3 tokens for [CLS] and two [SEP]", Source(c, "max-length"), n)
	}
	config.Model, config.MaxLength, config.DType = c.String("model"), c.Int("max-length"), engine.DType(c.String("dtype"))
	return config, nil
}

// engineConfig checks the flags of an engine, and returns a configuration without
// the model, the maximum length and the number format.
func engineConfig(c *cli.Context, stderr io.Writer) (engine.Config, error) {
	if err := applySettings(c); err != nil {
		return engine.Config{}, err
	}
	if err := checkUnfusedGraph(); err != nil {
		return engine.Config{}, err
	}
	for _, ch := range choices {
		if FindFlag(c.Command, ch.Name) == nil {
			continue // a command without it
		}
		if err := ch.Check(c, Source(c, ch.Name)); err != nil {
			return engine.Config{}, err
		}
	}
	for _, name := range []string{"adapter", "label", "library"} {
		if c.IsSet(name) && c.String(name) == "" {
			return engine.Config{}, Usagef("%s is empty", Source(c, name))
		}
	}
	for _, name := range []string{"threads", "microbatch-tokens", "max-batch", "max-batch-tokens"} {
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
		Adapter:    c.String("adapter"),
		Device:     engine.Device(c.String("device")),
		Activation: engine.Activation(c.String("activation")),
		Label:      c.String("label"),
		Library:    c.String("library"),
		Threads:    c.Int("threads"),
		Logger:     logger,
		Progress:   func(d engine.Download) { downloads.Report(weights.Progress(d)) },

		MaxBatch:         c.Int("max-batch"),
		MaxBatchTokens:   c.Int("max-batch-tokens"),
		MicrobatchTokens: c.Int("microbatch-tokens"),
		QueueTokens:      math.MaxInt, // no other caller has requests in this process
	}, nil
}

// logChoices lists the flags of the log.
var logChoices = []string{"log-level", "log-format"}

// LogFlags returns the flags of a command that opens no model but has notices.
func LogFlags() []cli.Flag {
	flags := []cli.Flag{QuietFlag()}
	for _, ch := range choices {
		if slices.Contains(logChoices, ch.Name) {
			flags = append(flags, ch.Flag())
		}
	}
	return flags
}

// Logger checks the values of LogFlags and returns the logger that they describe.
func Logger(c *cli.Context, w io.Writer) (zerolog.Logger, error) {
	if err := applySettings(c); err != nil {
		return zerolog.Nop(), err
	}
	for _, ch := range choices {
		if !slices.Contains(logChoices, ch.Name) {
			continue
		}
		if err := ch.Check(c, Source(c, ch.Name)); err != nil {
			return zerolog.Nop(), err
		}
	}
	return NewLogger(c.String("log-level"), c.String("log-format"), w)
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
