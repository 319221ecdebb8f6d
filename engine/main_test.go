package engine

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
)

// openBuiltin opens the builtin model once for all tests: they share it as a
// program's goroutines would.
var openBuiltin = sync.OnceValues(func() (*Engine, error) {
	return Open(context.Background(), Config{Model: weights.Builtin, Device: "cpu"})
})

func builtin(t testing.TB) *Engine {
	t.Helper()
	e, err := openBuiltin()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestMain(m *testing.M) {
	code := m.Run()
	if e, err := openBuiltin(); err == nil {
		if err := e.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
