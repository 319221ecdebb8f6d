package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// Exit statuses of the program.
const (
	ExitOK          = 0
	ExitFailure     = 1
	ExitUsage       = 2
	ExitInterrupted = 130 // as shells report SIGINT
	ExitBrokenPipe  = 141 // as shells report SIGPIPE
)

// usageError is a mistake on the command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

// Usagef returns an error that exits with status ExitUsage.
func Usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// ErrReported reports a failure whose message the command has printed already.
var ErrReported = errors.New("reported")

// Report prints err as one message and returns its exit status.
func Report(ctx context.Context, w io.Writer, err error) int {
	var usage *usageError
	var library cli.ExitCoder
	status := ExitFailure
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrReported):
		return ExitFailure
	case errors.Is(err, syscall.EPIPE):
		return ExitBrokenPipe
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err, status = interrupted(err), ExitInterrupted
	case errors.As(err, &usage), errors.As(err, &library):
		status = ExitUsage
	}
	if _, werr := fmt.Fprintf(w, "mlxrank: %v\n", err); werr != nil {
		return ExitFailure
	}
	return status
}

// interrupted returns the message for an error that an interrupt has caused.
func interrupted(err error) error {
	var kept interface{ Advice() string }
	if errors.As(err, &kept) {
		return errors.New("interrupted; " + kept.Advice())
	}
	return errors.New("interrupted")
}

// onUsageError rewords the flag package's message about a wrong flag.
func onUsageError(c *cli.Context, err error, command bool) error {
	see := "see " + c.Command.HelpName + " --help"
	message := err.Error()
	if flag, ok := strings.CutPrefix(message, "flag provided but not defined: -"); ok {
		if !command {
			return Usagef("unknown flag --%s; flags follow the command, as in mlxrank rerank --json (%s)", flag, see)
		}
		return Usagef("%s has no flag --%s%s (%s)", c.Command.Name, flag, flagHint(c.Command, flag), see)
	}
	if flag, ok := strings.CutPrefix(message, "flag needs an argument: -"); ok {
		return Usagef("--%s needs a value (%s)", flag, see)
	}
	if match := invalidValue.FindStringSubmatch(message); match != nil {
		return Usagef("--%s cannot be %s%s (%s)", match[2], match[1], expected(FindFlag(c.Command, match[2])), see)
	}
	return Usagef("%s (%s)", message, see)
}

// expected describes the values of a flag whose value cannot be parsed, for the
// error, or returns "".
func expected(flag cli.Flag) string {
	switch flag.(type) {
	case *cli.BoolFlag:
		return "; expected true or false"
	case *cli.IntFlag, *cli.Int64Flag:
		return "; expected a whole number"
	case *cli.Float64Flag:
		return "; expected a number"
	case *cli.DurationFlag:
		return "; expected a time such as 30s or 500ms"
	}
	return ""
}

var invalidValue = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-([\w-]+): `)
