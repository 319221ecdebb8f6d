//go:build !linux

package system

import (
	"fmt"
	"syscall"
)

// PeakMemory returns the most memory that this process had resident so far, in bytes.
func PeakMemory() (uint64, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("system: peak memory: %w", err)
	}
	return uint64(usage.Maxrss), nil // bytes on macOS
}
