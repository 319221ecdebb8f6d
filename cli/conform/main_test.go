package conform

import (
	"os"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
)

var mlxrank = commandtest.New(Command).Program()

func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }
