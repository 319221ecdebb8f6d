package cli

import (
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/internal/spelling"
)

// foreignFlags are flags of other programs, under the names of ours that do the
// same. A flag is suggested for a command that has it.
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
}

// flagHint says which flag of the command an unknown one may be meant as, with
// the placeholder of its value; "" if none is near.
func flagHint(command *cli.Command, unknown string) string {
	plain := strings.ToLower(strings.ReplaceAll(unknown, "_", "-"))
	var own []string
	for _, flag := range command.Flags {
		own = append(own, flag.Names()[0])
	}
	for _, name := range own {
		if slices.Contains(foreignFlags[name], plain) {
			return "; use --" + name + placeholder(command, name)
		}
	}
	return spelling.Hint(unknown, own, "--%s")
}

var placeholderPattern = regexp.MustCompile("`(.+?)`")

// placeholder is what stands for the value of a flag in its usage, after a
// space; "" for a flag without a value.
func placeholder(command *cli.Command, name string) string {
	for _, flag := range command.Flags {
		documented, ok := flag.(cli.DocGenerationFlag)
		if !ok || flag.Names()[0] != name {
			continue
		}
		if match := placeholderPattern.FindStringSubmatch(documented.GetUsage()); match != nil {
			return " " + match[1]
		}
	}
	return ""
}

// commandHint says which command an unknown one may be meant as.
func commandHint(unknown string, commands []*cli.Command) string {
	return spelling.Hint(unknown, names(commands), `"%s"`)
}
