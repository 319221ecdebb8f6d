package progress

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
)

// drawn returns what a bar draws on a terminal.
func drawn(t *testing.T, total int) string {
	t.Helper()
	user, program := clitest.OpenTerminal(t, 100)
	bar := NewCounter(program, "scoring", "pairs", total)
	for range 2 {
		bar.Add(10)
		time.Sleep(drawEvery + 100*time.Millisecond)
	}
	bar.End()
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(user)
	if err != nil && !errors.Is(err, syscall.EIO) { // the other end is closed
		t.Fatal(err)
	}
	if err := user.Close(); err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestProgress(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Setenv("TERM", "xterm")
	got := drawn(t, 100)
	for _, want := range []string{"scoring", "20%", "20/100", "pairs/s", "[1s:"} {
		if !strings.Contains(got, want) {
			t.Errorf("the bar lacks %q: %q", want, got)
		}
	}
	if strings.Contains(got, "\x1b[3") || strings.Contains(got, "\n") {
		t.Errorf("the bar has colours or more than one line: %q", got)
	}
	if n := strings.Count(got, "/100,"); n < 2 || n > 3 {
		t.Errorf("drawn %d times, want once a second: %q", n, got)
	}
	if got := drawn(t, -1); !strings.Contains(got, "(20/-") || strings.Contains(got, "%") {
		t.Errorf("without a total: %q", got)
	}
	t.Setenv("TERM", "dumb")
	if got := drawn(t, 100); got != "" {
		t.Errorf("on a dumb terminal: %q", got)
	}
}

// TestProgressBeforeFirstStep shows the time that has passed, and no prediction.
func TestProgressBeforeFirstStep(t *testing.T) {
	t.Setenv("TERM", "xterm")
	got := clitest.Shown(t, func(w io.Writer) {
		bar := NewCounter(w, "scoring", "pairs", 100)
		time.Sleep(drawEvery + 100*time.Millisecond)
		bar.End()
	})
	if !strings.Contains(got, "[1s]") {
		t.Errorf("the bar lacks [1s]: %q", got)
	}
}

func TestProgressInPipe(t *testing.T) {
	var b bytes.Buffer
	bar := NewCounter(&b, "scoring", "pairs", 100)
	bar.Add(10)
	bar.End()
	if b.Len() > 0 {
		t.Errorf("got %q", &b)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	bar = NewCounter(w, "scoring", "pairs", 100)
	bar.Add(10)
	bar.End()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestProgressOnClosedTerminal draws on a terminal that was closed: the bar
// ends, and the work continues.
func TestProgressOnClosedTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	user, program := clitest.OpenTerminal(t, 100)
	bar := NewCounter(program, "scoring", "pairs", 100)
	if err := user.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := program.Write([]byte("x")); !errors.Is(err, syscall.EIO) {
		t.Errorf("writing to the terminal: %v, want an I/O error", err)
	}
	bar.Set(10, 100)
	bar.Draw()
	if bar.bar != nil {
		t.Error("the bar goes on where it cannot be drawn")
	}
	bar.Add(10)
	bar.End()
	if err := program.Close(); err != nil {
		t.Error(err)
	}
}
