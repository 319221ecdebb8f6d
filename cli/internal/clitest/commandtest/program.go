// Package commandtest runs some of mlxrank's commands in tests.
package commandtest

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// Run executes a command line and returns the exit status.
type Run func(ctx context.Context, args []string, s command.Streams) int

// New returns a mlxrank that has only the given commands.
func New(commands ...func(command.Streams) *cli.Command) Run {
	return func(ctx context.Context, args []string, s command.Streams) int {
		return command.Run(ctx, args, s, func(s command.Streams) *cli.App {
			made := make([]*cli.Command, len(commands))
			for i, c := range commands {
				made[i] = c(s)
			}
			return command.NewApp(s, made...)
		})
	}
}

// Program returns the run as clitest's helpers take it.
func (r Run) Program() clitest.Program {
	return func(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
		return r(ctx, args, command.Streams{In: in, Out: out, Err: errOut})
	}
}
