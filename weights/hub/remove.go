package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Removed describes what Remove removed, or would remove.
type Removed struct {
	Commit    string   // "" if there were parts of a download and no snapshot
	Revisions []string // branches and tags that pointed to Commit
	Blobs     int
	Copies    int // files of the snapshot that are not links to blobs
	Bytes     int64
	Kept      int  // blobs that other snapshots link to
	All       bool // no file of the model is left
}

// Remove removes the snapshot of ref, the refs to it, and the blobs that no other
// snapshot of the model links to. With the last snapshot, it removes all files of
// the model. It never follows links out of the model's directories.
func (c *Client) Remove(ref Ref) (Removed, error) { return c.remove(ref, false) }

// Removal returns what Remove would remove. It removes nothing.
func (c *Client) Removal(ref Ref) (Removed, error) { return c.remove(ref, true) }

func (c *Client) remove(ref Ref, dry bool) (_ Removed, err error) {
	cache, err := os.OpenRoot(c.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return Removed{}, fmt.Errorf("%w: there is no %s", ErrNotCached, c.cache)
	}
	if err != nil {
		return Removed{}, err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	info, err := cache.Lstat(folder(ref.Model))
	if errors.Is(err, fs.ErrNotExist) {
		return Removed{}, fmt.Errorf("%w: %s is not in %s", ErrNotCached, ref.Model, c.cache)
	}
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory: remove it by hand", c.repo(ref.Model))
	}
	if err != nil {
		return Removed{}, err
	}
	r := &remover{dry: dry}
	if r.repo, err = cache.OpenRoot(folder(ref.Model)); err != nil {
		return Removed{}, err
	}
	defer func() { err = errors.Join(err, r.repo.Close()) }()
	s, err := c.Lookup(ref)
	if err != nil {
		if others, lerr := r.snapshots(); lerr != nil || len(others) > 0 || !errors.Is(err, ErrNotCached) {
			return Removed{}, errors.Join(err, lerr)
		}
	}
	if err := r.snapshot(s); err != nil {
		return r.Removed, err
	}
	if !r.All || dry {
		return r.Removed, nil
	}
	return r.Removed, errors.Join(cache.RemoveAll(folder(ref.Model)), cache.RemoveAll(path.Join(".locks", folder(ref.Model))))
}

// A remover removes files in the directory of one model.
type remover struct {
	Removed
	repo *os.Root
	dry  bool // remove nothing
}

// snapshot removes s and the blobs that only s links to.
func (r *remover) snapshot(s Snapshot) error {
	r.Commit, r.Revisions = s.Commit, s.Revisions
	others, err := r.snapshots()
	if err != nil {
		return err
	}
	others = slices.DeleteFunc(others, func(commit string) bool { return commit == s.Commit })
	r.All = len(others) == 0
	keep := map[string]bool{}
	for _, commit := range others {
		if err := r.links(commit, keep); err != nil {
			return err
		}
	}
	drop := map[string]bool{}
	if s.Commit != "" {
		if err := r.links(s.Commit, drop); err != nil {
			return err
		}
	}
	if r.All {
		if err := r.allBlobs(drop); err != nil {
			return err
		}
	}
	// Refs first, blobs last: an interruption leaves no ref to a snapshot without
	// blobs.
	for _, revision := range s.Revisions {
		if err := r.remove(path.Join("refs", revision)); err != nil {
			return err
		}
	}
	if s.Commit != "" {
		r.countCopies(s)
		if err := r.remove(path.Join("snapshots", s.Commit)); err != nil {
			return err
		}
		if err := r.remove(path.Join(treesDir, s.Commit+".json")); err != nil {
			return err
		}
	}
	return r.blobs(drop, keep)
}

// remove removes a path in the model's directory and everything below it.
func (r *remover) remove(name string) error {
	if r.dry {
		return nil
	}
	return r.repo.RemoveAll(name)
}

// countCopies counts the files of s that are not links to blobs.
func (r *remover) countCopies(s Snapshot) {
	for _, f := range s.Files {
		if f.Blob == "" {
			r.Copies++
			r.Bytes += f.Size
		}
	}
}

// snapshots returns the commits of the model in the cache.
func (r *remover) snapshots() ([]string, error) {
	entries, err := fs.ReadDir(r.repo.FS(), "snapshots")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var commits []string
	for _, entry := range entries {
		if commitPattern.MatchString(entry.Name()) {
			commits = append(commits, entry.Name())
		}
	}
	return commits, err
}

// links adds to a set the names of the blobs that a snapshot links to.
func (r *remover) links(commit string, to map[string]bool) error {
	root := path.Join("snapshots", commit)
	return fs.WalkDir(r.repo.FS(), root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := r.repo.Readlink(name)
		if err != nil {
			return err
		}
		if dir, blob := path.Split(path.Join(path.Dir(name), filepath.ToSlash(target))); dir == "blobs/" {
			to[blob] = true
		}
		return nil
	})
}

// allBlobs adds to a set the names of all blobs, including incomplete ones.
func (r *remover) allBlobs(to map[string]bool) error {
	entries, err := fs.ReadDir(r.repo.FS(), "blobs")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		to[entry.Name()] = true
	}
	return err
}

// blobs removes the blobs in drop that are not in keep.
func (r *remover) blobs(drop, keep map[string]bool) error {
	for blob := range drop {
		if keep[blob] {
			r.Kept++
			continue
		}
		name := path.Join("blobs", blob)
		info, err := r.repo.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = r.remove(name)
		}
		if err != nil {
			return err
		}
		if !strings.HasSuffix(blob, incomplete) {
			r.Blobs++
		}
		if info.Mode().IsRegular() { // removing a link to a shared store frees nothing
			r.Bytes += info.Size()
		}
	}
	return nil
}
