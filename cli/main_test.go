package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

var (
	runProgram = Run
	mlxrank    = program(func(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
		return runProgram(ctx, args, Streams{In: in, Out: out, Err: errOut})
	})
)

// TestMain keeps the settings of whoever runs the tests out of them.
func TestMain(m *testing.M) { os.Exit(runIsolated(m)) }

func runIsolated(m *testing.M) int {
	home, err := os.MkdirTemp("", "mlxrank-home")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(home); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "MLXRANK_") {
			err = os.Unsetenv(name)
		}
	}
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME"} {
		if err == nil {
			err = os.Setenv(name, home)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
