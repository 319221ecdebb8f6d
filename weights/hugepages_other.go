//go:build !linux

package weights

// preferHugePages does nothing where the system decides on page sizes alone.
func preferHugePages([]byte) bool { return false }
