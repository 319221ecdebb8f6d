package cache

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
)

// TestNoRoom expects that a store keeps its entries when the disk takes no more. A limit
// for the size of files stands for the disk: writes fail beyond it.
func TestNoRoom(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := func(size uint64) {
		t.Helper()
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer limit(before.Cur)
	store := Config{Dir: t.TempDir()}
	c := open(t, store)
	put(c, 0, 1000)
	closeCache(t, c)
	var log bytes.Buffer
	store.Logger = zerolog.New(&log)
	c = open(t, store)
	limit(64 << 10)
	put(c, 1000, 10_000)
	closeCache(t, c)
	limit(before.Cur)
	if text := log.String(); strings.Contains(text, "damaged") || strings.Count(text, "cannot be used any more") != 1 {
		t.Errorf("the log: %s", text)
	}
	if n := found(t, open(t, Config{Dir: store.Dir}), 0, 1000); n != 1000 {
		t.Errorf("%d of 1000 entries are left", n)
	}
}

// TestLinks expects a store below a link, as every temporary directory of macOS is, and
// no change to a file that a link in the store's place names.
func TestLinks(t *testing.T) {
	parent := t.TempDir()
	link := filepath.Join(parent, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{link, filepath.Join(link, "made")} {
		put(open(t, Config{Dir: dir}), 0, 10)
		if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
			t.Error(err)
		}
	}
	victim, dir := filepath.Join(parent, "victim"), filepath.Join(parent, "dir")
	err := errors.Join(os.WriteFile(victim, nil, 0o600), os.Chmod(victim, 0o644), os.Mkdir(dir, 0o700), os.Symlink(victim, filepath.Join(dir, fileName)))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Open(Config{MemoryBytes: 1, Dir: dir}); err == nil || !strings.Contains(err.Error(), "choose another directory") {
		t.Errorf("a link in the place of the store: %v, %v", c, err)
	}
	if info, err := os.Stat(victim); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the file that the link names: %v, %v", info.Mode(), err)
	}
}
