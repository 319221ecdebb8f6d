package weights

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A Fingerprint identifies the files of a model. It maps the path of each file to
// the hash of a JSON file, or to the size, time and inode of a file of tensors.
type Fingerprint map[string]string

// Difference returns the path of a file that differs between f and other, "" for none.
func (f Fingerprint) Difference(other Fingerprint) string {
	all := Fingerprint{}
	maps.Copy(all, other)
	maps.Copy(all, f)
	for _, path := range sortedKeys(all) {
		if other[path] != f[path] {
			return path
		}
	}
	return ""
}

// fingerprint identifies the files in the directories of the model and its adapter.
func (m *Model) fingerprint() (Fingerprint, error) {
	f := Fingerprint{}
	dirs := []string{m.Dir}
	if m.Adapter != "" && m.Adapter != Builtin {
		dirs = append(dirs, m.Adapter)
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if isModelFile(entry.Name()) {
				path := filepath.Join(dir, entry.Name())
				f[path] = identify(path)
			}
		}
	}
	return f, nil
}

func isModelFile(name string) bool {
	switch filepath.Ext(name) {
	case ".safetensors":
		return true
	case ".json":
		return name == indexFile || strings.Contains(name, "config") || strings.Contains(name, "token") || strings.Contains(name, "modules")
	}
	return false
}

// identify returns the identity of a file. A JSON file that cannot be read is
// treated as a file of tensors: Open reports its error if it needs the file.
func identify(path string) string {
	if filepath.Ext(path) == ".json" {
		if data, err := readSmall(path, maxTokenizer); err == nil {
			return fmt.Sprintf("%x", sha256.Sum256(data))
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	id := fmt.Sprintf("%d bytes of %d", info.Size(), info.ModTime().UnixNano())
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		id += fmt.Sprintf(", inode %d", stat.Ino)
	}
	return id
}
