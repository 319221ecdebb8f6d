package eval

import (
	"os"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
	"github.com/mlxrank/mlxrank/cli/score"
)

var (
	runProgram = commandtest.New(Command, score.Command)
	mlxrank    = runProgram.Program()
)

func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }
