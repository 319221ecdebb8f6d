package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCoProcess writes pairs to a process one at a time and waits for each answer. It
// then writes many pairs at once, which the process answers in order and in batches.
func TestCoProcess(t *testing.T) {
	t.Parallel()
	model := tinyModel(t)
	for format, line := range map[string]string{
		"jsonl": `{"query": "city", "document": "page %d"}`,
		"tsv":   "city\tpage %d",
	} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			cmd, stderr := command(t, "score", "--model", model, "--input", "-", "--output", "-")
			talk := converse(t, cmd)
			for i := range 20 {
				ask := fmt.Sprintf(line, i)
				talk.write(t, ask+"\n")
				if got := talk.read(t); !strings.HasPrefix(got, strings.TrimSuffix(ask, "}")) {
					t.Fatalf("asked %q, answered %q", ask, got)
				}
				if i%7 == 6 {
					time.Sleep(100 * time.Millisecond)
				}
			}
			const many = 5000
			go func() {
				for i := range many {
					if _, err := fmt.Fprintf(talk.in, line+"\n", i); err != nil {
						return // reading then fails the test
					}
				}
			}()
			for i := range many {
				if got, want := talk.read(t), strings.TrimSuffix(fmt.Sprintf(line, i), "}"); !strings.HasPrefix(got, want) {
					t.Fatalf("answer %d is %q, want one of %q", i, got, want)
				}
			}
			if err := talk.in.Close(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
			var pairs, batches int
			if _, after, found := strings.Cut(stderr.String(), "pairs     "); found {
				if _, err := fmt.Sscanf(after, "%d (0 truncated) in %d batches", &pairs, &batches); err != nil {
					t.Errorf("summary %q: %v", after, err)
				}
			}
			if pairs != many+20 || batches > many/4 {
				t.Errorf("%d pairs in %d batches: pairs that arrived together were scored apart\n%s", pairs, batches, stderr)
			}
		})
	}
}

// TestTokenizeCoProcess does the same with tokenize.
func TestTokenizeCoProcess(t *testing.T) {
	t.Parallel()
	cmd, _ := command(t, "tokenize", "--model", tinyModel(t), "--input", "-")
	talk := converse(t, cmd)
	for range 3 {
		talk.write(t, `{"query": "city", "document": "page"}`+"\n")
		if got := talk.read(t); !strings.HasPrefix(got, `{"input_ids":[`) {
			t.Fatalf("answered %q", got)
		}
	}
	if err := talk.in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// conversation has the standard input and output of a process.
type conversation struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func converse(t *testing.T, cmd *exec.Cmd) conversation {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return conversation{in, bufio.NewReader(out)}
}

func (c conversation) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c.in, text); err != nil {
		t.Fatal(err)
	}
}

// read returns the next answer, or fails after a minute.
func (c conversation) read(t *testing.T) string {
	t.Helper()
	line := make(chan string, 1)
	go func() {
		text, err := c.out.ReadString('\n')
		if err != nil {
			text = err.Error()
		}
		line <- text
	}()
	select {
	case text := <-line:
		return text
	case <-time.After(time.Minute):
		t.Fatal("no answer")
		return ""
	}
}

// TestSignalAtPipes interrupts runs that wait for the other end of a named pipe, or
// for the reader of standard output. The first signal ends them.
func TestSignalAtPipes(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	model := tinyModel(t)
	input := filepath.Join(t.TempDir(), "in.tsv")
	writeRows(t, input, 20_000)
	const fifo = "fifo" // in a folder of each run, since runs with one fifo would meet
	for name, args := range map[string][]string{
		"output without a reader": {"score", "--input", input, "--output", fifo},
		"input without a writer":  {"score", "--input", fifo, "--output", "-"},
		"documents":               {"rerank", "--query", "city", "--documents", fifo},
		"standard output unread":  {"score", "--input", input, "--output", "-"},
	} {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cmd, stderr := command(t, append(slices.Clone(args), "--model", model)...)
				cmd.Dir = t.TempDir()
				if err := unix.Mkfifo(filepath.Join(cmd.Dir, fifo), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := cmd.StdoutPipe(); err != nil { // never read
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				started := time.Now()
				if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
					t.Errorf("%v, want exit status 130\n%s", err, stderr)
				}
				if took := time.Since(started); took > time.Minute {
					t.Errorf("it took %v to end", took)
				}
			})
		}
	}
}

// TestRedirectedOutput writes to standard output, by each of its names, while it is a
// file to which the caller also writes.
func TestRedirectedOutput(t *testing.T) {
	t.Parallel()
	model, dir := tinyModel(t), t.TempDir()
	input := filepath.Join(dir, "in.tsv")
	writeRows(t, input, 3)
	for _, name := range []string{"-", "/dev/stdout", "/dev/fd/1"} {
		path := filepath.Join(dir, "out.txt")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		cmd, stderr := command(t, "score", "--model", model, "--input", input, "--output", name)
		cmd.Stdout = file
		_, before := file.WriteString("before\n")
		if err := errors.Join(before, cmd.Run()); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, stderr)
		}
		_, after := file.WriteString("after\n")
		if err := errors.Join(after, file.Close()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(got), "\n"), "\n")
		if len(lines) != 5 || lines[0] != "before" || lines[4] != "after" {
			t.Errorf("%s: got %q, want three lines between before and after", name, got)
		}
	}
	waitForFiles(t, dir, 2)
}
