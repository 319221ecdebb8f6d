package weights

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// tinySpec describes the model that most tests use: hidden 8, 2 heads, 2 layers.
func tinySpec() weightstest.Spec {
	return weightstest.Spec{Config: weightstest.Tiny(8, 2, 2), Seed: 7}
}

// tinyDir writes the tiny model and returns its directory.
func tinyDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny")
	weightstest.Write(t, dir, tinySpec())
	return dir
}

// rewrite replaces the tensors of the model in dir with the result of edit.
func rewrite(t testing.TB, dir string, edit func([]weightstest.Tensor) []weightstest.Tensor) {
	t.Helper()
	weightstest.WriteFile(t, filepath.Join(dir, weightsFile), weightstest.Encode(edit(weightstest.Tensors(tinySpec()))))
}

// find returns the tensor with the given name.
func find(t testing.TB, tensors []weightstest.Tensor, name string) *weightstest.Tensor {
	t.Helper()
	for i := range tensors {
		if tensors[i].Name == name {
			return &tensors[i]
		}
	}
	t.Fatalf("no tensor %q", name)
	return nil
}

// values returns the values of a model's tensor.
func values(t testing.TB, m *Model, name string) []float32 {
	t.Helper()
	for _, tensor := range m.Tensors {
		if tensor.Name == name {
			return floats(tensor)
		}
	}
	t.Fatalf("no tensor %q", name)
	return nil
}

func openModel(t testing.TB, ref string, opts Options) *Model {
	t.Helper()
	m, err := Open(t.Context(), ref, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeModel(t, m) })
	return m
}

// wantError checks that err mentions every part.
func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// worst returns the greatest difference between two tensors.
func worst(t testing.TB, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	d := 0.0
	for i := range got {
		d = max(d, math.Abs(float64(got[i])-float64(want[i])))
	}
	return d
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// allocated returns the bytes that f allocates on the heap.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
