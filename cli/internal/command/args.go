package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// FlagsFirst moves the flags of a command before its other arguments, because
// urfave/cli reads no flag after the first argument that is none: without it
// `rerank "a passage" --query q` would score the passages "--query" and "q".
// Arguments after "--" stay as they are.
func FlagsFirst(args []string, commands []*cli.Command) []string {
	command, first := findCommand(args, commands)
	if command == nil {
		return args
	}
	start := slices.Clone(args[:first])
	var flags, rest []string
	for i := first; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(arg) < 2 || arg[0] != '-':
			rest = append(rest, arg)
		case arg == "-h", arg == "-help", arg == "--help":
			return append(start, arg) // or it would explain the first argument
		case !TakesValue(command, arg):
			flags = append(flags, arg)
		case i+1 == len(args):
			return append(start, arg) // to be refused, since its value is missing
		default:
			flags = append(flags, arg, args[i+1])
			i++
		}
	}
	if len(rest) > 0 {
		rest = append([]string{"--"}, rest...)
	}
	return slices.Concat(start, flags, rest)
}

// findCommand returns the command that args name, and where its own arguments
// begin; nil if there is none, or if it is to be followed by a subcommand. One
// that has flags of its own need not be.
func findCommand(args []string, commands []*cli.Command) (found *cli.Command, first int) {
	for i := 1; i < len(args); i++ {
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[i]) })
		if at < 0 {
			break
		}
		found, first = nil, 0
		if c := commands[at]; len(c.Subcommands) == 0 || len(c.Flags) > 0 {
			found, first = c, i+1
		}
		commands = commands[at].Subcommands
	}
	return found, first
}

// refuseRepeats returns an error if args, in the order of FlagsFirst, give a flag
// twice that has one value: urfave/cli would take the last without a word.
func refuseRepeats(args []string, commands []*cli.Command) error {
	command, first := findCommand(args, commands)
	if command == nil {
		return nil
	}
	given := map[string]bool{}
	for i := first; i < len(args) && args[i] != "--"; i++ {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-"), "=")
		flag := FindFlag(command, name)
		if flag == nil {
			continue // help, or to be refused as unknown
		}
		if _, several := flag.(*cli.StringSliceFlag); !several && given[flag.Names()[0]] {
			return Usagef("--%s is given twice; give it once", flag.Names()[0])
		}
		given[flag.Names()[0]] = true
		if TakesValue(command, args[i]) {
			i++
		}
	}
	return nil
}

// TakesValue reports whether arg is a flag of the command whose value is the
// argument after it.
func TakesValue(command *cli.Command, arg string) bool {
	flag := FindFlag(command, strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"))
	_, boolean := flag.(*cli.BoolFlag)
	return flag != nil && !boolean
}

// FindFlag returns the command's flag of that name, nil if there is none.
func FindFlag(command *cli.Command, name string) cli.Flag {
	for _, flag := range command.Flags {
		if slices.Contains(flag.Names(), name) {
			return flag
		}
	}
	return nil
}
