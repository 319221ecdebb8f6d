package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNotCached reports that the cache lacks a model or some of its files. It is an
// fs.ErrNotExist.
var ErrNotCached error = notCached{}

type notCached struct{}

func (notCached) Error() string { return "not downloaded yet" }

func (notCached) Is(target error) bool { return target == fs.ErrNotExist }

const (
	modelPrefix = "models--"
	treesDir    = "trees" // in a model's directory; huggingface_hub writes it too
)

func folder(model string) string { return modelPrefix + strings.ReplaceAll(model, "/", "--") }

func (c *Client) repo(model string) string { return filepath.Join(c.cache, folder(model)) }

func (c *Client) snapshotDir(model, commit string) string {
	return filepath.Join(c.repo(model), "snapshots", commit)
}

// Models returns the models that have a directory in the cache, sorted.
func (c *Client) Models() ([]string, error) {
	entries, err := os.ReadDir(c.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cache of the hub: %w", err)
	}
	var models []string
	for _, entry := range entries {
		id, ok := strings.CutPrefix(entry.Name(), modelPrefix)
		ref, err := ParseRef(strings.Replace(id, "--", "/", 1))
		if ok && err == nil { // skips datasets, spaces, and models without an organisation
			models = append(models, ref.Model)
		}
	}
	return models, nil
}

// List returns the snapshots that have all files that a model needs, sorted by
// model, newest first.
func (c *Client) List() ([]Snapshot, error) {
	models, err := c.Models()
	if err != nil {
		return nil, err
	}
	var all []Snapshot
	for _, model := range models {
		commits, err := os.ReadDir(filepath.Join(c.repo(model), "snapshots"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cache of the hub: %w", err)
		}
		found := []Snapshot{}
		for _, commit := range commits {
			if !commitPattern.MatchString(commit.Name()) {
				continue
			}
			if s, err := c.Find(Ref{model, commit.Name()}); err == nil {
				found = append(found, s)
			}
		}
		slices.SortFunc(found, func(a, b Snapshot) int { return b.Modified().Compare(a.Modified()) })
		all = append(all, found...)
	}
	return all, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: too large: more than %d bytes", path, limit)
	}
	return data, err
}
