package weights

import "golang.org/x/sys/unix"

// preferHugePages asks for large pages, which spares most of the page faults
// of filling a mapping for the first time, and reports whether it was heard.
// Nothing but time depends on it.
func preferHugePages(data []byte) bool {
	return unix.Madvise(data, unix.MADV_HUGEPAGE) == nil
}
