package fleet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	guardEvery = 2 * time.Second  // time between looks at the health of the server
	stuckAfter = 15 * time.Second // time that a working server needs at most to report its health
)

// guard closes ended when the NATS server is of no use any more and the disk has room. A
// stream that could not write accepts nothing more. NATS 2.15.3 also waits for itself for
// ever if a removal finds the disk full: the purge holds the lock of the stream's file that
// its own repair takes. Only a new process helps then.
func (s *Server) guard() {
	defer close(s.guarded)
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for reason := ""; ; {
		select {
		case <-tick.C:
		case <-s.closing:
			return
		}
		if reason == "" {
			if reason = s.fault(); reason == "" {
				continue
			}
			s.config.Logger.Error().Str("reason", reason).Str("dir", s.config.Dir).Msg("the server cannot write to its disk; jobs wait until there is room")
		}
		if tryDisk(s.config.Dir) == nil {
			close(s.ended)
			return
		}
	}
}

// fault returns why the server is of no use any more, "" if it works.
func (s *Server) fault() string {
	answered := make(chan struct{})
	go func() {
		s.server.Healthz(nil)
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(stuckAfter):
		return "NATS does not answer"
	case <-s.closing:
		return ""
	}
	if failure := s.failure.Load(); failure != nil {
		return *failure
	}
	if !s.server.JetStreamEnabled() {
		return "JetStream has stopped"
	}
	return ""
}

// roomBytes is the room on the disk with which the server starts again.
const roomBytes = 8 << 20

// tryDisk writes a file to find out whether there is room.
func tryDisk(dir string) error {
	path := filepath.Join(dir, "room")
	err := os.WriteFile(path, make([]byte, roomBytes), 0o600)
	return errors.Join(err, os.Remove(path))
}

// serverLog passes the server's warnings and errors on.
type serverLog struct {
	log zerolog.Logger
	// failure gets the error with which a stream, its file or a consumer has ended its
	// writing. The server's health report has only the errors of streams.
	failure *atomic.Pointer[string]
}

func (l serverLog) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l serverLog) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l serverLog) Fatalf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l serverLog) Debugf(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }
func (l serverLog) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

func (l serverLog) Errorf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	l.log.Error().Msg(message)
	if strings.Contains(strings.ToLower(message), "critical write error") {
		l.failure.CompareAndSwap(nil, &message)
	}
}
