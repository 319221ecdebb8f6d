package cli

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
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130 // as shells report SIGINT
	exitBrokenPipe  = 141 // as shells report SIGPIPE
)

// usageError is a mistake on the command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// errReported is returned by a command that failed and has said so itself.
var errReported = errors.New("reported")

// report prints err as one message and returns the exit status it means.
func report(ctx context.Context, w io.Writer, err error) int {
	var usage *usageError
	var library cli.ExitCoder
	status := exitFailure
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailure
	case errors.Is(err, syscall.EPIPE):
		return exitBrokenPipe
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err, status = interrupted(err), exitInterrupted
	case errors.As(err, &usage), errors.As(err, &library):
		status = exitUsage
	}
	if _, werr := fmt.Fprintf(w, "mlxrank: %v\n", err); werr != nil {
		return exitFailure
	}
	return status
}

// interrupted is what to say of an error that an interrupt has caused.
func interrupted(err error) error {
	var kept *keptError
	if errors.As(err, &kept) {
		return errors.New("interrupted; " + kept.advice())
	}
	return errors.New("interrupted")
}

// onUsageError rewords what the flag package says of a wrong flag.
func onUsageError(c *cli.Context, err error, command bool) error {
	see := "see " + c.Command.HelpName + " --help"
	message := err.Error()
	if flag, ok := strings.CutPrefix(message, "flag provided but not defined: -"); ok {
		if !command {
			return usagef("unknown flag --%s; flags follow the command, as in mlxrank rerank --json (%s)", flag, see)
		}
		return usagef("%s has no flag --%s%s (%s)", c.Command.Name, flag, flagHint(c.Command, flag), see)
	}
	if flag, ok := strings.CutPrefix(message, "flag needs an argument: -"); ok {
		return usagef("--%s needs a value (%s)", flag, see)
	}
	if match := invalidValue.FindStringSubmatch(message); match != nil {
		return usagef("--%s cannot be %s (%s)", match[2], match[1], see)
	}
	return usagef("%s (%s)", message, see)
}

var invalidValue = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-([\w-]+): `)
