package serve

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/server"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

// load is --load.
var load = command.Choice{Name: "load", Usage: "`WHEN` to load models: at the start, or lazily at the first request for each", Def: "start", Values: []string{"start", "lazy"}}

// modelFlags returns the flags of serve that choose models.
func modelFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "alias", DefaultText: "none", Usage: "further name of a model, `NAME=MODEL`; may be repeated"},
		load.Flag(),
		&cli.DurationFlag{Name: "unload-after", DefaultText: "never", Usage: "`TIME` without a request after which a model is unloaded"},
		&cli.Float64Flag{Name: "max-model-memory", DefaultText: "unlimited", Usage: "max memory `MB` of the weights of all loaded models; the least recently used one is unloaded for another"},
		&cli.BoolFlag{Name: "any-model", DisableDefaultText: true, Usage: "answer requests that name an unknown model with the first model"},
		&cli.BoolFlag{Name: "admin", DisableDefaultText: true, Usage: "let holders of the key load, unload and switch models at /admin/models"},
	}
}

// engineFlags returns command.EngineFlags, in which the flags that belong to a model may
// be repeated.
func engineFlags() []cli.Flag {
	flags := command.EngineFlags(weights.Default)
	for i, flag := range flags {
		switch name := flag.Names()[0]; name {
		case "model":
			flags[i] = &cli.StringSliceFlag{Name: name, Value: cli.NewStringSlice(weights.Default), DefaultText: weights.Default,
				Usage: "`MODEL` to score with: a Hugging Face id, a directory, or builtin; give it once for each model, the default model first"}
		case "adapter":
			flags[i] = &cli.StringSliceFlag{Name: name, DefaultText: "none", Usage: "`DIR` of a PEFT LoRA adapter to merge into the model; MODEL=DIR with several models"}
		case "label":
			flags[i] = &cli.StringSliceFlag{Name: name, DefaultText: "the only one", Usage: "`LABEL` to score, by name or zero-based index; MODEL=LABEL with several models"}
		}
	}
	return append(flags, &cli.StringSliceFlag{Name: "calibration", DefaultText: "none",
		Usage: "`FILE` of mlxrank eval with the temperature and shift that make scores probabilities; MODEL=FILE with several models"})
}

// modelConfigs returns the configuration of each model that the flags name, the default
// model first. config has what they share.
func modelConfigs(c *cli.Context, config engine.Config) ([]engine.Config, error) {
	if strings.Contains(c.String("dtype"), ",") {
		return nil, command.Usagef("%s %q is not one number format", command.Source(c, "dtype"), c.String("dtype"))
	}
	var names []string
	for _, name := range c.StringSlice("model") {
		switch name = modelName(name); {
		case name == "":
			return nil, command.Usagef("%s is empty", command.Source(c, "model"))
		case slices.Contains(names, name):
			return nil, command.Usagef("%s %s is given twice; give it once", command.Source(c, "model"), name)
		}
		names = append(names, name)
	}
	adapters, err := perModel(c, "adapter", names)
	if err != nil {
		return nil, err
	}
	labels, err := perModel(c, "label", names)
	if err != nil {
		return nil, err
	}
	calibrations, err := perModel(c, "calibration", names)
	if err != nil {
		return nil, err
	}
	configs := make([]engine.Config, len(names))
	for i, name := range names {
		configs[i] = config
		configs[i].Model, configs[i].Adapter, configs[i].Label = name, adapters[name], labels[name]
		if file := calibrations[name]; file != "" {
			calibration, err := engine.ReadCalibration(file)
			if err != nil {
				return nil, err // which names the file
			}
			configs[i].Calibration = &calibration
		}
	}
	return configs, nil
}

// modelName replaces the address of a model's page by the model's id, which is what the
// engine calls the model too.
func modelName(name string) string {
	if hub.IsAddress(name) {
		if ref, err := hub.ParseRef(name); err == nil {
			return ref.String()
		}
	}
	return name
}

// perModel returns the values of a flag by model. A value is MODEL=VALUE, or VALUE alone if
// there is one model.
func perModel(c *cli.Context, flag string, names []string) (map[string]string, error) {
	values := map[string]string{}
	for _, given := range c.StringSlice(flag) {
		name, value := "", given
		for _, n := range names {
			if rest, ok := strings.CutPrefix(given, n+"="); ok && len(n) > len(name) {
				name, value = n, rest
			}
		}
		if name == "" && len(names) > 1 {
			return nil, command.Usagef("%s %s is for one of %d models; name it: --%s %s=%s", command.Source(c, flag), given, len(names), flag, names[0], given)
		}
		if name == "" {
			name = names[0]
		}
		switch {
		case value == "":
			return nil, command.Usagef("%s is empty", command.Source(c, flag))
		case values[name] != "":
			return nil, command.Usagef("%s is given twice for model %s; give it once", command.Source(c, flag), name)
		}
		values[name] = value
	}
	return values, nil
}

// aliases returns the models of --alias by alias.
func aliases(c *cli.Context) (map[string]string, error) {
	list := map[string]string{}
	for _, given := range c.StringSlice("alias") {
		alias, model, ok := strings.Cut(given, "=")
		switch {
		case !ok || alias == "" || model == "":
			return nil, command.Usagef("%s %q is not valid; expected NAME=MODEL, such as rerank-v3.5=%s", command.Source(c, "alias"), given, weights.Default)
		case list[alias] != "":
			return nil, command.Usagef("%s %s is given twice; give it once", command.Source(c, "alias"), alias)
		}
		list[alias] = modelName(model)
	}
	return list, nil
}

// modelsConfig reads and checks the flags of modelFlags.
func modelsConfig(c *cli.Context, configs []engine.Config) (server.ModelsConfig, error) {
	if err := load.Check(c, command.Source(c, "load")); err != nil {
		return server.ModelsConfig{}, err
	}
	if d := c.Duration("unload-after"); c.IsSet("unload-after") && d < time.Millisecond {
		return server.ModelsConfig{}, command.Usagef("%s %v is too short; expected at least 1ms", command.Source(c, "unload-after"), d)
	}
	if mb := c.Float64("max-model-memory"); c.IsSet("max-model-memory") && !(mb > 0) {
		return server.ModelsConfig{}, command.Usagef("%s %v is too small; expected a positive number of MB", command.Source(c, "max-model-memory"), mb)
	}
	further, err := aliases(c)
	if err != nil {
		return server.ModelsConfig{}, err
	}
	m := server.ModelsConfig{
		Aliases: further, Lazy: load.Value(c) == "lazy", IdleUnload: c.Duration("unload-after"),
		MaxBytes: int64(c.Float64("max-model-memory") * (1 << 20)),
	}
	for _, config := range configs {
		m.Names = append(m.Names, config.Model)
	}
	return m, nil
}

// opener returns the function that opens models by name. Models that configs lacks, which
// only the admin route asks for, get the settings that all models share.
func opener(configs []engine.Config, shared engine.Config) func(context.Context, string) (server.Engine, error) {
	return func(ctx context.Context, name string) (server.Engine, error) {
		config := shared
		config.Model = name
		if i := slices.IndexFunc(configs, func(c engine.Config) bool { return c.Model == name }); i >= 0 {
			config = configs[i]
		}
		if len(configs) > 1 {
			config.Logger = config.Logger.With().Str("model", name).Logger()
		}
		e, err := engine.Open(ctx, config)
		if err != nil {
			return nil, err
		}
		if !e.Info().Unpadded && e.CostModel().Source == engine.AssumedCosts {
			go measureCosts(ctx, e, config.Logger)
		}
		return e, nil
	}
}

// measureCosts measures the costs that plans depend on, once for a device and a shape of
// model: the model was just loaded, and the engine measures only while no request waits.
func measureCosts(ctx context.Context, e *engine.Engine, log zerolog.Logger) {
	if _, err := e.MeasureCosts(ctx); err != nil && !errors.Is(err, engine.ErrClosed) && ctx.Err() == nil {
		log.Warn().Err(err).Msg("measurement of costs")
	}
}

// chooseModels reads and checks the flags that choose models. config has what the models
// share.
func chooseModels(c *cli.Context, config engine.Config) (server.ModelsConfig, error) {
	configs, err := modelConfigs(c, config)
	if err != nil {
		return server.ModelsConfig{}, err
	}
	settings, err := modelsConfig(c, configs)
	if err != nil {
		return server.ModelsConfig{}, err
	}
	config.Adapter, config.Label, config.Calibration = "", "", nil
	settings.Load, settings.Logger = opener(configs, config), config.Logger
	return settings, nil
}
