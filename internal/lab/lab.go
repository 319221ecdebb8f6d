// Package lab holds the settings of an engine that only this module's benchmarks
// and experiments use. No version promises them.
package lab

import "time"

// Options change how an engine makes batches and what it measures.
type Options struct {
	BatchTimeout time.Duration // a batch waits so long for company; 0 never
	InOrder      bool          // pairs go in the order of their arrival, not by length
	Profile      bool          // times the native pass on the CPU, which costs some of the speed
}

// A Key is an argument of the methods that only this module may call.
type Key struct{ _ int }
