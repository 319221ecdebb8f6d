package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"old", "new and longer", ""} {
		if err := Write(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		checkFile(t, path, text)
	}
	umask := syscall.Umask(0)
	syscall.Umask(umask)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640&^os.FileMode(umask) {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	checkOnly(t, dir, "file")
}

func TestWriteReplacesLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, path := filepath.Join(dir, "target"), filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(target, []byte("target"), 0o600), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkFile(t, target, "target")
	checkFile(t, path, "new")
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v: want a regular file", info.Mode(), err)
	}
}

// TestWriteAtOnce checks that readers see one complete version while several
// writers run.
func TestWriteAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	versions := map[string]bool{}
	var writers sync.WaitGroup
	for i := range 4 {
		data := make([]byte, 50_000)
		for j := range data {
			data[j] = byte('a' + i)
		}
		versions[string(data)] = true
		if err := Write(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			for range 10 {
				if err := Write(path, data, 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 200 {
		if data, err := os.ReadFile(path); err != nil || !versions[string(data)] {
			t.Errorf("%d bytes, %v: not a complete version", len(data), err)
		}
	}
	writers.Wait()
	checkOnly(t, dir, "file")
}

// TestWriteViaLeftover checks that a link at the temporary path is not followed.
func TestWriteViaLeftover(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, temp, path := filepath.Join(dir, "other"), filepath.Join(dir, "temp"), filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(other, []byte("other"), 0o600), os.Symlink(other, temp)); err != nil {
		t.Fatal(err)
	}
	err := WriteVia(temp, path, 0o600, func(f *os.File) error {
		_, err := f.WriteString("new")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, other, "other")
	checkFile(t, path, "new")
	checkOnly(t, dir, "file", "other")
}

func TestWriteViaFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := WriteVia(filepath.Join(dir, "temp"), path, 0o600, func(f *os.File) error {
		_, err := f.WriteString("half")
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	checkFile(t, path, "old")
	checkOnly(t, dir, "file")
	if err := Write(filepath.Join(dir, "missing", "file"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a missing folder: %v", err)
	}
}

func checkFile(t *testing.T, path, want string) {
	t.Helper()
	if data, err := os.ReadFile(path); err != nil || string(data) != want {
		t.Errorf("%s holds %q, %v; want %q", path, data, err, want)
	}
}

func checkOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Fatalf("%v, %v, want %v", entries, err, want)
	}
	for i, entry := range entries {
		if entry.Name() != want[i] {
			t.Errorf("entry %s, want %s", entry.Name(), want[i])
		}
	}
}
