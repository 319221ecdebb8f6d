package cli

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// A flag of several values may be repeated; a value may look like a flag.
func TestRepeatedFlags(t *testing.T) {
	r := mlxrank.Run(t, "", "serve", "--allowed-host", "a", "--allowed-host", "b", "--listen", "nowhere:none")
	if strings.Contains(r.ErrOut, "twice") {
		t.Errorf("got %q", r.ErrOut)
	}
	mlxrank.MustRun(t, "", "rerank", "--model", clitest.TinyModel(t), "--query", "--query", "a", "--", "--query")
	t.Setenv("MLXRANK_MAX_LENGTH", "20")
	mlxrank.MustRun(t, "", "rerank", "--model", clitest.TinyModel(t), "--query", "q", "--max-length", "21", "d")
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  string
		words []string
	}{
		{"no command", "", []string{"no command", "rerank, score, fleet, tokenize, model, eval, bench, serve, key, mcp, conform, tune, doctor, env, bundle, completion, man, version"}},
		{"unknown command", "rank", []string{`unknown command "rank"; did you mean "rerank"?`, "rerank, score, fleet, tokenize, model, eval, bench, serve, key, mcp, conform, tune, doctor, env, bundle, completion, man, version"}},
		{"unknown topic", "help rank", []string{`unknown command "rank"; did you mean "rerank"?`}},
		{"unknown topic of a command", "help model lst", []string{`model has no command "lst"; did you mean "list"?`}},
		{"flag before the command", "--model x rerank", []string{"unknown flag --model", "follow the command"}},
		{"unknown flag", "rerank --frob 1 d", []string{"rerank has no flag --frob", "rerank --help"}},
		{"unknown flag after a document", "rerank --query q d --frob", []string{"rerank has no flag --frob"}},
		{"misspelt flag", "rerank --querry q d", []string{"rerank has no flag --querry; did you mean --query?"}},
		{"flag with underscores", "rerank --query q --max_length=7 d", []string{"no flag --max_length; did you mean --max-length?"}},
		{"port as others have it", "serve --port 80", []string{"serve has no flag --port; use --listen ADDRESS:PORT (see"}},
		{"host as others have it", "serve --host 0.0.0.0", []string{"no flag --host; use --listen ADDRESS:PORT"}},
		{"top as others have it", "rerank --query q d --top 3", []string{"no flag --top; use --top-n N"}},
		{"top k as others have it", "rerank --query q d --top_k 3", []string{"no flag --top_k; use --top-n N"}},
		{"n as others have it", "rerank --query q d -n 3", []string{"no flag --n; use --top-n N"}},
		{"file as others have it", "rerank --query q --file d", []string{"no flag --file; use --documents FILE"}},
		{"file as others have it, of pairs", "score --file d", []string{"no flag --file; use --input FILE"}},
		{"foreign flag of a command without its like", "version --port 1", []string{"version has no flag --port (see"}},
		{"flag twice", "rerank --query a --query b d", []string{"--query is given twice"}},
		{"flag twice in two forms", "rerank --query=a d -query b", []string{"--query is given twice"}},
		{"boolean twice", "rerank --json --json --query q d", []string{"--json is given twice"}},
		{"flag of a subcommand twice", "model list --json --json", []string{"--json is given twice"}},
		{"flag of score twice", "score --input a --input b --output c", []string{"--input is given twice"}},
		{"documents that are a file", "rerank --query q run_test.go", []string{"names of files (run_test.go)", "--documents FILE", "--documents -"}},
		{"documents that are files and a folder", "rerank --query q run_test.go . app.go", []string{"names of files (run_test.go ...)", "--documents FILE"}},
		{"query and documents of standard input", "rerank --query - --documents -", []string{"--query - and --documents -"}},
		{"missing value", "rerank d --query", []string{"--query needs a value"}},
		{"device", "rerank --query q --device tpu d", []string{`--device "tpu"`, "auto, gpu, cpu"}},
		{"dtype", "score --dtype int3", []string{`--dtype "int3"`, "auto, float32, float16, bfloat16"}},
		{"activation", "tokenize --activation tanh", []string{`--activation "tanh"`, "auto, raw, sigmoid"}},
		{"log level", "doctor --log-level loud", []string{`--log-level "loud"`, "trace, debug, info, warn, error"}},
		{"log format", "rerank --log-format xml", []string{`--log-format "xml"`, "console, json"}},
		{"value is empty", "rerank --device= --query q d", []string{`--device ""`, "auto, gpu, cpu"}},
		{"maximum length is text", "rerank --max-length long --query q d", []string{`--max-length cannot be "long"; expected a whole number`}},
		{"maximum length too small", "rerank --max-length 2 --query q d", []string{"--max-length 2", "3 tokens"}},
		{"maximum length 0", "rerank --max-length 0 --query q d", []string{"--max-length 0"}},
		{"maximum length negative", "rerank --max-length -5 --query q d", []string{"--max-length -5"}},
		{"threshold is text", "rerank --threshold high --query q d", []string{`--threshold cannot be "high"; expected a number`}},
		{"time without a unit", "serve --request-timeout 5", []string{`--request-timeout cannot be "5"; expected a time such as 30s`}},
		{"top 0", "rerank --query q --top-n 0 d", []string{"--top-n 0", "at least 1"}},
		{"batch of none", "score --max-batch 0", []string{"--max-batch 0", "positive"}},
		{"batch of no tokens", "rerank --query q --max-batch-tokens -1 d", []string{"--max-batch-tokens -1", "positive"}},
		{"boolean with a value", "rerank --query q --json=perhaps d", []string{"--json", `"perhaps"`, "true or false"}},
		{"no query", "rerank d", []string{"--query is missing"}},
		{"empty query", "rerank --query= d", []string{"--query is empty"}},
		{"empty model", "rerank --model= --query q d", []string{"--model is empty"}},
		{"no documents", "rerank --query q", []string{"no documents", "--documents FILE"}},
		{"documents twice", "rerank --query q --documents f d", []string{"both", "choose one"}},
		{"dash as a document", "rerank --query q -", []string{"--documents -"}},
		{"no input", "score --output o", []string{"--input is missing"}},
		{"no output", "score --input i", []string{"--output is missing"}},
		{"argument of score", "score --input i --output o x", []string{`no argument "x"`}},
		{"argument of tokenize", "tokenize --input i x", []string{`no argument "x"`}},
		{"argument of mcp", "mcp x", []string{`no argument "x"`}},
		{"argument of doctor", "doctor x", []string{`no argument "x"`}},
		{"bundle of nothing", "bundle", []string{"--app is missing", "bundle --help"}},
		{"bundle of an empty name", "bundle --app=", []string{"--app is empty"}},
		{"bundle from an empty name", "bundle --app x --from=", []string{"--from is empty"}},
		{"argument of bundle", "bundle --app x y", []string{`no argument "y"`}},
		{"doctor of an empty name", "doctor --app=", []string{"--app is empty"}},
		{"doctor of an app and a model", "doctor --app x --model builtin", []string{"--model cannot be combined with --app"}},
		{"argument of doctor of an app", "doctor --app x y", []string{`no argument "y"`}},
		{"model alone", "model", []string{"model needs a command: pull, list, show, verify, quantize, remove"}},
		{"unknown command of model", "model frob x", []string{`model has no command "frob"`, "pull, list, show, verify, quantize, remove"}},
		{"misspelt command of model", "model lst", []string{`model has no command "lst"; did you mean "list"?`}},
		{"debug alone", "debug", []string{"debug needs a command: activations"}},
		{"misspelt command of debug", "debug activation", []string{`debug has no command "activation"; did you mean "activations"?`}},
		{"flag of model", "model --frob", []string{"model has no flag --frob"}},
		{"nothing to pull", "model pull", []string{"model pull needs one REF", "mlxrank model pull cross-encoder/"}},
		{"much to pull", "model pull a/b c/d", []string{"model pull needs one REF"}},
		{"no id to pull", "model pull bert-base-uncased", []string{`"bert-base-uncased"`, "ORG/NAME", "mlxrank model pull --help"}},
		{"directory to remove", "model remove ../x", []string{`"../x"`, "ORG/NAME"}},
		{"no revision to pull", "model pull a/b@../x", []string{"revision"}},
		{"builtin to pull", "model pull builtin", []string{"nothing to pull"}},
		{"unknown flag of show", "model show a/b --frob", []string{"show has no flag --frob", "mlxrank model show --help"}},
		{"argument of list", "model list x", []string{`no argument "x"`}},
		{"nothing to verify", "model verify", []string{"model verify needs one REF"}},
		{"argument of env", "env x", []string{`no argument "x"`}},
		{"argument of version", "version x", []string{`no argument "x"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := mlxrank.Run(t, "", strings.Fields(test.args)...)
			clitest.CheckFailure(t, r, command.ExitUsage, test.words...)
			if lines := strings.Count(r.ErrOut, "\n"); lines > 1 {
				t.Errorf("message of %d lines", lines)
			}
		})
	}
}

func TestBlankQuery(t *testing.T) {
	for _, query := range []string{" ", " \t\n ", "\u2003"} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", query, "d"), command.ExitUsage, "--query is empty")
	}
}

// Help that cannot be written is a failure.
func TestHelpWriteError(t *testing.T) {
	for _, args := range [][]string{{"rerank", "--help"}, {"help", "score"}, {"--help"}, {"model", "--help"}, {"--version"}} {
		var errOut bytes.Buffer
		status := runProgram(t.Context(), append([]string{"mlxrank"}, args...), command.Streams{In: strings.NewReader(""), Out: fullWriter{}, Err: &errOut})
		if status != command.ExitFailure || !strings.Contains(errOut.String(), "no space left on device") {
			t.Errorf("%q: status %d, %q", args, status, errOut.String())
		}
	}
}

// A fullWriter is a full device.
type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestHelp(t *testing.T) {
	for _, command := range []string{"rerank", "score", "tokenize", "eval", "doctor"} {
		for _, args := range [][]string{{command, "--help"}, {"help", command}, {command, "x", "-h"}} {
			r := mlxrank.MustRun(t, "", args...)
			for _, want := range []string{"USAGE:", "Examples:", "--model", "--device", "mlxrank " + command} {
				if !strings.Contains(r.Out, want) {
					t.Errorf("%q: help lacks %q", args, want)
				}
			}
			if r.ErrOut != "" {
				t.Errorf("%q: standard error has %q", args, r.ErrOut)
			}
		}
	}
	for _, args := range [][]string{{"--help"}, {"help"}} {
		if r := mlxrank.MustRun(t, "", args...); !strings.Contains(r.Out, "COMMANDS:") || !strings.Contains(r.Out, "--help") {
			t.Errorf("%q: got %q", args, r.Out)
		}
	}
	if got, want := mlxrank.MustRun(t, "", "help", "model", "pull").Out, mlxrank.MustRun(t, "", "model", "pull", "--help").Out; got != want || !strings.Contains(got, "mlxrank model pull") {
		t.Errorf("help model pull: %q, want %q", got, want)
	}
}

// TestHelpOfAllCommands checks that each command shows a usage and an example, and no
// deprecated flag.
func TestHelpOfAllCommands(t *testing.T) {
	var check func(name string, c *cli.Command)
	check = func(name string, c *cli.Command) {
		name += " " + c.Name
		help := mlxrank.MustRun(t, "", append(strings.Fields(name), "--help")...).Out
		if !strings.Contains(help, "mlxrank"+name) || !strings.Contains(help, "Examples:") && len(c.Subcommands) == 0 {
			t.Errorf("%s: help lacks the usage or an example: %s", name, help)
		}
		for _, bad := range []string{"[command options]", "deprecated: use --", "--cpu-shards"} {
			if strings.Contains(help, bad) {
				t.Errorf("%s: help has %q", name, bad)
			}
		}
		for _, sub := range c.Subcommands {
			check(name, sub)
		}
	}
	for _, c := range newApp(command.Streams{}).Commands {
		if c.Name != "help" { // help --help is the help of the program
			check("", c)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if r := mlxrank.MustRun(t, "", args...); r.Out != command.VersionLine()+"\n" {
			t.Errorf("%q: got %q, want %q", args, r.Out, command.VersionLine())
		}
	}
	if r := mlxrank.MustRun(t, "", "version", "--json"); !strings.Contains(r.Out, `"version":"`+command.Version+`"`) {
		t.Errorf("got %q", r.Out)
	}
}
