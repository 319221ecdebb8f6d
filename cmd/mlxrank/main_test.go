package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// program is the binary that TestMain builds for all tests.
var program string

// hasty builds a program that makes checkpoints fifty times as often.
var hasty = sync.OnceValues(func() (string, error) {
	return build("hasty", "-ldflags", "-X github.com/mlxrank/mlxrank/cli/internal/scored.CheckpointEvery=200ms")
})

// binaries is the folder of the built programs.
var binaries string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

// build builds the program under the given name and returns its path.
func build(name string, flags ...string) (string, error) {
	path := filepath.Join(binaries, name)
	if out, err := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags, []string{"."})...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

func buildAndRun(m *testing.M) int {
	var err error
	binaries, err = os.MkdirTemp("", "mlxrank")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(binaries); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	if program, err = build("mlxrank"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func tinyModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 7})
	return dir
}

// command returns a command of the program and the buffer of its standard error.
func command(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	return newCommand(t, program, args...)
}

// hastily returns a command of the hasty program, as command does.
func hastily(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	program, err := hasty()
	if err != nil {
		t.Fatal(err)
	}
	return newCommand(t, program, args...)
}

func newCommand(t *testing.T, program string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func TestStreams(t *testing.T) {
	t.Parallel()
	cmd, stderr := command(t, "rerank", "--model", tinyModel(t), "--query", "city", "london", "water")
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if lines := strings.Split(strings.TrimSpace(string(stdout)), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "rank ") {
		t.Errorf("standard output is not a table of two rows:\n%s", stdout)
	}
	if !strings.Contains(stderr.String(), "inference") || strings.Contains(stderr.String(), "london") {
		t.Errorf("standard error is not the summary of the run:\n%s", stderr)
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args string
		want int
	}{
		{"version", 0}, {"rerank --help", 0}, {"frob", 2}, {"rerank --dtype int8", 2},
		{"rerank --model builtin --device gpu --library /none --query q d", 1},
	} {
		cmd, stderr := command(t, strings.Fields(test.args)...)
		err := cmd.Run()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != test.want {
			t.Errorf("%s: status %d, want %d\n%s", test.args, got, test.want, stderr)
		}
	}
}

// TestLibraryWithoutMLX runs with a libmlxrank without libmlx in its folder.
func TestLibraryWithoutMLX(t *testing.T) {
	t.Parallel()
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(library.Info().Path)
	if err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(t.TempDir(), "libmlxrank.so")
	weightstest.WriteFile(t, alone, data)
	for command, want := range map[string][]string{
		"rerank --query q d": {"mlxrank: ", "libmlx", alone, "make build"},
		"doctor":             {"FAIL  library", "libmlx", alone, "make build", "OK    builtin"},
	} {
		cmd := exec.CommandContext(t.Context(), program, append(strings.Fields(command), "--model", "builtin", "--library", alone)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: %v, want exit status 1", command, err)
		}
		for _, word := range want {
			if !strings.Contains(string(out), word) {
				t.Errorf("%s: output lacks %q:\n%s", command, word, out)
			}
		}
	}
}

// TestInterrupt sends a signal while the program scores pairs, or waits for input. The
// output file stays unchanged. The only files left are the partial results, which the
// message names.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	model := tinyModel(t)
	line := `{"query": "city", "document": "` + strings.Repeat("river ", 200) + `"}` + "\n"
	for _, test := range []struct {
		name   string
		signal syscall.Signal
		lines  int
	}{
		{"waiting for input", syscall.SIGINT, 1},
		{"scoring", syscall.SIGINT, 1_000_000},
		{"terminated", syscall.SIGTERM, 1_000_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			output := filepath.Join(dir, "scores.jsonl")
			weightstest.WriteFile(t, output, []byte("old"))
			cmd, stderr := command(t, "score", "--model", model, "--input", "-", "--output", output)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go feed(stdin, line, test.lines)
			waitForFiles(t, dir, 2)
			time.Sleep(300 * time.Millisecond) // past start-up, into the work
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			started := time.Now()
			err = cmd.Wait()
			if cmd.ProcessState.ExitCode() != 130 {
				t.Errorf("%v, want exit status 130", err)
			}
			files, want := 1, "mlxrank: interrupted\n"
			if got := stderr.String(); strings.HasPrefix(got, "mlxrank: interrupted; finished work (") && test.lines > 1 {
				files, want = 3, "is kept in "+output+".mlxrank-partial; to continue, run the same command with --resume\n"
				if !strings.HasSuffix(got, want) {
					t.Errorf("standard error: %q, want it to end with %q", got, want)
				}
			} else if got != want {
				t.Errorf("standard error: %q, want %q", got, want)
			}
			if took := time.Since(started); took > time.Minute {
				t.Errorf("it took %v to end", took)
			}
			waitForFiles(t, dir, files)
			if got, err := os.ReadFile(output); err != nil || string(got) != "old" {
				t.Errorf("output: %q, %v, want %q", got, err, "old")
			}
		})
	}
}

// feed writes a line n times and leaves the pipe open. It returns early if the program
// ends.
func feed(w io.Writer, line string, n int) {
	for range n {
		if _, err := io.WriteString(w, line); err != nil {
			return
		}
	}
}

// waitForFiles waits until dir holds n files.
func waitForFiles(t *testing.T, dir string, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s holds %v, want %d files", dir, entries, n)
		}
	}
}

// TestBrokenPipe closes standard output without reading it.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd, stderr := command(t, "score", "--model", tinyModel(t), "--input", "-", "--output", "-")
	cmd.Stdin = strings.NewReader(`{"query": "city", "document": "london"}`)
	cmd.Stdout = w
	if err := errors.Join(cmd.Start(), r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGPIPE {
		t.Errorf("ended with %v, want SIGPIPE", err)
	}
	if stderr.Len() > 0 {
		t.Errorf("standard error: %q", stderr)
	}
}
