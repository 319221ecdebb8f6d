package hub

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// symlink is replaced by tests of file systems without links.
var symlink = os.Symlink

// canLink returns an error if symbolic links are disabled or cannot be made in a
// directory, as on vfat, some network file systems and in some sandboxes. Like
// huggingface_hub, it does not distinguish failures.
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

// isPlaced reports whether the snapshot contains the blob, and whether as a copy
// instead of a link.
func (b *blob) isPlaced() (placed, isCopy bool) {
	if !b.whole(b.placed) {
		return false, false
	}
	if target, err := os.Readlink(b.placed); err == nil {
		return target == b.target(), false
	}
	return true, true
}

// target returns the target of the snapshot's link to the blob.
func (b *blob) target() string {
	up := strings.Repeat("../", 2+strings.Count(b.name, "/"))
	return filepath.Join(up, "blobs", b.etag)
}

// place adds the blob to the snapshot: as a link, or else as a copy. As in
// huggingface_hub, a blob that was just downloaded is moved into the snapshot
// and an older blob is copied.
func (b *blob) place(links bool) error {
	if err := b.makeFolder(); err != nil {
		return err
	}
	switch {
	case links:
		return link(b.target(), b.placed)
	case b.fresh:
		return os.Rename(b.path, b.placed)
	}
	return b.copyTo(b.placed)
}

// copyTo copies the blob. The copy appears when it is complete.
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

// link makes path a symbolic link to target. It makes no temporary link, which a
// killed process would leave in the snapshot.
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
