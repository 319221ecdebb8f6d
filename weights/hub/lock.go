package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const lockPoll = 50 * time.Millisecond

// lock waits for the lock of that name of a model. By that named by an ETag,
// Python's huggingface_hub guards the making of the blob too: an flock of
// .locks/REPOSITORY/NAME.lock. While another holds it, waiting is called again
// and again. Closing the file frees the lock.
func (c *Client) lock(ctx context.Context, model, name string, waiting func()) (*os.File, error) {
	path := filepath.Join(c.cache, ".locks", folder(model), name+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	for {
		f, err := tryLock(path)
		if f != nil || err != nil {
			return f, err
		}
		waiting()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// tryLock returns nil if another holds the lock.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o664)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // its directory was removed just now
	}
	if err != nil {
		return nil, err
	}
	var held unix.Stat_t
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &held)
	}
	if err == nil && held.Nlink > 0 {
		return f, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil // as when the file was removed and whoever comes next locks another
	}
	if err != nil {
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, errors.Join(err, f.Close())
}
