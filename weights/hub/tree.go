package hub

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// A tree maps the files of a commit to their hashes. huggingface_hub stores it as
// models--org--name/trees/COMMIT.json. If a snapshot has copies instead of links,
// whose targets contain the hashes, the files are checked against the tree.
type tree map[string]treeEntry

type treeEntry struct {
	Size    int64  `json:"size"`
	BlobID  string `json:"blob_id"` // git blob id; of the LFS pointer for a large file
	SHA256  string `json:"lfs_sha256,omitempty"`
	LFSSize int64  `json:"lfs_size,omitempty"`
}

// hash returns the hash of the file, "" if it is unknown.
func (e treeEntry) hash() string {
	switch {
	case e.SHA256 != "" && sha256Pattern.MatchString(e.SHA256):
		return e.SHA256
	case e.SHA256 == "" && sha1Pattern.MatchString(e.BlobID):
		return e.BlobID
	}
	return ""
}

const treeFormat = 1

type treeJSON struct {
	Version int  `json:"format_version"`
	Files   tree `json:"files"`
}

func (c *Client) treePath(model, commit string) string {
	return filepath.Join(c.repo(model), treesDir, commit+".json")
}

// readTree returns the tree of a commit, nil if there is none in a known format.
func (c *Client) readTree(model, commit string) tree {
	data, err := readBounded(c.treePath(model, commit), maxInfo)
	if err != nil {
		return nil
	}
	var t treeJSON
	if json.Unmarshal(data, &t) != nil || t.Version != treeFormat {
		return nil
	}
	return t.Files
}

// writeTree stores the tree of a commit if every file has a hash.
func (c *Client) writeTree(model, commit string, files tree) error {
	for _, entry := range files {
		if entry.hash() == "" {
			return nil
		}
	}
	data, err := json.MarshalIndent(treeJSON{treeFormat, files}, "", " ")
	if err != nil {
		return err
	}
	path := c.treePath(model, commit)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return atomicfile.Write(path, data, 0o644)
}
