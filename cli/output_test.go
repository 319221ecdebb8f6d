package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newOutput starts an output with some text in it.
func newOutput(t *testing.T, path string) *output {
	t.Helper()
	o, err := createOutput(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	return o
}

// checkDir checks that dir holds the named files with these contents, and
// nothing else.
func checkDir(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := want[entry.Name()]; !ok {
			t.Errorf("%s was left in the directory", entry.Name())
		}
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
			t.Errorf("%s: got %.200q, %v, want %.200q", name, got, err, text)
		}
	}
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOutputCommit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	o := newOutput(t, path)
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is there before commit")
	}
	if err := o.commit(); err != nil {
		t.Fatal(err)
	}
	if err := o.discard(); err != nil {
		t.Errorf("discard after commit: %v", err)
	}
	checkDir(t, dir, map[string]string{"out": "new"})
}

func TestOutputReplacesFile(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "out"), "old")
	if err := os.Chmod(path, 0o646); err != nil { // a mode no umask gives
		t.Fatal(err)
	}
	o := newOutput(t, path)
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("before commit: got %q, %v, want %q", got, err, "old")
	}
	if err := o.commit(); err != nil {
		t.Fatal(err)
	}
	checkDir(t, dir, map[string]string{"out": "new"})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o646 {
		t.Errorf("mode %v, %v, want 0646", info.Mode(), err)
	}
}

func TestOutputDiscard(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "out"), "old")
	o := newOutput(t, path)
	if err := o.discard(); err != nil {
		t.Fatal(err)
	}
	checkDir(t, dir, map[string]string{"out": "old"})
}

func TestOutputThroughLink(t *testing.T) {
	dir := t.TempDir()
	target := writeFile(t, filepath.Join(dir, "target"), "old")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := newOutput(t, link).commit(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	checkDir(t, dir, map[string]string{"target": "new", "link": "new"})
}

func TestOutputToDevice(t *testing.T) {
	o := newOutput(t, os.DevNull)
	if !o.streamed() {
		t.Error("a device is not written directly")
	}
	if err := o.commit(); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(os.DevNull)
	if err != nil || info.Mode().IsRegular() {
		t.Errorf("%s became a regular file: %v", os.DevNull, err)
	}
}

func TestOutputToStdout(t *testing.T) {
	var stdout bytes.Buffer
	o, err := createOutput("-", &stdout)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if err := o.commit(); err != nil {
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
		writeFile(t, filepath.Join(dir, "file"), "") + "/out": "not a directory",
	} {
		if _, err := createOutput(path, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got error %v, want one with the path and %q", path, err, want)
		}
	}
	checkDir(t, dir, map[string]string{"file": ""})
}
