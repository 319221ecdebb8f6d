package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

const (
	lockPoll     = 50 * time.Millisecond
	lockPatience = 10 * time.Second // until a warning about the wait

	// markerAge is the age from which on a lock file without a holder counts as
	// abandoned. A younger file may still be being written.
	markerAge = 10 * time.Minute
)

// tryFlock is replaced by tests of file systems without locks.
var tryFlock = (*flock.Flock).TryLock

// lock waits for a lock of a model and calls waiting at intervals meanwhile. The
// lock is an flock of .locks/REPOSITORY/NAME.lock, or, if the file system has no
// flock, the existence of that file. Python's huggingface_hub takes the same
// lock, with the ETag as its name, while it downloads a blob. Closing the lock
// releases it.
func (c *Client) lock(ctx context.Context, model, name string, waiting func()) (io.Closer, error) {
	path := c.lockPath(model, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	for {
		lock, err := tryLock(path)
		if lock != nil || err != nil {
			return lock, err
		}
		waiting()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

func (c *Client) lockPath(model, name string) string {
	return filepath.Join(c.cache, ".locks", folder(model), name+".lock")
}

// tryLock returns nil if another process holds the lock.
func tryLock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o664)
	made := err == nil
	if errors.Is(err, os.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // another process has removed it or its directory
	}
	if err != nil {
		return nil, err
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDWR))
	locked, err := tryFlock(lock)
	switch {
	case hasNoFlock(err) && made:
		return mark(f)
	case hasNoFlock(err):
		err = dropStale(f)
	case errors.Is(err, os.ErrNotExist):
		err = nil
	case locked:
		var current bool
		if current, err = isCurrent(lock); current {
			return lock, f.Close()
		}
	}
	if err != nil {
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, errors.Join(err, lock.Close(), f.Close())
}

// isCurrent reports whether the locked file is still at its path. If another
// process removed it, the next process locks a new file.
func isCurrent(lock *flock.Flock) (bool, error) {
	held, err := lock.Stat()
	if err != nil {
		return false, err
	}
	at, err := os.Lstat(lock.Path())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(held, at), err
}

// hasNoFlock reports whether an error of flock means that the file system does not
// support it, like some network and user-space file systems.
func hasNoFlock(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTSUP)
}

// A marker is a lock that is held as long as its file exists. The file names the
// holder. Python's filelock package calls it SoftFileLock.
type marker struct{ file *os.File }

// mark turns a new file into a marker.
func mark(f *os.File) (io.Closer, error) {
	m := &marker{f}
	if _, err := fmt.Fprintf(f, "%d\n%s\n", os.Getpid(), hostName()); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close removes the file unless another file has replaced it.
func (m *marker) Close() error {
	err := removeSame(m.file)
	return errors.Join(err, m.file.Close())
}

// removeSame removes the path of an open file if the path still leads to the file.
func removeSame(f *os.File) error {
	own, err := f.Stat()
	if err != nil {
		return err
	}
	at, err := os.Lstat(f.Name())
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(own, at) {
		return nil
	}
	if err == nil {
		err = os.Remove(f.Name())
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// dropStale removes the marker of a process on this machine that has ended, and an
// old marker that names no process.
func dropStale(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return err
	}
	pid, host, ok := parseMarker(string(data))
	switch {
	case ok && (host != hostName() || isAlive(pid)):
		return nil
	case !ok && time.Since(info.ModTime()) < markerAge:
		return nil
	}
	return removeSame(f)
}

// parseMarker parses a process, its machine and an optional third line, the start
// time, which is ignored.
func parseMarker(text string) (pid int, host string, ok bool) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if !strings.HasSuffix(text, "\n") || len(lines) < 2 || len(lines) > 3 {
		return 0, "", false
	}
	pid, err := strconv.Atoi(lines[0])
	return pid, lines[1], err == nil && pid > 0
}

func isAlive(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// hostName returns the name of this machine as filelock writes it. The number of
// the process namespace is added if it is not the first, because containers may
// share a host name without sharing processes.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		if c > ' ' && c <= '~' && c != '?' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "?%02x", c)
		}
	}
	const first = 0xEFFFFFFC // inode of the initial namespace on Linux
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err == nil && st.Ino != first {
		fmt.Fprintf(&b, "?pidns-%x", st.Ino)
	}
	if b.Len() == 0 {
		return "?"
	}
	return b.String()
}
