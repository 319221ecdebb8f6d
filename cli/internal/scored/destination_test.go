package scored

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
)

func TestOutputToDevice(t *testing.T) {
	o, err := Create(t.Context(), os.DevNull, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := o.(*stream); !ok {
		t.Errorf("a device is a %T, not written directly", o)
	}
	if err := errors.Join(o.WriteChunk([]byte("new"), Position{}, Tally{}), o.Commit(), o.Close(nil)); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(os.DevNull)
	if err != nil || info.Mode().IsRegular() {
		t.Errorf("%s became a regular file: %v", os.DevNull, err)
	}
	if _, err := Create(t.Context(), os.DevNull, nil, true); err == nil || !strings.Contains(err.Error(), "--resume needs an output file") {
		t.Errorf("resumed: %v", err)
	}
}

func TestOutputToFullDevice(t *testing.T) {
	o, err := Create(t.Context(), "/dev/full", nil, false)
	if errors.Is(err, os.ErrNotExist) {
		return // only Linux has it
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(o.WriteChunk([]byte("new"), Position{}, Tally{})); err == nil || !strings.Contains(err.Error(), "write /dev/full: ") || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got error %v", err)
	}
}

func TestOutputToStdout(t *testing.T) {
	var stdout bytes.Buffer
	o, err := Create(t.Context(), "-", &stdout, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.WriteChunk([]byte("new"), Position{}, Tally{}); err != nil || stdout.String() != "new" {
		t.Errorf("before commit: got %q, %v, want %q", stdout.String(), err, "new")
	}
	if err := errors.Join(o.Commit(), o.Close(nil)); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "new" {
		t.Errorf("got %q, want %q", stdout.String(), "new")
	}
}

func TestCreateOutputErrors(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                               "is a directory",
		filepath.Join(dir, "none", "out"): "no such file or directory",
		clitest.WriteFile(t, filepath.Join(dir, "file"), "") + "/out": "not a directory",
	} {
		if _, err := Create(t.Context(), path, nil, false); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got error %v, want one with the path and %q", path, err, want)
		}
	}
	clitest.CheckDir(t, dir, map[string]string{"file": ""})
}

// TestOutputToDescriptor checks that a descriptor is written at its current position,
// under each of its names, so that a regular file keeps what others wrote.
func TestOutputToDescriptor(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	names := []string{fmt.Sprintf("/dev/fd/%d", file.Fd()), link}
	if err := os.Symlink(names[0], link); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" {
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()))
	}
	want := ""
	for _, name := range names {
		if _, err := file.WriteString("before\n"); err != nil {
			t.Fatal(err)
		}
		o, err := Create(t.Context(), name, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(o.WriteChunk([]byte("new\n"), Position{}, Tally{}), o.Commit(), o.Close(nil)); err != nil {
			t.Error(err)
		}
		want += "before\nnew\n"
		if _, err := Create(t.Context(), name, nil, true); err == nil || !strings.Contains(err.Error(), "--resume needs an output file") {
			t.Errorf("%s, resumed: %v", name, err)
		}
	}
	if err := errors.Join(file.Close(), os.Remove(link)); err != nil {
		t.Fatal(err)
	}
	clitest.CheckDir(t, dir, map[string]string{"out": want})
	if _, err := Create(t.Context(), "/dev/fd/987", nil, false); !errors.Is(err, syscall.EBADF) || !strings.Contains(err.Error(), "/dev/fd/987") {
		t.Errorf("a descriptor that is not open: %v", err)
	}
	// A regular file may have a number as its name.
	if fd, ok := descriptor(filepath.Join(dir, "1")); ok {
		t.Errorf("a file is the descriptor %d", fd)
	}
}

func TestOutputToReadOnlyDescriptor(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/dev/fd/%d", file.Fd())
	if _, err := Create(t.Context(), name, nil, false); err == nil || !strings.Contains(err.Error(), name+" is open for reading only") {
		t.Errorf("got error %v", err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}
