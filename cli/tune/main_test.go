package tune

import (
	"context"
	"os"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

var (
	runProgram = commandtest.New(Command)
	mlxrank    = runProgram.Program()
)

// TestMain runs the tests. tune starts this program again for its measurements.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "tune" {
		os.Exit(runProgram(context.Background(), os.Args, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(clitest.Isolate(m))
}
