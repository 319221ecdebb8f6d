package cli

import (
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

// completeCommand is the command that the completion scripts call with the words
// of the command line, up to the word to complete. The help does not list it.
const completeCommand = "__complete"

// shells holds the completion scripts. Without candidates of mlxrank, they offer
// files.
var shells = map[string]string{
	"bash": `_mlxrank() {
  local IFS=$'\n'
  local word=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$word"))
}
complete -o bashdefault -o default -F _mlxrank mlxrank
`,
	"zsh": `#compdef mlxrank
_mlxrank() {
  local -a found
  found=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "${found[1]}" ]]; then compadd -a found; else _files; fi
}
compdef _mlxrank mlxrank
`,
	"fish": `complete -c mlxrank -a '(mlxrank __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
}

func completionCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands and flags in a shell",
		UsageText: "mlxrank completion bash|zsh|fish",
		Description: command.Examples(
			[2]string{"In bash, permanently", "mlxrank completion bash >~/.local/share/bash-completion/completions/mlxrank"},
			[2]string{"In zsh, permanently, in a folder of $fpath", "mlxrank completion zsh >~/.zfunc/_mlxrank"},
			[2]string{"In fish, permanently", "mlxrank completion fish >~/.config/fish/completions/mlxrank.fish"},
			[2]string{"In the current bash or zsh session", "source <(mlxrank completion bash)"},
		),
		Action: func(c *cli.Context) error {
			if script, ok := shells[c.Args().First()]; ok && c.NArg() == 1 {
				_, err := io.WriteString(s.Out, script)
				return err
			}
			return command.Usagef("completion needs one of bash, zsh, fish (see mlxrank completion --help)")
		},
	}
}

// candidates lists the words that can replace the last word, which may be empty.
func candidates(commands []*cli.Command, words []string) []string {
	last := ""
	if len(words) > 0 {
		last, words = words[len(words)-1], words[:len(words)-1]
	}
	words = slices.DeleteFunc(words, func(word string) bool { return word == "=" }) // bash splits --flag=value
	if last == "=" {
		last = ""
	}
	cmd, ahead := descend(commands, words)
	if flag, value, ok := strings.Cut(last, "="); ok && cmd != nil && command.TakesValue(cmd, flag) { // zsh and fish keep --flag=value whole
		found := beginning(value, flagValues(cmd, flag))
		for i := range found {
			found[i] = flag + "=" + found[i]
		}
		return found
	}
	switch {
	case cmd == nil && len(ahead) > 0:
		return nil // an unknown command
	case cmd == nil:
		return beginning(last, command.Names(commands))
	case len(ahead) > 0 && command.TakesValue(cmd, ahead[len(ahead)-1]):
		return beginning(last, flagValues(cmd, ahead[len(ahead)-1]))
	case strings.HasPrefix(last, "-"):
		return beginning(last, flagNames(cmd))
	case takesModel(cmd):
		return beginning(last, modelNames())
	case cmd.Name == "completion":
		return beginning(last, []string{"bash", "fish", "zsh"})
	case len(ahead) == 0:
		return beginning(last, command.Names(cmd.Subcommands))
	}
	return nil
}

// descend follows words through commands and subcommands. It returns the last
// command found, nil if there is none, and the remaining words.
func descend(commands []*cli.Command, words []string) (*cli.Command, []string) {
	var cmd *cli.Command
	for len(words) > 0 {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(words[0]) })
		if i < 0 {
			break
		}
		cmd, words = commands[i], words[1:]
		commands = cmd.Subcommands
	}
	return cmd, words
}

func flagNames(cmd *cli.Command) []string {
	out := []string{"--help"}
	for _, flag := range cmd.VisibleFlags() {
		out = append(out, "--"+flag.Names()[0])
	}
	return out
}

// flagValues lists the allowed values of a command's flag, nil if they are not known.
func flagValues(cmd *cli.Command, flag string) []string {
	name := strings.TrimLeft(flag, "-")
	if name == "model" {
		return modelNames()
	}
	if f, ok := command.FindFlag(cmd, name).(*command.ChoiceFlag); ok {
		return f.Values
	}
	return nil
}

// takesModel reports whether the command's argument is a model.
func takesModel(cmd *cli.Command) bool { return strings.HasSuffix(cmd.UsageText, " REF") }

// modelNames lists the models that need no download: builtin and the models in
// the cache. The shell offers directories if no model matches.
func modelNames() []string {
	found := []string{weights.Builtin}
	client, err := hub.FromEnvironment()
	if err != nil {
		return found
	}
	models, err := client.Models()
	if err != nil {
		return found
	}
	return append(found, models...)
}

// beginning copies the items of list that begin with prefix.
func beginning(prefix string, list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(item string) bool { return !strings.HasPrefix(item, prefix) })
}
