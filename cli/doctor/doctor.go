// Package doctor implements the command doctor.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/bundle"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// doctorApp checks an app instead of this installation.
func doctorApp(c *cli.Context, s command.Streams) (err error) {
	for _, name := range c.LocalFlagNames() {
		if name != "app" {
			return command.Usagef("--%s cannot be combined with --app, which takes no other flag (see mlxrank doctor --help)", name)
		}
	}
	if c.String("app") == "" {
		return command.Usagef("--app is empty; give the folder of a macOS app")
	}
	app, err := bundle.Open(c.String("app"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.Close()) }()
	var checks []check
	for _, f := range app.Check() {
		checks = append(checks, check{f.Name, f.Text, f.Detail, f.Remedy})
	}
	return reportChecks(s.Out, checks)
}

// check is the result of one check.
type check struct {
	name   string
	text   string   // what was found, or what is wrong
	detail []string // more lines
	remedy string   // what to do; set only if the check failed
}

func (c check) failed() bool { return c.remedy != "" }

// reportChecks prints the checks in columns and returns an error if one has failed.
func reportChecks(w io.Writer, checks []check) error {
	const indent = "                 "
	var b strings.Builder
	for _, c := range checks {
		state := "OK"
		if c.failed() {
			state = "FAIL"
		}
		fmt.Fprintf(&b, "%-6s%-11s%s\n", state, c.name, strings.ReplaceAll(c.text, "\n", "\n"+indent))
		for _, line := range c.detail {
			b.WriteString(indent + line + "\n")
		}
		if c.failed() {
			b.WriteString(indent + "-> " + c.remedy + "\n")
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if slices.ContainsFunc(checks, check.failed) {
		return command.ErrReported
	}
	return nil
}

// doctorPair is the pair that doctor scores, one of the engine's golden pairs.
var doctorPair = engine.Pair{
	Query:    "Golang library for colorizing strings for terminal output",
	Document: "Colorstring is a Go library for outputting colored strings to a console using a simple inline syntax to specify the colors.",
}

// doctorLogit is the logit of doctorPair that PyTorch computes with the builtin model
// in float32.
const doctorLogit = 6.694151

// oldCosts is the deprecated name of --costs.
const oldCosts = "calibration"

// Command returns the command doctor.
func Command(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "check the libraries, the model and the device",
		UsageText: "mlxrank doctor [flags]",
		Description: "Looks for the libraries and the model, prints what it found and where, and scores a\n" +
			"pair. Each line is OK or FAIL; below a failure is what to do, and the exit status\n" +
			"is 1. The default model is builtin, which needs no download. If the model of --model\n" +
			"cannot be used, builtin scores the pair instead. Nothing is downloaded.\n\n" +
			"--app checks a macOS app that mlxrank bundle prepared, on any system. Its libraries\n" +
			"and kernels must be present, match each other and the app's oldest macOS, find each\n" +
			"other, and have the same signature as the app. --app takes no other flag.\n\n" +
			command.Examples(
				[2]string{"Check the installation", "mlxrank doctor"},
				[2]string{"Check a model and a device", "mlxrank doctor --model ./my-model --device gpu"},
				[2]string{"Measure how long batches take", "mlxrank doctor --costs"},
				[2]string{"Check an app before you ship it", "mlxrank doctor --app Foo.app"},
			),
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "costs", DisableDefaultText: true,
				Usage: "measure and print the cost model of batches, for about a second"},
			&cli.BoolFlag{Name: oldCosts, Usage: "deprecated: use --costs", Hidden: true},
			&cli.StringFlag{Name: "app", Usage: "`FOLDER` of a macOS app to check instead"},
		}, command.EngineFlags(weights.Builtin)...),
		Action: func(c *cli.Context) error { return doctor(c, s) },
	}
}

func doctor(c *cli.Context, s command.Streams) error {
	if err := command.NoArguments(c); err != nil {
		return err
	}
	if c.IsSet("app") {
		return doctorApp(c, s)
	}
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if c.Bool(oldCosts) {
		config.Logger.Warn().Msg("--" + oldCosts + " is deprecated; use --costs")
	}
	checks := examine(c.Context, config, c.Bool("costs") || c.Bool(oldCosts))
	if err := c.Context.Err(); err != nil {
		return err
	}
	return reportChecks(s.Out, checks)
}

// examine runs all checks. After a failure it leaves out only the checks that need
// what failed.
func examine(ctx context.Context, config engine.Config, costs bool) []check {
	checks := []check{{name: "program", text: command.VersionLine()}, checkProcessor()}
	library, found := checkLibrary(config.Library)
	checks = append(checks, found...)
	if library != nil {
		device := checkDevice(library, mlx.Device(config.Device))
		checks = append(checks, append(checkSignatures(ctx, library.Info()), device)...)
		if device.failed() {
			config.Device = engine.CPU // for the other checks
		}
	}
	config, found = checkModels(ctx, config)
	checks = append(checks, found...)
	switch {
	case library == nil:
		return append(checks, check{name: "forward", text: "not run: no library", remedy: "see library above"})
	case config.Model == "":
		checks = append(checks, check{name: "forward", text: "not run: no model", remedy: "see builtin above"})
	default:
		checks = append(checks, checkForward(ctx, config, costs)...)
	}
	return append(checks, checkMemory(library))
}

// checkLibrary looks for libmlxrank and the libraries in it. It returns nil if
// libmlxrank cannot be used.
func checkLibrary(path string) (*mlx.Library, []check) {
	library, err := mlx.Load(path)
	var refused *mlx.LoadError
	if errors.As(err, &refused) {
		c := check{name: "library", text: "libmlxrank was not found", detail: tried(refused.Tried),
			remedy: "run `make build`, or give the file with --library or " + mlx.LibraryEnv}
		switch {
		case path != "":
			c.remedy = "give another file with --library, or run `make build` and omit --library"
		case os.Getenv(mlx.LibraryEnv) != "":
			c.remedy = "set " + mlx.LibraryEnv + " to another file, or run `make build` and unset it"
		}
		if refused.Err != nil {
			c.text = fmt.Sprintf("libmlxrank cannot be used: %v", refused.Err)
		}
		return nil, []check{c}
	}
	if err != nil {
		return nil, []check{{name: "library", text: err.Error(), remedy: "run `make build`"}}
	}
	info := library.Info()
	checks := []check{
		{name: "library", text: fmt.Sprintf("%s (ABI %d)", info.Path, info.ABI), detail: tried(info.Tried)},
		{name: "mlx", text: fmt.Sprintf("%s at %s, compiled against %s", info.MLXFound, info.MLXPath, info.MLXBuilt)},
		{name: "mlx-c", text: info.MLXC + ", inside the library"},
		{name: "blas", text: info.BLAS},
	}
	if info.Metallib != "" {
		checks[1].detail = append(checks[1].detail, "Metal kernels in "+info.Metallib)
	}
	if info.Build != "" {
		nax := "without kernels for the matrix units of M5 (NAX)"
		if info.NAX {
			nax = "with kernels for the matrix units of M5 (NAX)"
		}
		why := info.BuildWhy
		if why != "" {
			why = ": " + why
		}
		checks[1].detail = append(checks[1].detail, fmt.Sprintf("build %s, %s%s", info.Build, nax, why))
	}
	if strings.HasPrefix(info.BLAS, "not ") {
		checks[3].remedy = "run `make build`, which puts OpenBLAS next to libmlx"
	}
	return library, checks
}

// tried returns a line of detail for each path that was tried.
func tried(paths []string) []string {
	lines := make([]string, len(paths))
	for i, path := range paths {
		lines[i] = "tried " + path
	}
	return lines
}

// checkDevice reports the device that the computation will use.
func checkDevice(library *mlx.Library, wanted mlx.Device) check {
	info := library.Info()
	c := check{name: "device", detail: []string{fmt.Sprintf("GPUs that MLX can use: %d; processors: %d", info.GPUs, info.CPUs)}}
	device, err := library.Device(wanted)
	if err != nil {
		c.text = err.Error()
		c.remedy = "use --device cpu, or --device auto, which uses a GPU only if there is one"
		if wanted != mlx.GPU {
			c.remedy = "see library and mlx above; run `make build`, then mlxrank doctor again"
		}
		return c
	}
	kind := string(wanted)
	if wanted == mlx.Auto {
		kind = string(mlx.CPU)
		if info.GPUs > 0 {
			kind = string(mlx.GPU)
		}
	}
	c.text = strings.TrimSuffix(kind+": "+device.Name, ": ")
	if device.Memory > 0 {
		c.text += ", " + mebibytes(device.Memory)
	}
	return c
}

// checkMemory reports MLX's memory counters.
func checkMemory(library *mlx.Library) check {
	memory, err := library.Memory()
	if err != nil {
		return check{name: "memory", text: err.Error(), remedy: "run `make build`"}
	}
	return check{name: "memory", text: fmt.Sprintf("MLX: %s active, %s cached, %s peak, limit %s",
		mebibytes(memory.Active), mebibytes(memory.Cache), mebibytes(memory.Peak), mebibytes(memory.Limit))}
}

// checkModels reads the files of the builtin model and of the configured one. It
// returns the configuration with a usable model, or without a model if none is usable.
func checkModels(ctx context.Context, config engine.Config) (engine.Config, []check) {
	usable := config
	usable.Model, usable.Adapter, usable.Label = "", "", ""
	builtin := checkModel(ctx, "builtin", weights.Builtin, "")
	if !builtin.failed() {
		usable.Model = weights.Builtin
	}
	if config.Model == weights.Builtin && config.Adapter == "" {
		return usable, []check{builtin}
	}
	asked := checkModel(ctx, "model", config.Model, config.Adapter)
	if !asked.failed() {
		usable = config
	}
	return usable, []check{builtin, asked}
}

// checkModel reads the files of a model and downloads nothing.
func checkModel(ctx context.Context, name, ref, adapter string) check {
	model, err := weights.Open(ctx, ref, weights.Options{Adapter: adapter, NoDownload: true})
	if err != nil {
		return check{name: name, text: err.Error(), remedy: modelRemedy(ref, adapter, err)}
	}
	c := model.Config
	text := fmt.Sprintf("%d layers of %d, %d heads, %s, at most %d tokens",
		c.Layers, c.HiddenSize, c.Heads, output.Count(c.Labels, "label", "labels"), model.MaxLength)
	dir := model.Dir
	if err := model.Close(); err != nil {
		return check{name: name, text: err.Error(), remedy: "check the disk that holds the model"}
	}
	return check{name: name, text: dir, detail: []string{text}}
}

// modelRemedy returns what to do about a model that cannot be used.
func modelRemedy(ref, adapter string, err error) string {
	info, missing := os.Stat(ref)
	switch {
	case ref == weights.Builtin && adapter != "":
		return "omit --adapter, or give the model that the adapter was trained on with --model"
	case ref == weights.Builtin && os.Getenv(weights.BuiltinEnv) != "":
		return "correct " + weights.BuiltinEnv + ", or unset it and run `make build`"
	case ref == weights.Builtin:
		return "run `make build`, which fetches its files"
	case errors.Is(err, weights.ErrNotDownloaded):
		return command.PullAdvice(ref) + ", or use --model builtin"
	case adapter != "":
		return "correct the error above in the model or its adapter, or omit --adapter"
	case missing == nil && info.IsDir():
		return "correct the error above in the files of " + ref + ", or use --model builtin"
	}
	return "give --model a directory with the files of a model, or use --model builtin"
}

// checkForward opens the engine with a usable model and scores a pair. With costs,
// it also measures the costs of batches.
func checkForward(ctx context.Context, config engine.Config, costs bool) []check {
	failed := func(err error) []check {
		remedy := "run `make build`, then mlxrank doctor again"
		if config.Device != engine.CPU || config.DType != engine.Float32 {
			remedy += "; try --device cpu --dtype float32"
		}
		if variant := os.Getenv(engine.VariantEnv); variant != "" {
			remedy = "unset " + engine.VariantEnv + ", or choose another variant"
		}
		if errors.Is(err, engine.ErrActivation) {
			remedy = "give --activation raw, sigmoid or softmax"
		}
		return []check{{name: "forward", text: err.Error(), remedy: remedy}}
	}
	if config.Label == "" {
		config.Label = "0" // any label shows whether the model computes
	}
	e, err := engine.Open(ctx, config)
	if err != nil {
		return failed(err)
	}
	tokens, err := e.Tokenize(ctx, []engine.Pair{doctorPair})
	if err != nil {
		return failed(errors.Join(err, e.Close()))
	}
	result, err := e.Score(ctx, []engine.Pair{doctorPair})
	info := e.Info()
	var measured []check
	if err == nil && costs {
		measured = checkCosts(ctx, e)
	}
	if err = errors.Join(err, e.Close()); err != nil {
		return failed(err)
	}
	return append([]check{
		{name: "tokenizer", text: fmt.Sprintf("daulet/tokenizers %s: %d tokens for the test pair", tokenizerVersion(), len(tokens[0].IDs))},
		judge(info, result),
	}, append(describeChoice(info.Choice), measured...)...)
}

// describeChoice reports the variant of the unfused graph and what was found of each.
func describeChoice(c engine.Choice) []check {
	if c.Variant == "" {
		return nil
	}
	out := check{name: "variant", text: c.Variant}
	switch c.Source {
	case "measured":
		out.text += fmt.Sprintf(", chosen in %.2f s", c.Took.Seconds())
	case "cached":
		out.text += ", as an earlier start has chosen"
	case "forced":
		out.text += ", forced by " + engine.VariantEnv
	}
	for _, t := range c.Trials {
		line := fmt.Sprintf("%-13s", t.Variant)
		if t.Time > 0 {
			line += fmt.Sprintf(" %8.2f ms", telemetry.Milliseconds(t.Time))
		}
		if t.Error >= 0 {
			line += fmt.Sprintf("  off by %.2g of the deviation", t.Error)
		}
		if t.Fault != "" {
			line += "  not used: " + t.Fault
		}
		out.detail = append(out.detail, line)
	}
	return []check{out}
}

// checkCosts measures and reports the cost model of the planner.
func checkCosts(ctx context.Context, e *engine.Engine) []check {
	c, err := e.MeasureCosts(ctx)
	if err != nil {
		return []check{{name: "costs", text: err.Error(), remedy: "see forward above"}}
	}
	out := check{name: "costs", text: fmt.Sprintf(
		"a microbatch takes %.3f ms + %.2f us a token + %.2f ns a squared row width, of %s in %.2f s",
		c.Microbatch/1e6, c.Token/1e3, c.Square, output.Count(len(c.Points), "shape", "shapes"), c.Took.Seconds())}
	for _, p := range c.Points {
		out.detail = append(out.detail, fmt.Sprintf("%3d x %3d tokens  measured %8.2f ms  predicted %8.2f ms  %+5.1f %%",
			p.Pairs, p.Width, telemetry.Milliseconds(p.Measured), telemetry.Milliseconds(p.Predicted), 100*(p.Predicted.Seconds()/p.Measured.Seconds()-1)))
	}
	return []check{out}
}

// judge compares the logit of the test pair with the one of PyTorch, which is known for
// the builtin model only.
func judge(info engine.Info, r *engine.Result) check {
	c := check{name: "forward", text: fmt.Sprintf("logit %.4f, score %.4f by %s on %s in %s by %s: start-up %.0f ms, inference %.1f ms",
		r.Logits[0], r.Scores[0], info.Model, info.Device, info.DType, output.Graph(info.Summary()), telemetry.Milliseconds(info.Startup.Total), telemetry.Milliseconds(r.Timings.Inference))}
	if len(info.Matmuls) > 0 {
		c.detail = []string{"matmuls of its graph: " + strings.Join(info.Matmuls, ", ")}
	}
	if info.Model != weights.Builtin {
		return c
	}
	tolerance := 0.1
	switch info.DType {
	case engine.Float32:
		tolerance = 0.001
	case engine.Int8:
		tolerance = 0.5 // of 3,200 pairs, the worst loses 0.28
	case engine.Int4W:
		tolerance = 4 // 4 bits lose so much, which mlxrank tune shows
	}
	c.detail = append(c.detail, fmt.Sprintf("PyTorch computes logit %.4f", doctorLogit))
	if off := math.Abs(float64(r.Logits[0]) - doctorLogit); !(off <= tolerance) { // true for NaN too
		c.remedy = "do not use these scores; run `make test` and report its output"
	}
	return c
}

// tokenizerVersion returns the version of the tokenizer library.
func tokenizerVersion() string {
	const module = "github.com/daulet/tokenizers"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == module {
				return dep.Version
			}
		}
	}
	return "(version unknown)"
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", math.Round(float64(n)/(1<<20))) }
