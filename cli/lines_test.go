package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	tests := []struct {
		name, text string
		want       []string
		numbers    []int
	}{
		{"empty", "", nil, nil},
		{"no newline at the end", "a\nb", []string{"a", "b"}, []int{1, 2}},
		{"blank lines are skipped and counted", "\n \t\na\n\r\n\nb\n\n", []string{"a", "b"}, []int{3, 6}},
		{"carriage returns stay", "a\r\nb\r\n", []string{"a\r", "b\r"}, []int{1, 2}},
		{"byte order mark", "\ufeffa\n\ufeffb\n", []string{"a", "\ufeffb"}, []int{1, 2}},
		{"only a byte order mark", "\ufeff\na", []string{"a"}, []int{2}},
		{"long lines", long + "\na\n" + long, []string{long, "a", long}, []int{1, 2, 3}},
		{"NUL and invalid UTF-8", "\x00\xff\n", []string{"\x00\xff"}, []int{1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLines("f", strings.NewReader(test.text))
			var got []string
			var numbers []int
			for {
				line, err := l.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got, numbers = append(got, string(line)), append(numbers, l.number)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %.80q, want %.80q", got, test.want)
			}
			if !slices.Equal(numbers, test.numbers) {
				t.Errorf("line numbers %v, want %v", numbers, test.numbers)
			}
		})
	}
}

func TestLinesErrors(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(errors.New("disk on fire")))
	endless := io.MultiReader(strings.NewReader("a\n"), zeroes{})
	for _, test := range []struct {
		name string
		r    io.Reader
		want string
	}{
		{"read error", broken, "read f: line 2: disk on fire"},
		{"no newline for ever", endless, "f: line 2: longer than 64 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLines("f", test.r)
			if _, err := l.next(); err != nil {
				t.Fatal(err)
			}
			if _, err := l.next(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestInputEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe() // nobody writes: a read would wait for ever
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	in, err := openInput(ctx, "-", r)
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
	in, err := openInput(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if err != nil || string(got) != "text" {
		t.Errorf("read %q, %v, want %q", got, err, "text")
	}
	if !in.rewindable() {
		t.Error("a regular file is not rewindable")
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	in, err = openInput(t.Context(), "-", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	if in.rewindable() {
		t.Error("standard input is rewindable")
	}
	for path, want := range map[string]string{dir: "is a directory", file + "x": "no such file"} {
		if _, err := openInput(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("open %s: got error %v, want one with the path and %q", path, err, want)
		}
	}
}
