//go:build race

package server

// The race detector keeps memory for every goroutine that ever ran.
const raceDetector = true
