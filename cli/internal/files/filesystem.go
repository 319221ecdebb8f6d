package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A FileSystem is where files are found and read. Names are paths of the operating
// system, not the slashed paths that fs.ValidPath accepts.
type FileSystem interface {
	fs.StatFS
	fs.ReadDirFS
}

// System is the whole file system of the operating system.
var System FileSystem = system{}

type system struct{}

// readOnly opens for reading. A named pipe that took the place of a file does not
// block.
const readOnly = os.O_RDONLY | unix.O_NONBLOCK

func (system) Open(name string) (fs.File, error)          { return opened(os.OpenFile(name, readOnly, 0)) }
func (system) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (system) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// opened returns a nil interface for a nil file.
func opened(file *os.File, err error) (fs.File, error) {
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Roots is the file system of some folders. Neither ".." nor a link leads out of them:
// the operating system resolves each name below the open folder. A link with an
// absolute target is not followed.
type Roots struct {
	list []root
}

type root struct {
	dir   *os.Root
	paths []string // of the folder, as given and without links
}

// OpenRoots opens the folders.
func OpenRoots(paths []string) (_ *Roots, err error) {
	r := &Roots{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, err
		}
		dir, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		r.list = append(r.list, root{dir, slices.Compact([]string{path, resolved})})
	}
	return r, nil
}

// Close closes the folders.
func (r *Roots) Close() error {
	var errs []error
	for _, root := range r.list {
		errs = append(errs, root.dir.Close())
	}
	return errors.Join(errs...)
}

// Paths lists the absolute paths of the folders.
func (r *Roots) Paths() []string {
	paths := make([]string, len(r.list))
	for i, root := range r.list {
		paths[i] = root.paths[0]
	}
	return paths
}

// Resolve returns the absolute path of a file, a folder or a pattern. A relative one is
// below the only root.
func (r *Roots) Resolve(pattern string) (string, error) {
	if pattern == "" {
		return "", errors.New("a path is empty; give a file, a folder or a pattern")
	}
	if !filepath.IsAbs(pattern) {
		if len(r.list) != 1 {
			return "", fmt.Errorf("%q is relative, and there are %d roots; give an absolute path below one of %s", pattern, len(r.list), strings.Join(r.Paths(), ", "))
		}
		pattern = filepath.Join(r.list[0].paths[0], pattern)
	}
	pattern = filepath.Clean(pattern)
	_, _, err := r.locate(pattern)
	return pattern, err
}

// locate returns the root that a path is below, and the path from there.
func (r *Roots) locate(path string) (*os.Root, string, error) {
	for _, root := range r.list {
		for _, base := range root.paths {
			if rel, err := filepath.Rel(base, path); err == nil && filepath.IsLocal(rel) {
				return root.dir, rel, nil
			}
		}
	}
	return nil, "", fmt.Errorf("%q is outside the roots; give a path below %s", path, strings.Join(r.Paths(), ", "))
}

// Open opens a file of a root for reading.
func (r *Roots) Open(name string) (fs.File, error) {
	dir, rel, err := r.locate(name)
	if err != nil {
		return nil, err
	}
	file, err := opened(dir.OpenFile(rel, readOnly, 0))
	return file, named(err, "open", name)
}

// named returns an error with the name by which a caller knows the file.
func named(err error, op, name string) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return &fs.PathError{Op: op, Path: name, Err: p.Err}
	}
	return err
}

// Stat describes a file of a root, or the target of a link that stays in the root.
func (r *Roots) Stat(name string) (fs.FileInfo, error) {
	dir, rel, err := r.locate(name)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat(rel)
	return info, named(err, "find", name)
}

// ReadDir lists a folder of a root by name.
func (r *Roots) ReadDir(name string) (_ []fs.DirEntry, err error) {
	dir, rel, err := r.locate(name)
	if err != nil {
		return nil, err
	}
	folder, err := dir.OpenFile(rel, readOnly|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, named(err, "open", name)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	entries, err := folder.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}
