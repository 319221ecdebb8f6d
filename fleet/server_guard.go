package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// guardEvery is the time between looks at the health of the server.
const guardEvery = 2 * time.Second

// guard starts the NATS server again after its disk was full. A stream that could not
// write, which JetStream notes once, accepts nothing until then, and does not answer.
func (s *Server) guard() {
	defer close(s.guarded)
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for told := false; ; {
		select {
		case <-tick.C:
		case <-s.closing:
			return
		}
		reason := writeError(s.server)
		if reason == "" {
			told = false
			continue
		}
		if !told {
			s.config.Logger.Error().Str("reason", reason).Str("dir", s.config.Dir).Msg("the server cannot write to its disk; jobs wait until there is room")
			told = true
		}
		if err := tryDisk(s.config.Dir); err != nil {
			continue
		}
		stop(s.server)
		for {
			server, err := s.start()
			if err == nil {
				s.server, told = server, false
				s.config.Logger.Warn().Msg("the disk has room again; the server goes on")
				break
			}
			s.config.Logger.Error().Err(err).Msg("start the server again")
			select {
			case <-tick.C:
			case <-s.closing:
				return
			}
		}
	}
}

// writeError returns why a server can write no more, "" if it can.
func writeError(server *nats.Server) string {
	health := server.Healthz(nil)
	if !server.JetStreamEnabled() || strings.Contains(health.Error, "write error") {
		return health.Error
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
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l serverLog) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l serverLog) Fatalf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l serverLog) Errorf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l serverLog) Debugf(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }
func (l serverLog) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }
