// Package files finds files by patterns and extracts their texts.
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// A finder collects the files of patterns, each once.
type finder struct {
	fsys    FileSystem
	most    int // files, 0 for any number
	paths   []string
	seen    map[string]bool // by target
	found   int             // files, also found before
	skipped *Skipped
}

// find returns the files that patterns name, in the order of the patterns, and by name
// within each. A pattern is a file, a folder, which stands for all files below it, or
// a glob, in which ** matches folders. Hidden files and folders are found only if a
// pattern has their names. Links to files are followed, and links to folders are not,
// unless a pattern names them.
func (f *finder) find(ctx context.Context, patterns []string) ([]string, error) {
	f.seen = make(map[string]bool)
	for _, pattern := range patterns {
		before := f.found
		if err := f.add(ctx, pattern); err != nil {
			return nil, err
		}
		if f.found == before && f.skipped.Unreadable == 0 {
			return nil, fmt.Errorf("no file matches %q; quote a pattern with * so that the shell leaves it alone", pattern)
		}
	}
	return f.paths, nil
}

func (f *finder) add(ctx context.Context, pattern string) error {
	if pattern == "" {
		return errors.New("the name of a file is empty")
	}
	info, err := f.fsys.Stat(pattern)
	switch {
	case err == nil && info.IsDir():
		return f.walk(ctx, pattern, "**")
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file (mode %v)", pattern, info.Mode())
	case err == nil:
		return f.addFile(pattern)
	case !errors.Is(err, fs.ErrNotExist) || !strings.ContainsAny(pattern, "*?[{"):
		return err
	}
	if !doublestar.ValidatePathPattern(pattern) {
		return fmt.Errorf("malformed pattern %q; [ and { need their ends, and \\ quotes them", pattern)
	}
	base, rest := doublestar.SplitPattern(filepath.ToSlash(pattern))
	if _, err := f.fsys.Stat(base); err != nil {
		return fmt.Errorf("no file matches %q: %w", pattern, err)
	}
	return f.walk(ctx, base, rest)
}

func (f *finder) addFile(path string) error {
	f.found++
	path = filepath.Clean(path)
	key := target(path)
	switch {
	case f.seen[key]:
		return nil
	case f.most > 0 && len(f.paths) == f.most:
		return fmt.Errorf("more than %d files match (limit %d); name fewer files, or a narrower folder or pattern", f.most, f.most)
	}
	f.seen[key], f.paths = true, append(f.paths, path)
	return nil
}

// target returns the path of a file without links, or path if it cannot be resolved.
// It only distinguishes files: nothing is opened by it.
func target(path string) string {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return path
	}
	return resolved
}

// walk adds the files below base whose paths from there match pattern.
func (f *finder) walk(ctx context.Context, base, pattern string) error {
	hidden := strings.HasPrefix(pattern, ".") || strings.Contains(pattern, "/.")
	return fs.WalkDir(f.fsys, base, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			f.skipped.unreadable(path, err)
			return nil
		}
		if path == base {
			return nil
		}
		rel, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(entry.Name(), ".") && !hidden {
			f.skipped.Hidden++
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		match, err := doublestar.PathMatch(pattern, rel)
		if err != nil || !match {
			return err
		}
		info, err := f.fsys.Stat(path) // of the target of a link
		switch {
		case err != nil:
			f.skipped.unreadable(path, err)
		case info.Mode().IsRegular():
			return f.addFile(path)
		}
		return nil
	})
}
