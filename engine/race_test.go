//go:build race

package engine

import "time"

// mostCPU is larger here, since the race detector slows everything down.
const mostCPU = 20 * time.Second

// underRace reports whether the race detector slows everything down.
const underRace = true
