package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// VerifyFile compares a file of a snapshot with the hash that names its blob.
// The error says what is off.
func (c *Client) VerifyFile(ctx context.Context, s Snapshot, f File) error {
	if f.Blob == "" {
		return errors.New("it is a file of its own and no link to a blob, so that its hash is not known")
	}
	path := filepath.Join(s.Dir, filepath.FromSlash(f.Name))
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	blob := filepath.Join(c.repo(s.Model), "blobs", f.Blob)
	if filepath.Join(filepath.Dir(path), target) != blob {
		return fmt.Errorf("it links to %s, expected %s", target, blob)
	}
	if !checkable(f.Blob) {
		return fmt.Errorf("its blob is named %q, expected a SHA-256 or a git blob id", f.Blob)
	}
	info, err := os.Stat(blob)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("its blob %s is missing", f.Blob)
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("its blob %s is not a regular file", f.Blob)
	}
	return checkBlob(ctx, blob, f.Blob)
}
