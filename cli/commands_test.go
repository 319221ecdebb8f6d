package cli

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestDownloadWhenNeeded scores with a model that is not here yet, and then
// without a hub.
func TestDownloadWhenNeeded(t *testing.T) {
	s, dir := clitest.StartHub(t)
	commands := [][]string{
		{"rerank", "--query", "city", "london", "water"}, {"score", "--input", "-", "--output", "-"}, {"tokenize", "--input", "-"},
	}
	for _, cmdline := range commands {
		args := slices.Concat(cmdline, []string{"--model", clitest.HubModel})
		first := mlxrank.MustRun(t, clitest.PairLines(2), args...)
		if !strings.Contains(first.ErrOut, "downloaded model.safetensors of org/name") {
			t.Errorf("%s: nothing reports the download:\n%s", cmdline[0], first.ErrOut)
		}
		s.Forget()
		t.Setenv("HF_HUB_OFFLINE", "1")
		again := mlxrank.MustRun(t, clitest.PairLines(2), args...)
		if again.Out != first.Out || strings.Contains(again.ErrOut, "downloaded") || len(s.Requests()) > 0 {
			t.Errorf("%s: offline it prints %q, want %q\n%s", cmdline[0], again.Out, first.Out, again.ErrOut)
		}
		mlxrank.MustRun(t, "", "model", "remove", "--yes", clitest.HubModel)
		t.Setenv("HF_HUB_OFFLINE", "")
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("it is still there: %v", err)
		}
	}
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	if r := mlxrank.MustRun(t, "", "doctor", "--model", clitest.HubModel); !strings.Contains(r.Out, "by org/name") {
		t.Errorf("doctor does not use it:\n%s", r.Out)
	}
}

// TestScoreHeader skips a header, or warns of it.
func TestScoreHeader(t *testing.T) {
	model := clitest.TinyModel(t)
	for header, pair := range map[string]string{"query\tdocument": "q\td", "qid\tpid\tquery\tpassage": "1\t2\tq\td"} {
		text := header + "\r\n" + pair + "\n"
		args := []string{"score", "--model", model, "--input", "-", "--output", "-"}
		plain := mlxrank.MustRun(t, pair+"\n", args...)
		r := mlxrank.MustRun(t, text, append(args, "--header")...)
		if r.Out != header+"\tscore\r\n"+plain.Out || strings.Contains(r.ErrOut, "looks like") || !strings.Contains(r.ErrOut, "pairs     1 ") {
			t.Errorf("with --header: %q\n%s", r.Out, r.ErrOut)
		}
		r = mlxrank.MustRun(t, text, args...)
		if !strings.HasSuffix(r.Out, "\n"+plain.Out) || strings.Count(r.ErrOut, "looks like the names of columns") != 1 {
			t.Errorf("without --header: %q\n%s", r.Out, r.ErrOut)
		}
		r = mlxrank.MustRun(t, text, append(args, "--header=false")...)
		if strings.Contains(r.ErrOut, "looks like") || strings.Count(r.Out, "\n") != 2 {
			t.Errorf("with --header=false: %q\n%s", r.Out, r.ErrOut)
		}
		tokens := mlxrank.MustRun(t, text, "tokenize", "--model", model, "--input", "-", "--header")
		if strings.Count(tokens.Out, "\n") != 1 {
			t.Errorf("tokenize --header: %q", tokens.Out)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	model := clitest.TinyModel(t)
	commands := map[string][]string{
		"rerank":      {"rerank", "--model", model, "--query", "q", "d"},
		"rerank JSON": {"rerank", "--json", "--model", model, "--query", "q", "d"},
		"score":       {"score", "--model", model, "--input", "-", "--output", "-"},
		"tokenize":    {"tokenize", "--model", model, "--input", "-"},
		"version":     {"version"},
	}
	for name, args := range commands {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct {
				err    error
				status int
				text   string
			}{
				{syscall.EPIPE, command.ExitBrokenPipe, ""},
				{syscall.ENOSPC, command.ExitFailure, "no space left on device"},
			} {
				var errOut strings.Builder
				status := runProgram(t.Context(), append([]string{"mlxrank"}, args...), command.Streams{
					In:  strings.NewReader(clitest.PairLines(1)),
					Out: writerFunc(func([]byte) (int, error) { return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: test.err} }),
					Err: &errOut,
				})
				if status != test.status {
					t.Errorf("%v: status %d, want %d", test.err, status, test.status)
				}
				if !strings.Contains(errOut.String(), test.text) || (test.text == "" && errOut.Len() > 0) {
					t.Errorf("%v: standard error has %q, want %q", test.err, errOut.String(), test.text)
				}
			}
		})
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestCPUProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpu.pprof")
	mlxrank.MustRun(t, "", "rerank", "--model", clitest.TinyModel(t), "--query", "q", "--cpuprofile", path, "d")
	if profile, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(profile), "\x1f\x8b") {
		t.Errorf("%d bytes that are no profile: %v", len(profile), err)
	}
	none := filepath.Join(path, "none")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "q", "--cpuprofile", none, "d"), command.ExitFailure, "--cpuprofile", none)
}
