package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/command"
)

const (
	// waitingLines is how many lines of the access log wait for their writer at most.
	waitingLines = 4096
	// lastLinesTime bounds how long the end of the program waits for them.
	lastLinesTime = 2 * time.Second
)

// openAccessLog opens the access log that path names: "-" is the standard output, "" no
// access log. stop writes what waits, and closes it.
func openAccessLog(path string, s command.Streams, log zerolog.Logger) (w io.Writer, stop func() error, err error) {
	l := &accessLog{log: log, lines: make(chan []byte, waitingLines), done: make(chan struct{})}
	switch path {
	case "":
		return nil, func() error { return nil }, nil
	case "-":
		// Go would end the server when whoever reads its standard output goes away.
		signal.Ignore(syscall.SIGPIPE)
		l.out = s.Out
	default:
		file := &logFile{path: path}
		if file.file, err = openForLines(path); err != nil {
			return nil, nil, fmt.Errorf("access log: %w; choose another file with --access-log", err)
		}
		l.out, l.closeOut = file, file.close
	}
	go l.run()
	return l, l.close, nil
}

// An accessLog writes lines from a goroutine of its own: no request waits for a disk, or
// for whoever reads the standard output. What cannot be written is lost, and the log has
// one warning.
type accessLog struct {
	out      io.Writer
	closeOut func() error // nil if out stays open
	log      zerolog.Logger
	lines    chan []byte
	done     chan struct{} // closed after the last line

	mu     sync.Mutex
	failed bool // lines are lost
	closed bool
}

// Write queues a line. It never fails, since zerolog would print each error.
func (l *accessLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(line), nil
	}
	select {
	case l.lines <- slices.Clone(line):
	default:
		l.lose(errors.New("its reader or its disk is too slow"))
	}
	return len(line), nil
}

// lose reports the first of several lost lines. l.mu is locked.
func (l *accessLog) lose(err error) {
	if !l.failed {
		l.log.Warn().Err(err).Msg("the access log cannot be written; its lines are lost until it can")
	}
	l.failed = true
}

// run writes the lines. One that was cut off by a full disk ends before the next one.
func (l *accessLog) run() {
	defer close(l.done)
	cut := false
	for line := range l.lines {
		if cut {
			line = append([]byte("\n"), line...)
		}
		n, err := l.out.Write(line)
		if n > 0 {
			cut = n < len(line)
		}
		l.report(err)
	}
}

// report takes note of a line that was written, or was not.
func (l *accessLog) report(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.lose(err)
	case l.failed && len(l.lines) == 0:
		l.failed = false
		l.log.Info().Msg("the access log is written again")
	}
}

// close waits for the last lines, unless they cannot be written in time.
func (l *accessLog) close() error {
	l.mu.Lock()
	l.closed = true
	close(l.lines)
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(lastLinesTime):
		l.log.Warn().Msg("the last lines of the access log are lost")
		return nil
	}
	if l.closeOut == nil {
		return nil
	}
	return l.closeOut()
}

func openForLines(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// lookTime is the time between two looks at the name of the access log.
const lookTime = time.Second

// A logFile appends lines to a file. It opens the file again after another program has
// renamed or removed it, as logrotate does.
type logFile struct {
	path   string
	file   *os.File // nil after a failure to open it again
	looked time.Time
}

// Write appends a line.
func (f *logFile) Write(line []byte) (int, error) {
	if err := f.follow(); err != nil {
		return 0, err
	}
	return f.file.Write(line)
}

// follow opens the file again if its name belongs to another file, or to none. After a
// failure it tries with each line, and writes none into the renamed file.
func (f *logFile) follow() error {
	if f.file != nil && time.Since(f.looked) < lookTime {
		return nil
	}
	f.looked = time.Now()
	if f.file != nil {
		opened, err := f.file.Stat()
		if err != nil {
			return err
		}
		if named, err := os.Stat(f.path); err == nil && os.SameFile(opened, named) {
			return nil
		}
	}
	err := f.close() // of the renamed file
	if err == nil {
		f.file, err = openForLines(f.path)
	}
	return err
}

func (f *logFile) close() error {
	file := f.file
	if f.file = nil; file == nil {
		return nil
	}
	return file.Close()
}
