// Package keyfile reads and writes the file of serve --keys: YAML with a list of keys,
// one a line.
package keyfile

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/gofrs/flock"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
	"github.com/mlxrank/mlxrank/server"
)

// maxBytes caps the file, which has a line of about 150 bytes for each key.
const maxBytes = 1 << 20

// An entry is a key as the file has it. A limit of 0 would not be what it looks like.
type entry struct {
	Name           string `yaml:"name"`
	SHA256         string `yaml:"sha256"`
	Admin          bool   `yaml:"admin"`
	MaxRequests    *int   `yaml:"max-requests"`
	PairsPerMinute *int   `yaml:"pairs-per-minute"`
}

// Read reads the keys of a file. Errors name the file.
func Read(path string) ([]server.ClientKey, error) {
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	keys, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("keys: %s: %w", path, err)
	}
	return keys, nil
}

func read(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && len(data) > maxBytes {
		err = fmt.Errorf("%s is larger than %d bytes; expected a line for each key", path, maxBytes)
	}
	return data, err
}

func parse(data []byte) ([]server.ClientKey, error) {
	var entries []entry
	decoder := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := decoder.Decode(&entries); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("a second YAML document follows a line \"---\"; put all keys into one")
	}
	keys := make([]server.ClientKey, len(entries))
	for i, e := range entries {
		var err error
		if keys[i], err = e.key(); err != nil {
			return nil, fmt.Errorf("key %d, %q: %w", i+1, e.Name, err)
		}
	}
	if len(keys) == 0 {
		return keys, nil
	}
	_, err := server.NewKeys(keys)
	return keys, err
}

func (e *entry) key() (server.ClientKey, error) {
	k := server.ClientKey{Name: e.Name, Admin: e.Admin}
	hash, err := hex.DecodeString(e.SHA256)
	if err != nil || len(hash) != len(k.SHA256) {
		return k, fmt.Errorf("sha256 is not valid; expected the %d hexadecimal digits that mlxrank key new prints", 2*len(k.SHA256))
	}
	copy(k.SHA256[:], hash)
	for _, limit := range []struct {
		name  string
		given *int
		value *int
	}{{"max-requests", e.MaxRequests, &k.MaxRequests}, {"pairs-per-minute", e.PairsPerMinute, &k.PairsPerMinute}} {
		if limit.given == nil {
			continue
		}
		if *limit.given < 1 {
			return k, fmt.Errorf("%s is %d; expected at least 1, or no %s for no limit", limit.name, *limit.given, limit.name)
		}
		*limit.value = *limit.given
	}
	return k, nil
}

// Line returns the line of a key.
func Line(k server.ClientKey) string {
	line := fmt.Sprintf("- {name: %q, sha256: %q", k.Name, hex.EncodeToString(k.SHA256[:]))
	if k.Admin {
		line += ", admin: true"
	}
	if k.MaxRequests > 0 {
		line += fmt.Sprintf(", max-requests: %d", k.MaxRequests)
	}
	if k.PairsPerMinute > 0 {
		line += fmt.Sprintf(", pairs-per-minute: %d", k.PairsPerMinute)
	}
	return line + "}\n"
}

// Append adds a key to a file in one step, and makes the file if there is none. The file
// is readable by its owner alone afterwards. A link is refused, since the file would
// replace it.
func Append(path string, k server.ClientKey) (err error) {
	if target, err := os.Readlink(path); err == nil && target != "" {
		return fmt.Errorf("keys: %s is a link to %s; name the file itself", path, target)
	}
	// Two programs at once would lose a key. The folder is locked, since a file that is
	// replaced is another one for its next opener.
	lock := flock.New(filepath.Dir(path), flock.SetFlag(os.O_RDONLY))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("keys: locking the folder of %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	data, err := read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keys: %w", err)
	}
	if data, err = withLine(data, k); err != nil {
		return fmt.Errorf("keys: %s: %w", path, err)
	}
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

// withLine adds a key's line to a file's content.
func withLine(data []byte, k server.ClientKey) ([]byte, error) {
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	before, err := parse(data)
	if err != nil {
		return nil, err
	}
	data = append(data, Line(k)...)
	after, err := parse(data)
	switch {
	case err != nil:
		return nil, err
	case len(after) != len(before)+1:
		return nil, fmt.Errorf("%d keys after one was added to %d; write one key a line, as mlxrank key new prints it", len(after), len(before))
	}
	return data, nil
}
