package cli

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

var (
	runProgram = Run
	mlxrank    = clitest.Program(func(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
		return runProgram(ctx, args, command.Streams{In: in, Out: out, Err: errOut})
	})
)

// TestMain keeps the settings of whoever runs the tests out of them.
func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }
