package hub

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// symlink is os.Symlink but in tests, where a file system refuses.
var symlink = os.Symlink

// canLink reports whether symbolic links can be made in a directory and are
// wanted: not by vfat, not by some network file systems and sandboxes. Like
// huggingface_hub it takes any failure for an answer.
func canLink(dir string) error {
	if isTrue(os.Getenv("HF_HUB_DISABLE_SYMLINKS")) {
		return errLinksDisabled
	}
	probe := filepath.Join(dir, fmt.Sprintf("link%d.tmp", os.Getpid()))
	if err := symlink("nothing", probe); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Remove(probe)
}

var errLinksDisabled = errors.New("HF_HUB_DISABLE_SYMLINKS is set")

// isPlaced reports whether the blob is visible in the snapshot, and whether by a
// file of its own.
func (b *blob) isPlaced() (placed, own bool) {
	if !b.whole(b.placed) {
		return false, false
	}
	if target, err := os.Readlink(b.placed); err == nil {
		return target == b.target(), false
	}
	return true, true
}

// target is what the snapshot's link to the blob holds.
func (b *blob) target() string { return filepath.Join("..", "..", "blobs", b.etag) }

// place makes a blob visible in the snapshot: by a link, or, where there can be
// none, by the bytes themselves. As with huggingface_hub, a blob that was just
// downloaded moves to the snapshot and one that was there before is copied.
func (b *blob) place(links bool) error {
	switch {
	case links:
		return link(b.target(), b.placed)
	case b.fresh:
		return os.Rename(b.path, b.placed)
	}
	return b.copyTo(b.placed)
}

// copyTo makes a copy of the blob, which appears when it is complete.
func (b *blob) copyTo(path string) (err error) {
	from, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	temp := fmt.Sprintf("%s.copy%d%s", b.path, os.Getpid(), incomplete)
	return atomicfile.WriteVia(temp, path, 0o666, func(to *os.File) error {
		_, err := io.Copy(to, from)
		return err
	})
}

// link makes path a symbolic link to target. It appears at once, without a
// temporary one beside it that a killed process would leave in the snapshot.
func link(target, path string) error {
	for {
		err := symlink(target, path)
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		if at, err := os.Readlink(path); err == nil && at == target {
			return nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}
