package engine

import "time"

// A traceEvent is one change of a request, for tests that replay them.
type traceEvent struct {
	at      time.Time
	request *request
	kind    traceKind
	count   int
}

type traceKind int

const (
	traceAccepted  traceKind = iota // pairs of the request
	traceChunk                      // a worker took pairs
	traceChunkDone                  // and has them tokenised
	traceQueued                     // pairs came to the queue
	traceTaken                      // and are in a batch
	traceSubmitted                  // which executes from now
	traceCollected                  // to now
	traceEnded
)

// traced tells a test what happened.
func (p *pipeline) traced(r *request, kind traceKind, count int, at time.Time) {
	if p.trace != nil {
		p.trace(traceEvent{at, r, kind, count})
	}
}
