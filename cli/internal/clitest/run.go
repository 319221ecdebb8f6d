// Package clitest runs command lines in tests and checks what they print.
package clitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// Isolate runs the tests with an empty home directory and without the user's
// MLXRANK_ variables, and returns the exit status.
func Isolate(m *testing.M) int {
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

// A Result is the exit status of a run and its output.
type Result struct {
	Status      int
	Out, ErrOut string
}

// A Program executes a command line.
type Program func(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int

// Run executes a command line in the test's process.
func (p Program) Run(t testing.TB, stdin string, args ...string) Result {
	t.Helper()
	return p.RunContext(t.Context(), t, strings.NewReader(stdin), args...)
}

// RunContext executes a command line as Run does, with a context and a reader.
func (p Program) RunContext(ctx context.Context, t testing.TB, stdin io.Reader, args ...string) Result {
	t.Helper()
	var out, errOut bytes.Buffer
	status := p(ctx, append([]string{"mlxrank"}, args...), stdin, &out, &errOut)
	return Result{status, out.String(), errOut.String()}
}

// MustRun executes a command line as Run does and requires status 0.
func (p Program) MustRun(t testing.TB, stdin string, args ...string) Result {
	t.Helper()
	r := p.Run(t, stdin, args...)
	if r.Status != 0 {
		t.Fatalf("mlxrank %q: status %d, want 0\n%s", args, r.Status, r.ErrOut)
	}
	return r
}

// CheckFailure checks that a run failed with the status, printed no results, and
// printed one message that contains all words.
func CheckFailure(t *testing.T, r Result, status int, words ...string) {
	t.Helper()
	if r.Status != status {
		t.Errorf("status %d, want %d", r.Status, status)
	}
	if r.Out != "" {
		t.Errorf("standard output is not empty: %.200q", r.Out)
	}
	if !strings.HasPrefix(r.ErrOut, "mlxrank: ") || strings.Contains(r.ErrOut, "\nmlxrank: ") || !strings.HasSuffix(r.ErrOut, "\n") {
		t.Errorf("not one message: %q", r.ErrOut)
	}
	for _, word := range words {
		if !strings.Contains(r.ErrOut, word) {
			t.Errorf("message lacks %q: %s", word, r.ErrOut)
		}
	}
	if strings.Contains(r.ErrOut, "goroutine") {
		t.Errorf("panic: %s", r.ErrOut)
	}
}

// TinyModel writes a small model and returns its directory.
func TinyModel(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 7})
	return dir
}

// PairLines returns n different pairs as JSONL.
func PairLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id": %d, "query":"%s", "document" : "page %d of %d", "é": [1.50, "\u00e9"]}`+"\n", i, []string{"city", "water", "data"}[i%3], i, i*i)
	}
	return b.String()
}

// OpenEngine opens an engine that the test closes at its end.
func OpenEngine(t testing.TB, model string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Model: model})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// Summary runs rerank --json and returns the summary of the run. Standard error
// must stay empty.
func (p Program) Summary(t testing.TB, args ...string) output.Summary {
	t.Helper()
	var ranking struct {
		Run output.Summary `json:"run"`
	}
	r := p.MustRun(t, "", append([]string{"rerank", "--json"}, args...)...)
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	if err := json.Unmarshal([]byte(r.Out), &ranking); err != nil {
		t.Fatal(err)
	}
	return ranking.Run
}

// Near reports whether two scores differ by no more than float32 rounding in
// different batches.
func Near(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-5 }

// States parses doctor's output and returns the state of each check by name.
func States(t *testing.T, r Result) map[string]string {
	t.Helper()
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	got := map[string]string{}
	advice := 0
	for _, line := range strings.Split(strings.TrimSuffix(r.Out, "\n"), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "-> ") {
			advice++
		}
		if strings.HasPrefix(line, " ") {
			continue
		}
		words := strings.Fields(line)
		if len(words) < 3 || (words[0] != "OK" && words[0] != "FAIL") || strings.Index(line, words[1]) != 6 || line[17] == ' ' {
			t.Fatalf("line %q", line)
		}
		got[words[1]] = words[0]
	}
	failed := 0
	for _, state := range got {
		if state == "FAIL" {
			failed++
		}
	}
	if failed != advice {
		t.Errorf("%d failures and %d times advice:\n%s", failed, advice, r.Out)
	}
	return got
}

// CheckDir checks that dir has exactly the named files with these contents.
func CheckDir(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := want[entry.Name()]; !ok {
			t.Errorf("%s was left in the directory", entry.Name())
		}
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
			t.Errorf("%s: got %.200q, %v, want %.200q", name, got, err, text)
		}
	}
}

// WriteFile writes text to path and returns path.
func WriteFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// HubModel is the id of the model that StartHub serves.
const HubModel = "org/name"

// StartHub starts a hub with the small model. It returns the hub and the directory
// to which a download of the model goes.
func StartHub(t *testing.T) (s *hubtest.Server, dir string) {
	t.Helper()
	s = hubtest.New(t)
	repo := s.Add(HubModel, hubtest.Dir(t, TinyModel(t)))
	repo.Revisions = []string{"v1"}
	return s, filepath.Join(s.Use(t), "models--org--name", "snapshots", repo.Commit)
}

// Edit rewrites the file at path with the result of change.
func Edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	weightstest.WriteFile(t, path, change(data))
}

// Contents returns the files of a directory by name.
func Contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}
