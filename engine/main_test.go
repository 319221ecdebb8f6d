package engine

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
)

// opened is the engine with the builtin model that the tests share, nil until a
// test needs it.
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
	if dir := os.Getenv(largeVocabularyChild); dir != "" {
		os.Exit(runAsLargeVocabularyChild(dir))
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
