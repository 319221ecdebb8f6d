package weights

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A mapping is memory outside the Go heap: a read-only file, or anonymous.
// Closing it returns the memory to the system at once.
type mapping []byte

// mapPath maps a whole file. The file must not shrink while it is mapped. The mapping
// is shared, so that libmlxrank can keep large word embeddings mapped and need not copy them.
func mapPath(path string) (_ mapping, err error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if size == 0 {
		return nil, nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: map %d bytes: %w", path, size, err)
	}
	return data, nil
}

// newMapping allocates n zeroed bytes, aligned to a page.
func newMapping(n int) (mapping, error) {
	if n == 0 {
		return nil, nil
	}
	data, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("allocate %d bytes: %w", n, err)
	}
	preferHugePages(data)
	return data, nil
}

// release takes the pages of a mapped file out of the process's memory. The system keeps
// them cached, and reading maps them again. It must not be called on anonymous memory,
// which would become zeros.
func (m mapping) release() {
	if m != nil {
		unix.Madvise(m, unix.MADV_DONTNEED) //nolint:errcheck // the pages then stay in memory
	}
}

func (m mapping) close() error {
	if m == nil {
		return nil
	}
	if err := unix.Munmap(m); err != nil {
		return fmt.Errorf("unmap %d bytes: %w", len(m), err)
	}
	return nil
}
