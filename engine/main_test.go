package engine

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
)

// opened is the builtin model, if a test needed it: they share it as a program's
// goroutines would.
var opened *Engine

var openBuiltin = sync.OnceValues(func() (e *Engine, err error) {
	opened, err = Open(context.Background(), Config{Model: weights.Builtin, Device: Device(testDevice()), DType: Float32})
	return opened, err
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
	if span := os.Getenv(tokenizerChild); span != "" {
		os.Exit(runAsTokenizerChild(span))
	}
	code := m.Run()
	if opened != nil {
		if err := opened.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
