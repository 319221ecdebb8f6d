//go:build !linux

package system

// cpuQuota returns 0: only Linux has control groups.
func cpuQuota() float64 { return 0 }
