package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoHash reports that this machine has no hash of a file.
var ErrNoHash = errors.New("its hash is unknown on this machine")

// VerifyFile compares a file of a snapshot with its hash, from the tree of the
// commit or the name of its blob. It compares a copy, as made by cp -rL, with the
// model's blobs. The error describes the difference, or is ErrNoHash.
func (c *Client) VerifyFile(ctx context.Context, s Snapshot, f File) error {
	path := filepath.Join(s.Dir, filepath.FromSlash(f.Name))
	listed := c.readTree(s.Model, s.Commit)[f.Name].hash()
	if f.Blob == "" {
		return c.verifyCopy(ctx, s, path, listed)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	blob := filepath.Join(c.repo(s.Model), "blobs", f.Blob)
	if filepath.Join(filepath.Dir(path), target) != blob {
		return fmt.Errorf("it links to %s, expected %s", target, blob)
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
	err = checkBlob(ctx, blob, cmp.Or(listed, f.Blob))
	if errors.Is(err, errNoHash) {
		return fmt.Errorf("%w: the hub or its mirror named it %q", ErrNoHash, f.Blob)
	}
	return err
}

// verifyCopy checks a file that is not a link.
func (c *Client) verifyCopy(ctx context.Context, s Snapshot, path, listed string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if listed != "" {
		return checkBlob(ctx, path, listed)
	}
	names, err := hashFile(ctx, path, sha256Kind, gitKind, sha1Kind, md5Kind)
	if err != nil {
		return err
	}
	blobs := filepath.Join(c.repo(s.Model), "blobs")
	for _, name := range names {
		if at, err := os.Stat(filepath.Join(blobs, name)); err == nil && at.Size() == info.Size() {
			return nil
		}
	}
	entries, err := os.ReadDir(blobs)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		at, err := os.Stat(filepath.Join(blobs, entry.Name()))
		hashed := sha256Pattern.MatchString(entry.Name()) || sha1Pattern.MatchString(entry.Name())
		if err == nil && hashed && at.Size() == info.Size() {
			return fmt.Errorf("it is a copy, not a link, and differs from %s, which has the same size", entry.Name())
		}
	}
	return fmt.Errorf("%w: it is a copy, not a link, and the cache has no list of the commit's files", ErrNoHash)
}
