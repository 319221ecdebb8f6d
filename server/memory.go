package server

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	restTime  = 5 * time.Second // without a byte of a body, until memory is given back
	restBytes = 16 << 20        // of bodies, below which it is not worth a collection
)

// returnMemory gives the memory of past bodies back to the system whenever the
// server rests, until ctx ends. Go by itself would keep it for minutes.
func (s *Server) returnMemory(ctx context.Context) {
	ticker := time.NewTicker(restTime)
	defer ticker.Stop()
	var returned, before int64 // bytes of bodies
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		received := s.received.Load()
		rests := received == before && s.bodies.taken.Load() == 0 && s.answers.taken.Load() == 0
		before = received
		if rests && received-returned >= restBytes {
			returned = received
			debug.FreeOSMemory()
		}
	}
}
