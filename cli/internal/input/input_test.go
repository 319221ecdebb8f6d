package input

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestInputEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe() // no writer: a read would wait for ever
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	in, err := Open(ctx, "-", r)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

func TestOpenInput(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := Open(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if err != nil || string(got) != "text" {
		t.Errorf("read %q, %v, want %q", got, err, "text")
	}
	if !in.Rewindable() {
		t.Error("a regular file is not rewindable")
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	in, err = Open(t.Context(), "-", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	if in.Rewindable() {
		t.Error("standard input is rewindable")
	}
	for path, want := range map[string]string{dir: "is a directory", file + "x": "no such file"} {
		if _, err := Open(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("open %s: got error %v, want one with the path and %q", path, err, want)
		}
	}
}
