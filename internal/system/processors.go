package system

import (
	"math"
	"runtime"
)

// Processors returns how many threads this process can keep running at once:
// the processors that its affinity allows, or the CPU quota of its control groups
// if that is smaller. The quota is rounded to a whole number, and the result is at
// least 1. More threads would use up the quota early in each period, and then all of
// them would wait for the next one.
func Processors() int { return processors(runtime.NumCPU(), cpuQuota()) }

// processors combines the affinity with a quota in processors; 0 means no quota.
func processors(affinity int, quota float64) int {
	if quota <= 0 {
		return affinity
	}
	return max(1, min(affinity, int(math.Round(quota))))
}
