package weights

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) (_ []byte, err error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if size > limit {
		return nil, fmt.Errorf("%s: too large: %d bytes (limit %d)", path, size, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// absent is an fs.ErrNotExist with a text of its own.
type absent string

func (a absent) Error() string { return string(a) }

func (a absent) Is(target error) bool { return target == fs.ErrNotExist }

// missingFile adds a hint to err if err says that path does not exist.
func missingFile(path string, err error, hint string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return absent(path + " is missing: " + hint)
	}
	return err
}

// valueOr returns what p points to, or otherwise if p is nil.
func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

// openRegular opens path if it is a regular file. It rejects other kinds before
// it opens them, because opening a named pipe would wait for a writer. It also
// rejects stand-ins: see refuseStandIn.
func openRegular(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("not a regular file: %s", info.Mode().Type())}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if err := refuseStandIn(f); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// lfsPointer is the start of the file that git stores instead of a large one.
const lfsPointer = "version https://git-lfs.github.com/spec/"

// refuseStandIn returns an error if f is a Git LFS pointer or a web page instead
// of the file that its name promises.
func refuseStandIn(f *os.File) error {
	start := make([]byte, len(lfsPointer))
	n, err := f.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	text := strings.ToLower(strings.TrimSpace(string(start[:n])))
	switch {
	case text == lfsPointer:
		dir := filepath.Dir(f.Name())
		return fmt.Errorf("%s is a Git LFS pointer, not the file itself: run git lfs install and git lfs pull in %s", f.Name(), dir)
	case strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"):
		return fmt.Errorf("%s is a web page, not the file itself: download it again from the URL that contains /resolve/", f.Name())
	}
	return nil
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// explainWeights adds to a not-exist error what to do, in particular if the
// folder of path holds the weights in another format.
func explainWeights(path string, err error) error {
	has := func(name string) bool { return exists(filepath.Dir(path), name) }
	hint := "every model directory needs one"
	switch {
	case filepath.Base(path) == adapterFile && has("adapter_model.bin"):
		hint = "found only adapter_model.bin: save the adapter again with save_pretrained(dir, safe_serialization=True)"
	case filepath.Base(path) == adapterFile:
		hint = "every PEFT adapter needs one"
	case has("pytorch_model.bin"):
		hint = "found only pytorch_model.bin: convert it to safetensors with save_pretrained(dir, safe_serialization=True)"
	}
	return missingFile(path, err, hint)
}
