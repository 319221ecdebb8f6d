//go:build !race

package engine

import "time"

// mostCPU is how long one damaged file may keep a processor.
const mostCPU = 2 * time.Second
