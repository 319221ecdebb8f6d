package system

import (
	"fmt"

	"github.com/prometheus/procfs"
)

// PeakMemory returns the most memory that this process had resident so far, in bytes.
func PeakMemory() (uint64, error) {
	self, err := procfs.Self()
	if err != nil {
		return 0, fmt.Errorf("system: peak memory: %w", err)
	}
	status, err := self.NewStatus()
	if err != nil {
		return 0, fmt.Errorf("system: peak memory: %w", err)
	}
	return status.VmHWM, nil
}
