package rerank

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// runProgram runs mlxrank with only the commands that these tests need.
func runProgram(ctx context.Context, args []string, s command.Streams) int {
	return command.Run(ctx, args, s, func(s command.Streams) *cli.App { return command.NewApp(s, Command(s)) })
}

var mlxrank = clitest.Program(func(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	return runProgram(ctx, args, command.Streams{In: in, Out: out, Err: errOut})
})

func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }
