package weights

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A mapping is memory outside the Go heap: a read-only file, or anonymous.
// Closing it returns the memory to the system at once.
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

// newMapping allocates n zeroed bytes, aligned to a page.
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
