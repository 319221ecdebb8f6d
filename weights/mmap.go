package weights

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A mapping is memory outside the Go heap: a file, read-only, or anonymous.
// It is given back to the system the moment it is closed.
type mapping struct {
	data []byte
}

// mapPath maps a whole file. The file must not shrink while it is mapped.
func mapPath(path string) (_ *mapping, err error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if size == 0 {
		return &mapping{}, nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("%s: map %d bytes: %w", path, size, err)
	}
	return &mapping{data: data}, nil
}

// newMapping returns n zeroed bytes, aligned to a page.
func newMapping(n int) (*mapping, error) {
	if n == 0 {
		return &mapping{}, nil
	}
	data, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("allocate %d bytes: %w", n, err)
	}
	preferHugePages(data)
	return &mapping{data: data}, nil
}

func (m *mapping) close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("unmap %d bytes: %w", len(data), err)
	}
	return nil
}

// openRegular opens path if it is a regular file. Anything else is refused
// unopened, because opening a named pipe would wait for a writer. So is what
// stands in the place of the file.
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

// lfsPointer is how a file begins that git has in the place of a large one.
const lfsPointer = "version https://git-lfs.github.com/spec/"

// refuseStandIn returns an error if the file is not the one that its name says
// but a Git LFS pointer to it, or a web page in its place.
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
		return fmt.Errorf("%s is a Git LFS pointer and not the file itself: run git lfs install and git lfs pull in %s", f.Name(), dir)
	case strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"):
		return fmt.Errorf("%s is a web page and not the file itself: download it again, from the address with /resolve/ in it", f.Name())
	}
	return nil
}
