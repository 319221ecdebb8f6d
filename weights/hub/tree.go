package hub

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// A tree lists the files of a commit with their hashes. huggingface_hub keeps it
// as models--org--name/trees/COMMIT.json. Where a snapshot's files are no links,
// whose names would be the hashes, it is what the files are checked by.
type tree map[string]treeEntry

type treeEntry struct {
	Size    int64  `json:"size"`
	BlobID  string `json:"blob_id"` // of git, which for a large file is that of its pointer
	SHA256  string `json:"lfs_sha256,omitempty"`
	LFSSize int64  `json:"lfs_size,omitempty"`
}

// hash names the bytes of the file, "" if that is not known.
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

// readTree returns the list of a commit's files, nil if there is none that is
// understood.
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

// writeTree keeps the list of a commit's files, if it has the hash of each.
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
