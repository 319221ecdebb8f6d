package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Files of a repository. The first two are required, and one of the others.
const (
	configFile    = "config.json"
	tokenizerFile = "tokenizer.json"
	weightsFile   = "model.safetensors"
	indexFile     = "model.safetensors.index.json"
)

// optionalFiles lists the files that are downloaded if the repository has them.
var optionalFiles = []string{
	"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.txt",
	modulesFile, sentenceConfigFile, "sentence_bert_config.json", "sentence_roberta_config.json",
	"sentence_distilbert_config.json", "sentence_camembert_config.json", "sentence_albert_config.json",
	"sentence_xlm-roberta_config.json", "sentence_xlnet_config.json",
}

// A Snapshot describes the files of a model in the cache at one commit.
type Snapshot struct {
	Model     string   // org/name
	Commit    string   // 40 hexadecimal digits
	Revisions []string // branches and tags that pointed to Commit at the last pull
	Dir       string
	Files     []File // sorted by name
}

// A File describes a file of a snapshot.
type File struct {
	Name     string // slash-separated, below the snapshot's directory
	Blob     string // the blob that it links to, "" for a copy
	Size     int64
	Modified time.Time
}

// Size returns the bytes of the files of s. A blob that is linked twice counts once.
func (s Snapshot) Size() int64 {
	var sum int64
	seen := map[string]bool{}
	for _, f := range s.Files {
		if f.Blob == "" || !seen[f.Blob] {
			sum += f.Size
		}
		seen[f.Blob] = true
	}
	return sum
}

// Modified returns the time when the newest file of s was written.
func (s Snapshot) Modified() time.Time {
	var newest time.Time
	for _, f := range s.Files {
		if f.Modified.After(newest) {
			newest = f.Modified
		}
	}
	return newest
}

// Find returns the snapshot of ref if the cache holds all files that a model
// needs, or else ErrNotCached. It never makes a connection.
func (c *Client) Find(ref Ref) (Snapshot, error) {
	s, err := c.Lookup(ref)
	if err != nil {
		return s, err
	}
	if lacking := missing(s.Dir); lacking != "" {
		return s, fmt.Errorf("%w: %s lacks %s", ErrNotCached, s.Dir, lacking)
	}
	return s, nil
}

// Lookup returns the snapshot of ref even if files are missing.
func (c *Client) Lookup(ref Ref) (Snapshot, error) {
	commit, err := c.findCommit(ref)
	if err != nil {
		return Snapshot{}, err
	}
	s, err := c.readSnapshot(ref.Model, commit)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%w: %s is not in %s", ErrNotCached, ref, c.cache)
	}
	return s, err
}

// findCommit returns the commit of a revision at the last pull.
func (c *Client) findCommit(ref Ref) (string, error) {
	if commitPattern.MatchString(ref.Revision) {
		return ref.Revision, nil
	}
	path := filepath.Join(c.repo(ref.Model), "refs", filepath.FromSlash(ref.Revision))
	if info, err := os.Stat(path); err == nil && info.IsDir() { // the parent of other refs
		return "", fmt.Errorf("%w: %s is not in %s", ErrNotCached, ref, c.cache)
	}
	commit, err := readCommit(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s is not in %s", ErrNotCached, ref, c.cache)
	}
	return commit, err
}

func readCommit(path string) (string, error) {
	data, err := readBounded(path, 1<<10)
	if err != nil {
		return "", err
	}
	commit := strings.TrimSpace(string(data))
	if !commitPattern.MatchString(commit) {
		return "", fmt.Errorf("%s does not hold a commit: remove the file and pull the model again", path)
	}
	return commit, nil
}

// readSnapshot lists the files of a snapshot's directory.
func (c *Client) readSnapshot(model, commit string) (Snapshot, error) {
	s := Snapshot{Model: model, Commit: commit, Dir: c.snapshotDir(model, commit)}
	var err error
	if s.Revisions, err = c.revisionsAt(model, commit); err != nil {
		return s, err
	}
	err = filepath.WalkDir(s.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file := File{}
		if entry.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			file.Blob = filepath.Base(target)
		}
		name, err := filepath.Rel(s.Dir, path)
		if err != nil {
			return err
		}
		file.Name = filepath.ToSlash(name)
		if info, err := os.Stat(path); err == nil { // a dangling link has size 0
			file.Size, file.Modified = info.Size(), info.ModTime()
		}
		s.Files = append(s.Files, file)
		return nil
	})
	return s, err
}

// revisionsAt returns the refs to a commit, sorted.
func (c *Client) revisionsAt(model, commit string) ([]string, error) {
	root := filepath.Join(c.repo(model), "refs")
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if at, err := readCommit(path); err != nil || at != commit {
			return nil //nolint:nilerr // not a ref, such as .DS_Store
		}
		name, err := filepath.Rel(root, path)
		found = append(found, filepath.ToSlash(name))
		return err
	})
	return found, err
}

// missing returns the first required file that a model directory lacks, "" for none.
func missing(dir string) string {
	lacks := func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err != nil || !info.Mode().IsRegular()
	}
	for _, name := range []string{configFile, tokenizerFile} {
		if lacks(name) {
			return name
		}
	}
	if name := missingModuleFile(dir, lacks); name != "" {
		return name
	}
	if !lacks(weightsFile) {
		return ""
	}
	index, err := readBounded(filepath.Join(dir, indexFile), maxIndex)
	if err != nil {
		return weightsFile
	}
	shards, err := parseIndex(index)
	if err != nil {
		return indexFile
	}
	for _, name := range shards {
		if lacks(name) {
			return name
		}
	}
	return ""
}
