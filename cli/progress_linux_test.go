package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drawn is what a bar draws on a terminal.
func drawn(t *testing.T, total int) string {
	t.Helper()
	user, program := openTerminal(t, 100)
	bar := newProgress(program, "scoring", "pairs", total)
	for range 3 {
		if err := bar.add(10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(110 * time.Millisecond)
	}
	if err := errors.Join(bar.end(), program.Close()); err != nil {
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
	t.Setenv("TERM", "xterm")
	got := drawn(t, 100)
	for _, want := range []string{"scoring", "20%", "20/100", "pairs/s", "[0s:"} {
		if !strings.Contains(got, want) {
			t.Errorf("the bar lacks %q: %q", want, got)
		}
	}
	if strings.Contains(got, "\x1b[3") || strings.Contains(got, "\n") {
		t.Errorf("the bar has colours or more than one line: %q", got)
	}
	if got := drawn(t, -1); !strings.Contains(got, "(30/-") || strings.Contains(got, "%") {
		t.Errorf("without a total: %q", got)
	}
	t.Setenv("TERM", "dumb")
	if got := drawn(t, 100); got != "" {
		t.Errorf("on a dumb terminal: %q", got)
	}
}

func TestProgressInPipe(t *testing.T) {
	var b bytes.Buffer
	bar := newProgress(&b, "scoring", "pairs", 100)
	if err := errors.Join(bar.add(10), bar.end()); err != nil || b.Len() > 0 {
		t.Errorf("got %q, %v", &b, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	bar = newProgress(w, "scoring", "pairs", 100)
	if err := errors.Join(bar.add(10), bar.end(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
