package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// chunk is the number of lines that are scored at once.
const chunk = 1024

// writeRows writes n pairs in the layout of MS MARCO.
func writeRows(t *testing.T, path string, n int) {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%d\t%d\t%s\tpage %d\n", i%50, i, []string{"city", "water", "data"}[i%50%3], i*i)
	}
	weightstest.WriteFile(t, path, b.Bytes())
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// kept returns the number of lines in a partial output, 0 if there is none.
func kept(t *testing.T, output string) int {
	t.Helper()
	data, err := os.ReadFile(output + ".mlxrank-state")
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	var state struct{ Records int }
	if err = errors.Join(err, json.Unmarshal(data, &state)); err != nil {
		t.Fatal(err)
	}
	return state.Records
}

// TestKill kills 50 runs with SIGKILL at random times. Saved lines are not scored again,
// and the runs together write the same file as a single run. The test is not
// parallel: a run must make progress within its random time.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	model, dir := tinyModel(t), t.TempDir()
	input := filepath.Join(dir, "top1000.tsv")
	writeRows(t, input, 12*chunk+7)
	kinds := [][]string{{"out.tsv"}, {"out.tsv.gz"}, {"out.tsv.zst"}, {"out.run", "--output-format", "trec"}}
	args := func(kind []string, prefix string) []string {
		output := filepath.Join(dir, prefix+kind[0])
		return append([]string{"score", "--model", model, "--input", input, "--resume", "--output", output}, kind[1:]...)
	}
	want := make(map[string][]byte)
	for _, kind := range kinds {
		cmd, stderr := command(t, args(kind, "whole-")...)
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		want[kind[0]] = readFile(t, filepath.Join(dir, "whole-"+kind[0]))
	}
	killed, finished, resumed := 0, 0, 0
	for i := 0; killed < 50; i++ {
		kind := kinds[i%len(kinds)]
		output := filepath.Join(dir, kind[0])
		for done := false; !done; {
			before := kept(t, output)
			cmd, stderr := hastily(t, args(kind, "")...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Duration(rand.Int64N(int64(500*time.Millisecond))), func() {
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Error(err)
				}
			})
			err := cmd.Wait()
			timer.Stop()
			status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			switch {
			case ok && status.Signaled() && status.Signal() == syscall.SIGKILL:
				killed++
				if after := kept(t, output); after < before {
					if _, err := os.Stat(output); err != nil {
						t.Fatalf("%s: %d lines were kept, and then %d", kind[0], before, after)
					}
				}
				continue
			case err != nil:
				t.Fatalf("%s: %v\n%s", kind[0], err, stderr)
			}
			done = true
			finished++
			if summary := fmt.Sprintf("resumed   after %d lines of an earlier run", before); before > 0 {
				resumed++
				if !strings.Contains(stderr.String(), summary) {
					t.Errorf("%s: the summary lacks %q:\n%s", kind[0], summary, stderr)
				}
			}
		}
		if !bytes.Equal(readFile(t, output), want[kind[0]]) {
			t.Fatalf("%s differs from that of one run", kind[0])
		}
		if err := os.Remove(output); err != nil {
			t.Fatal(err)
		}
		waitForFiles(t, dir, 1+len(kinds))
	}
	t.Logf("%d runs killed, %d files finished, %d of them by a run that went on", killed, finished, resumed)
}

// TestInterruptedFile interrupts a run on a file and resumes it.
func TestInterruptedFile(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	model := tinyModel(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dir := t.TempDir()
		input, output, whole := filepath.Join(dir, "in.tsv"), filepath.Join(dir, "out"), filepath.Join(dir, "whole")
		writeRows(t, input, 7*chunk)
		weightstest.WriteFile(t, output, []byte("old"))
		cmd, stderr := hastily(t, "score", "--model", model, "--input", input, "--output", output)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitForFiles(t, dir, 4) // including the state
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("%v, want exit status 130", err)
		}
		want := fmt.Sprintf("mlxrank: interrupted; finished work (%d lines) is kept in %s.mlxrank-partial; to continue, run the same command with --resume\n", kept(t, output), output)
		if stderr.String() != want {
			t.Errorf("standard error: %q, want %q", stderr, want)
		}
		if got := readFile(t, output); string(got) != "old" {
			t.Errorf("output: %q, want %q", got, "old")
		}
		for _, args := range [][]string{{"--output", output, "--resume"}, {"--output", whole}} {
			cmd, stderr := command(t, append([]string{"score", "--model", model, "--input", input}, args...)...)
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
		}
		if !bytes.Equal(readFile(t, output), readFile(t, whole)) {
			t.Error("the resumed output differs")
		}
		waitForFiles(t, dir, 3)
	}
}

// TestFileTooLarge exceeds a limit on the file size, as on a full disk, and resumes the
// run without the limit.
func TestFileTooLarge(t *testing.T) {
	t.Parallel()
	model, dir := tinyModel(t), t.TempDir()
	input, output, whole := filepath.Join(dir, "in.tsv"), filepath.Join(dir, "out"), filepath.Join(dir, "whole")
	writeRows(t, input, 3*chunk)
	args := []string{"score", "--model", model, "--input", input, "--output"}
	limited := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `ulimit -f 150 && exec "$0" "$@"`, program}, append(args, output)...)...)
	out, err := limited.CombinedOutput()
	if limited.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v, want exit status 1\n%s", err, out)
	}
	lines := kept(t, output)
	want := fmt.Sprintf("mlxrank: write %s: write %[1]s.mlxrank-partial: file too large; finished work (%d lines) is kept in %[1]s.mlxrank-partial; to continue, run the same command with --resume\n", output, lines)
	if string(out) != want || lines == 0 || lines == 3*chunk {
		t.Errorf("%d lines are kept, output %q, want %q", lines, out, want)
	}
	for _, args := range [][]string{append(args, output, "--resume"), append(args, whole)} {
		cmd, stderr := command(t, args...)
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
	}
	if !bytes.Equal(readFile(t, output), readFile(t, whole)) {
		t.Error("the resumed output differs")
	}
}

// TestFullDevice writes to a device that has no room.
func TestFullDevice(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return // only Linux has it
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := full.Close(); err != nil {
			t.Error(err)
		}
	}()
	model, input := tinyModel(t), filepath.Join(t.TempDir(), "in.tsv")
	writeRows(t, input, 1000)
	for _, format := range []string{"same", "trec"} {
		for _, output := range []string{"-", "/dev/full"} {
			cmd, stderr := command(t, "score", "--model", model, "--input", input, "--output-format", format, "--output", output)
			cmd.Stdout = full
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("%v, want exit status 1", err)
			}
			if got := stderr.String(); !strings.HasPrefix(got, "mlxrank: write ") || !strings.HasSuffix(got, "no space left on device\n") || strings.Count(got, "\n") != 1 {
				t.Errorf("%s to %s: standard error: %q", format, output, got)
			}
		}
	}
}
