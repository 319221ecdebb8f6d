package command

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/spelling"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

// Names lists the commands that are not hidden.
func Names(commands []*cli.Command) []string {
	var out []string
	for _, c := range commands {
		if !c.Hidden {
			out = append(out, c.Name)
		}
	}
	return out
}

// foreignFlags maps flags of mlxrank to flags of other programs that do the same.
// Hints suggest a flag only for a command that has it.
var foreignFlags = map[string][]string{
	"listen":       {"port", "p", "host", "hostname", "bind", "address", "addr", "http"},
	"top-n":        {"top", "top-k", "topk", "k", "n", "limit", "num", "count", "return-top", "max-results"},
	"documents":    {"file", "files", "f", "docs", "doc", "document", "passages", "corpus", "texts", "input", "i", "in"},
	"input":        {"file", "f", "pairs", "data", "in", "i", "documents-file"},
	"output":       {"out", "o", "output-file", "save"},
	"query":        {"q", "question", "search", "text"},
	"threshold":    {"min-score", "score-threshold", "cutoff"},
	"model":        {"m", "model-id", "model-name", "model-name-or-path", "model-path", "served-model-name"},
	"adapter":      {"lora", "lora-adapter", "lora-adapters", "adapters", "peft"},
	"max-length":   {"max-seq-length", "max-seq-len", "max-model-len", "max-tokens", "max-input-length", "ctx-size"},
	"max-batch":    {"batch-size", "max-batch-size", "max-client-batch-size", "batch", "b"},
	"dtype":        {"precision", "data-type", "torch-dtype", "fp16", "bf16"},
	"device":       {"gpu", "cpu", "cuda", "mps", "metal"},
	"activation":   {"raw-scores", "raw", "sigmoid", "apply-sigmoid", "activation-fn"},
	"api-key-file": {"api-key", "key", "token"},
	"cors-origin":  {"cors", "cors-allow-origin", "allowed-origins", "cors-origins"},
	"max-requests": {"max-concurrent-requests", "concurrency", "parallel"},
	"log-level":    {"verbose", "v", "debug", "loglevel", "quiet", "silent"},
	"json":         {"output-json", "as-json"},
	"config":       {"config-file", "c"},
	"measures":     {"metrics", "metric", "measure", "m"},
	"qrels":        {"qrel", "judgements", "judgments", "relevance"},
	"depth":        {"depths", "rerank-depth", "rerank-top-k", "top-k", "k", "top-n"},
}

// nativeName returns the flag among own that does the same as another program's
// flag, or "".
func nativeName(foreign string, own []string) string {
	plain := strings.ToLower(strings.ReplaceAll(foreign, "_", "-"))
	for _, name := range own {
		if slices.Contains(foreignFlags[name], plain) {
			return name
		}
	}
	return ""
}

// settingHint suggests a known setting for an unknown one, or returns "".
func settingHint(unknown string, known []string) string {
	if name := nativeName(unknown, known); name != "" {
		return "; use " + name
	}
	return spelling.Hint(unknown, known, `"%s"`)
}

// flagHint suggests a flag of the command, with the placeholder of its value, for
// an unknown one, or returns "".
func flagHint(command *cli.Command, unknown string) string {
	var own []string
	for _, flag := range command.VisibleFlags() {
		own = append(own, flag.Names()[0])
	}
	if name := nativeName(unknown, own); name != "" {
		return "; use --" + name + placeholder(command, name)
	}
	return spelling.Hint(unknown, own, "--%s")
}

var placeholderPattern = regexp.MustCompile("`(.+?)`")

// placeholder returns a space and the placeholder of the flag's value, or "" for a
// flag without a value.
func placeholder(command *cli.Command, name string) string {
	if flag, ok := FindFlag(command, name).(cli.DocGenerationFlag); ok {
		if match := placeholderPattern.FindStringSubmatch(flag.GetUsage()); match != nil {
			return " " + match[1]
		}
	}
	return ""
}

// Hint suggests a command for an unknown one, or returns "".
func Hint(unknown string, commands []*cli.Command) string {
	return spelling.Hint(unknown, Names(commands), `"%s"`)
}

// variables lists the environment variables that are no flags' settings.
var variables = []string{ConfigEnv, KeyEnv, JoinEnv, mlx.LibraryEnv, weights.BuiltinEnv, UnfusedGraphEnv, oldUnfusedGraphEnv, engine.VariantEnv, mlx.BuildEnv}

// UnfusedGraphEnv makes libmlxrank compute the unfused graph. oldUnfusedGraphEnv is
// its deprecated name.
const (
	UnfusedGraphEnv    = "MLXRANK_UNFUSED_GRAPH"
	oldUnfusedGraphEnv = "MLXRANK_PLAIN_GRAPH"
)

// checkUnfusedGraph rejects values that libmlxrank would ignore.
func checkUnfusedGraph() error {
	for _, name := range []string{UnfusedGraphEnv, oldUnfusedGraphEnv} {
		if value := os.Getenv(name); !slices.Contains([]string{"", "0", "1"}, value) {
			return Usagef("%s cannot be %q; expected 0 or 1", name, value)
		}
	}
	return nil
}

// orchestrated matches the variables that Kubernetes sets in a pod for a service
// that is called mlxrank.
var orchestrated = regexp.MustCompile(`^MLXRANK_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP)(_[A-Z]+)?)$`)

// warnOfVariables warns of variables with mlxrank's prefix that nothing reads.
func warnOfVariables(c *cli.Context, log zerolog.Logger) {
	known := slices.Clone(variables)
	for _, name := range knownSettings(c.App) {
		known = append(known, envName(name))
	}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "MLXRANK_") || slices.Contains(known, name) ||
			orchestrated.MatchString(name) || strings.Contains(value, "://") && strings.HasSuffix(name, "_PORT") {
			continue
		}
		log.Warn().Str("variable", name).Msg("unknown environment variable" + variableHint(c, name, known))
	}
}

// variableHint suggests a variable or a flag for an unknown variable.
func variableHint(c *cli.Context, unknown string, known []string) string {
	setting := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(unknown, "MLXRANK_"), "_", "-"))
	if name := nativeName(setting, knownSettings(c.App)); name != "" {
		return "; use " + envName(name)
	}
	for _, command := range c.App.Commands {
		if FindFlag(command, setting) != nil {
			return "; --" + setting + " can be set on the command line only"
		}
	}
	var names []string
	for _, k := range known {
		names = append(names, strings.TrimPrefix(k, "MLXRANK_"))
	}
	return spelling.Hint(strings.TrimPrefix(unknown, "MLXRANK_"), names, "MLXRANK_%s")
}

// PullAdvice explains how to download a model. If the environment forbids
// connections, mlxrank model pull alone would fail.
func PullAdvice(ref string) string {
	pull := "get it with mlxrank model pull " + ref
	if forbids := hub.Offline(); forbids != "" {
		return "unset " + forbids + ", which forbids downloads, and " + pull
	}
	return pull
}
