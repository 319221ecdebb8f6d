//go:build race

package engine

import "time"

// The race detector makes everything many times slower.
const mostCPU = 20 * time.Second
