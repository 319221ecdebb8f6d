package system

import (
	"math"
	"runtime"
)

// Processors returns how many threads this process can keep running at once:
// the processors that its affinity allows, or the CPU quota of its control
// groups if that is smaller. A part of a processor is rounded to the nearest
// number, and the result is at least 1: more threads than the quota pays for
// use it up early in each period, and then all of them stand still.
func Processors() int { return processors(runtime.NumCPU(), cpuQuota()) }

// processors combines the affinity with a quota in processors; 0 is none.
func processors(affinity int, quota float64) int {
	if quota <= 0 {
		return affinity
	}
	return max(1, min(affinity, int(math.Round(quota))))
}
