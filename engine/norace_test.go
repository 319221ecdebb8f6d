//go:build !race

package engine

import "time"

// mostCPU is the CPU time limit for one damaged file.
const mostCPU = 2 * time.Second

// underRace reports whether the race detector slows everything down.
const underRace = false
