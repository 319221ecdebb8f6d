package hubtest

import (
	"hash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Dir returns the files of a directory, for Add.
func Dir(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = data
	}
	return files
}

// Use points the environment at the server and at an empty cache, whose
// directory it returns.
func (s *Server) Use(t *testing.T) (cache string) {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{
		"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
		"HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
		"SENTENCE_TRANSFORMERS_HOME", "HF_HUB_DISABLE_SYMLINKS", "HF_HUB_DISABLE_SYMLINKS_WARNING",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", home)
	t.Setenv("HF_ENDPOINT", s.URL)
	return filepath.Join(home, "hub")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func write(h hash.Hash, data []byte) {
	if _, err := h.Write(data); err != nil {
		panic(err) // a hash never fails
	}
}
