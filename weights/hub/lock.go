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
	lockPatience = 10 * time.Second // before the user is told what is waited for

	// markerAge is when a lock file that does not say who holds it counts as
	// left behind: at once it may be one that is just being written.
	markerAge = 10 * time.Minute
)

// tryFlock is replaced by tests of file systems without locks.
var tryFlock = (*flock.Flock).TryLock

// lock waits for the lock of that name of a model. By that named by an ETag,
// Python's huggingface_hub guards the making of the blob too: an flock of
// .locks/REPOSITORY/NAME.lock, or, where there is no flock, the existence of
// that file. While another holds it, waiting is called again and again. Closing
// the lock frees it.
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

// tryLock returns nil if another holds the lock.
func tryLock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o664)
	made := err == nil
	if errors.Is(err, os.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // it, or its directory, was removed just now
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

// hasNoFlock reports whether an error of flock says that the file system has
// none, as some network and user-space file systems do.
func hasNoFlock(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTSUP)
}

// A marker is a lock that is held as long as its file exists, which names the
// holder. It is the SoftFileLock of the filelock package of Python.
type marker struct{ file *os.File }

// mark makes a file that was just made a marker.
func mark(f *os.File) (io.Closer, error) {
	m := &marker{f}
	if _, err := fmt.Fprintf(f, "%d\n%s\n", os.Getpid(), hostName()); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close removes the file, unless another has taken its place.
func (m *marker) Close() error {
	err := removeSame(m.file)
	return errors.Join(err, m.file.Close())
}

// removeSame removes the path of an open file if that file is still there.
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

// dropStale removes the marker of a process of this machine that has ended, and
// an old one that names no process.
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

// parseMarker reads a process, its machine and, in a third line that is not
// used, when it began.
func parseMarker(text string) (pid int, host string, ok bool) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if !strings.HasSuffix(text, "\n") || len(lines) < 2 || len(lines) > 3 {
		return 0, "", false
	}
	pid, err := strconv.Atoi(lines[0])
	return pid, lines[1], err == nil && pid > 0
}

func isAlive(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// hostName is the name of this machine as filelock writes it: with the number of
// the process namespace, where it is not the first, since containers may share a
// name and not their processes.
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
	const first = 0xEFFFFFFC // Linux's own
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err == nil && st.Ino != first {
		fmt.Fprintf(&b, "?pidns-%x", st.Ino)
	}
	if b.Len() == 0 {
		return "?"
	}
	return b.String()
}
