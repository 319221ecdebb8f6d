package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// FlagsFirst moves the flags of a command before its other arguments. urfave/cli
// stops reading flags at the first other argument, so that without FlagsFirst
// `rerank "a passage" --query q` would score the passages "--query" and "q".
// Arguments after "--" keep their order.
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
			return append(start, arg) // alone, since urfave/cli takes an argument as a help topic
		case !TakesValue(command, arg):
			flags = append(flags, arg)
		case i+1 == len(args):
			return append(start, arg) // urfave/cli reports the missing value
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

// findCommand returns the command that args name and the index of its first
// argument. It returns nil for an unknown command and for a command that needs a
// subcommand; a command with flags of its own needs none.
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

// refuseRepeats returns an error if args, in the order of FlagsFirst, give a
// single-valued flag twice: urfave/cli would silently take the last value.
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
			continue // help, or a flag that urfave/cli reports as unknown
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

// TakesValue reports whether arg is a flag of the command and the next argument is
// its value.
func TakesValue(command *cli.Command, arg string) bool {
	flag := FindFlag(command, strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"))
	_, boolean := flag.(*cli.BoolFlag)
	return flag != nil && !boolean
}

// FindFlag returns the command's flag of that name, or nil.
func FindFlag(command *cli.Command, name string) cli.Flag {
	i := slices.IndexFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return command.Flags[i]
}
