package cli

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestTimes expects the placeholder TIME at flags that take a duration, and at none that
// takes one of several words.
func TestTimes(t *testing.T) {
	durations, choices := 0, 0
	var check func(commands []*cli.Command)
	check = func(commands []*cli.Command) {
		for _, c := range commands {
			for _, flag := range c.Flags {
				documented, ok := flag.(cli.DocGenerationFlag)
				shows := ok && strings.Contains(documented.GetUsage(), "`TIME`")
				switch flag.(type) {
				case *cli.DurationFlag:
					durations++
					if !shows {
						t.Errorf("%s --%s takes a duration and does not show TIME", c.Name, flag.Names()[0])
					}
				case *command.ChoiceFlag:
					choices++
					if shows {
						t.Errorf("%s --%s takes a word and shows TIME", c.Name, flag.Names()[0])
					}
				}
			}
			check(c.Subcommands)
		}
	}
	check(newApp(command.Streams{Out: io.Discard, Err: io.Discard}).Commands)
	if durations == 0 || choices == 0 {
		t.Errorf("%d durations and %d choices: the test shows nothing", durations, choices)
	}
}

func TestFlagsFirst(t *testing.T) {
	commands := newApp(command.Streams{Out: io.Discard, Err: io.Discard}).Commands
	tests := []struct{ name, args, want string }{
		{"nothing", "", ""},
		{"unknown command", "frob a --json", "frob a --json"},
		{"flag before the command", "--model x rerank", "--model x rerank"},
		{"in order already", "rerank --query q a b", "rerank --query q -- a b"},
		{"flag last", "rerank a b --query q", "rerank --query q -- a b"},
		{"boolean takes no value", "rerank a --json b", "rerank --json -- a b"},
		{"value by equals sign", "rerank a --query=q b", "rerank --query=q -- a b"},
		{"single dash", "rerank a -query q b", "rerank -query q -- a b"},
		{"value begins with a dash", "rerank a --query -q b", "rerank --query -q -- a b"},
		{"value is a dash", "rerank --documents - --query q", "rerank --documents - --query q"},
		{"dash alone is an argument", "rerank - --query q", "rerank --query q -- -"},
		{"after a double dash all are arguments", "rerank --query q -- --json -x", "rerank --query q -- --json -x"},
		{"double dash later", "rerank a --query q -- -x -- b", "rerank --query q -- a -x -- b"},
		{"unknown flag stays a flag", "rerank a --frob b", "rerank --frob -- a b"},
		{"value is missing", "rerank a --query", "rerank --query"},
		{"help", "rerank a --help --query q", "rerank --help"},
		{"help as a value", "rerank --query --help a", "rerank --query --help -- a"},
		{"subcommand", "model show org/name --json", "model show --json -- org/name"},
		{"subcommand help", "model pull org/name --help", "model pull --help"},
		{"no subcommand", "model --help", "model --help"},
		{"unknown subcommand", "model frob a --json", "model frob a --json"},
		{"a command with flags and a subcommand", "bench a.yaml --runs 3", "bench --runs 3 -- a.yaml"},
		{"its subcommand", "bench compare a --rounds 3 b", "bench compare --rounds 3 -- a b"},
		{"flags between the two", "bench --runs 3 compare", "bench --runs 3 -- compare"},
		{"a flag that is given several times", "eval --run a --model x --run b", "eval --run a --model x --run b"},
		{"help as an argument", "rerank -- -h", "rerank -- -h"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"mlxrank"}, strings.Fields(test.args)...)
			want := append([]string{"mlxrank"}, strings.Fields(test.want)...)
			if got := command.FlagsFirst(args, commands); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
