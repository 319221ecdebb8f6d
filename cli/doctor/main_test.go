package doctor

import (
	"os"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
)

var (
	runProgram = commandtest.New(Command)
	mlxrank    = runProgram.Program()
)

func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }
