package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// openAccessLog opens the access log that path names: "-" is the standard output, "" no
// access log. stop closes it.
func openAccessLog(path string, s command.Streams, log zerolog.Logger) (w io.Writer, stop func() error, err error) {
	switch path {
	case "":
		return nil, func() error { return nil }, nil
	case "-":
		return zerolog.SyncWriter(s.Out), func() error { return nil }, nil
	}
	l := &accessLog{path: path, log: log}
	if l.file, err = openForLines(path); err != nil {
		return nil, nil, fmt.Errorf("access log: %w; choose another file with --access-log", err)
	}
	return l, l.close, nil
}

func openForLines(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// lookTime is the time between two looks at the name of the access log.
const lookTime = time.Second

// An accessLog appends lines to a file. It opens the file again after another program has
// renamed or removed it, as logrotate does. No request waits for a disk that fails: the
// line is lost, and the log has one warning.
type accessLog struct {
	path string
	log  zerolog.Logger

	mu     sync.Mutex
	file   *os.File // nil after a failure to open it again
	looked time.Time
	failed bool // the last line was lost
}

// Write appends a line. It never fails, since zerolog would print each error.
func (l *accessLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.follow()
	if err == nil {
		_, err = l.file.Write(line)
	}
	switch {
	case err != nil && !l.failed:
		l.log.Warn().Err(err).Msg("the access log cannot be written; its lines are lost until it can")
	case err == nil && l.failed:
		l.log.Info().Str("file", l.path).Msg("the access log is written again")
	}
	l.failed = err != nil
	return len(line), nil
}

// follow opens the file again if its name belongs to another file, or to none.
func (l *accessLog) follow() error {
	if l.file != nil && time.Since(l.looked) < lookTime {
		return nil
	}
	l.looked = time.Now()
	if l.file != nil {
		opened, err := l.file.Stat()
		if err != nil {
			return err
		}
		if named, err := os.Stat(l.path); err == nil && os.SameFile(opened, named) {
			return nil
		}
	}
	file, err := openForLines(l.path)
	if err != nil {
		return err
	}
	if l.file != nil {
		err = l.file.Close() // of the renamed file
	}
	l.file = file
	return err
}

func (l *accessLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	if err := l.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
