// Package files finds files by patterns and extracts their texts.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// A finder collects the files of patterns, each once.
type finder struct {
	paths   []string
	seen    map[string]bool // by target
	found   int             // files, also found before
	skipped *Skipped
}

// find returns the files that patterns name, in the order of the patterns, and by name
// within each. A pattern is a file, a folder, which stands for all files below it, or
// a glob, in which ** matches folders. Hidden files and folders are found only if a
// pattern has their names. Links to files are followed, and links to folders are not.
func find(patterns []string, skipped *Skipped) ([]string, error) {
	f := &finder{seen: make(map[string]bool), skipped: skipped}
	for _, pattern := range patterns {
		before := f.found
		if err := f.add(pattern); err != nil {
			return nil, err
		}
		if f.found == before && f.skipped.Unreadable == 0 {
			return nil, fmt.Errorf("no file matches %q; quote a pattern with * so that the shell leaves it alone", pattern)
		}
	}
	return f.paths, nil
}

func (f *finder) add(pattern string) error {
	if pattern == "" {
		return errors.New("the name of a file is empty")
	}
	info, err := os.Stat(pattern)
	switch {
	case err == nil && info.IsDir():
		return f.walk(pattern, "**")
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file (mode %v)", pattern, info.Mode())
	case err == nil:
		f.addFile(pattern)
		return nil
	case !errors.Is(err, fs.ErrNotExist) || !strings.ContainsAny(pattern, "*?[{"):
		return err
	}
	if !doublestar.ValidatePathPattern(pattern) {
		return fmt.Errorf("malformed pattern %q; [ and { need their ends, and \\ quotes them", pattern)
	}
	base, rest := doublestar.SplitPattern(filepath.ToSlash(pattern))
	if _, err := os.Stat(base); err != nil {
		return fmt.Errorf("no file matches %q: %w", pattern, err)
	}
	return f.walk(base, rest)
}

func (f *finder) addFile(path string) {
	f.found++
	path = filepath.Clean(path)
	if key := target(path); !f.seen[key] {
		f.seen[key], f.paths = true, append(f.paths, path)
	}
}

// target returns the path of a file without links, or path if it cannot be resolved.
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
func (f *finder) walk(base, pattern string) error {
	hidden := strings.HasPrefix(pattern, ".") || strings.Contains(pattern, "/.")
	return filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
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
		info, err := os.Stat(path) // of the target of a link
		switch {
		case err != nil:
			f.skipped.unreadable(path, err)
		case info.Mode().IsRegular():
			f.addFile(path)
		}
		return nil
	})
}
