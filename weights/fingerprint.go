package weights

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// fingerprint identifies the files in the directories of the model, its modules and
// its adapter.
func (m *Model) fingerprint() (Fingerprint, error) {
	f := Fingerprint{}
	dirs := append([]string{m.Dir}, moduleDirs(m.Dir)...)
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

// moduleDirs returns the folders of the modules that modules.json lists and that
// exist. Open reports what is wrong with the others.
func moduleDirs(dir string) []string {
	data, err := readSmall(filepath.Join(dir, modulesFile), maxConfig)
	if err != nil {
		return nil
	}
	modules, err := parseModules(data)
	if err != nil {
		return nil
	}
	var dirs []string
	for _, m := range modules {
		if path := filepath.Join(dir, m.path); m.path != "" && !slices.Contains(dirs, path) && checkDir(path) == nil {
			dirs = append(dirs, path)
		}
	}
	return dirs
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

// ContentHash identifies what logits depend on: the contents of the tensors, the
// tokenizer, the adapter and the prompt. It does not depend on paths and times, so the
// same model has the same hash on another machine. It reads the files again, and fails
// if they have changed since Open.
func (m *Model) ContentHash() (string, error) {
	now, err := m.fingerprint()
	if err != nil {
		return "", err
	}
	if path := m.Files.Difference(now); path != "" {
		return "", fmt.Errorf("%s has changed since the model was opened", path)
	}
	var lines []string
	for path, id := range m.Files {
		name := filepath.Base(path)
		switch {
		case filepath.Ext(name) == ".safetensors":
			if id, err = hashFile(path); err != nil {
				return "", err
			}
		case name != tokenizerFile && name != adapterConfigFile:
			continue
		}
		lines = append(lines, name+" "+id)
	}
	if m.Adapter == Builtin {
		lines = append(lines, fmt.Sprintf("builtin adapter %x %x", sha256.Sum256(builtinAdapterConfig), sha256.Sum256(builtinAdapterWeights)))
	}
	slices.Sort(lines)
	lines = append(lines, fmt.Sprintf("prompt %q", m.Prompt))
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return fmt.Sprintf("%x", sum[:16]), nil
}

func hashFile(path string) (hash string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
