//go:build race

package server

// The race detector keeps memory of its own for every goroutine there was.
const raceDetector = true
