//go:build !linux

package weights

// preferHugePages does nothing: these systems choose page sizes themselves.
func preferHugePages([]byte) bool { return false }
