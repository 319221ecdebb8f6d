package keyfile

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mlxrank/mlxrank/server"
)

func TestAppendAndRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	want := []server.ClientKey{
		{Name: "search", SHA256: sha256.Sum256([]byte("a"))},
		{Name: "true", SHA256: sha256.Sum256([]byte("b")), Admin: true},
		{Name: "1e3", SHA256: sha256.Sum256([]byte("c")), MaxRequests: 3, PairsPerMinute: 1_000_000},
	}
	for _, k := range want {
		if err := Append(path, k); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Read(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Append(path, server.ClientKey{Name: "search"}); err == nil || !strings.Contains(err.Error(), "key search is there twice") {
		t.Errorf("the same name: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("a refused key changes the file: %s, %v", after, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := Append(link, server.ClientKey{Name: "x"}); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("a link: %v", err)
	}
}

// Keys that are added at once are all kept.
func TestAppendAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	var adding sync.WaitGroup
	for i := range 8 {
		adding.Go(func() {
			name := strconv.Itoa(i)
			if err := Append(path, server.ClientKey{Name: name, SHA256: sha256.Sum256([]byte(name))}); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	if keys, err := Read(path); err != nil || len(keys) != 8 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"- {name: a, sha256: abc}":                                    `key 1, "a": sha256 is not valid`,
		"- {sha256: \"" + hash + "\"}":                                `name "" is not valid`,
		"- {name: a, sha256: \"" + hash + "\", max-requests: 0}":      "max-requests is 0; expected at least 1",
		"- {name: a, sha256: \"" + hash + "\", pairs-per-minute: -5}": "pairs-per-minute is -5",
		"- {name: a, sha256: \"" + hash + "\", max-request: 1}":       "max-request",
		"- {name: a, sha256: \"" + hash + "\", admin: perhaps}":       "Admin",
		"name: a":    "expected",
		"- {name: a": "1",
		"- {name: a, sha256: \"" + hash + "\"}\n---\n- x":                              "second YAML document",
		"- {name: a, sha256: \"" + hash + "\"}\n- {name: b, sha256: \"" + hash + "\"}": "key b is there twice",
	} {
		path := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
		if err := Append(path, server.ClientKey{Name: "new"}); err == nil {
			t.Errorf("%s: a key is added", text)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file is read")
	}
}
