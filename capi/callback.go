package main

// #include "internal.h"
import "C"

import (
	"bytes"
	"slices"
	"sync"
	"unsafe"

	"github.com/rs/zerolog"
)

var levels = []zerolog.Level{zerolog.Disabled, zerolog.ErrorLevel, zerolog.WarnLevel, zerolog.InfoLevel, zerolog.DebugLevel, zerolog.TraceLevel}

// A logWriter passes log events to the host until it is stopped.
type logWriter struct {
	call    C.mlxr_log
	context unsafe.Pointer

	mu      sync.RWMutex
	stopped bool
}

// newLogger returns the logger that the options ask for. Its writer is never nil.
func newLogger(o *C.mlxr_options) (zerolog.Logger, *logWriter, error) {
	if o.log_level < 0 || int(o.log_level) >= len(levels) {
		return zerolog.Nop(), nil, invalid("options: log_level is %d, expected 0 to %d", int32(o.log_level), len(levels)-1)
	}
	w := &logWriter{call: o.log, context: o.log_context, stopped: o.log == nil}
	if w.stopped {
		return zerolog.Nop(), w, nil
	}
	return zerolog.New(w).Level(levels[o.log_level]).With().Timestamp().Logger(), w, nil
}

func (w *logWriter) Write(event []byte) (int, error) { return w.WriteLevel(zerolog.NoLevel, event) }

func (w *logWriter) WriteLevel(level zerolog.Level, event []byte) (int, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	text := bytes.TrimRight(event, "\n")
	if w.stopped || len(text) == 0 {
		return len(event), nil
	}
	C.mlxrgo_call_log(w.call, w.context, levelCode(level), (*C.char)(unsafe.Pointer(&text[0])), C.int64_t(len(text)))
	return len(event), nil
}

func levelCode(level zerolog.Level) C.int32_t {
	if code := slices.Index(levels, level); code >= 0 {
		return C.int32_t(code)
	}
	return C.MLXR_LOG_ERROR // panics and the like
}

// stop waits for running callbacks. No callback runs afterwards.
func (w *logWriter) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
}

// toProgress returns a function that calls the host's progress callback, nil if
// there is none.
func toProgress(c *C.mlxr_call) func(done, total int) {
	if c == nil || c.progress == nil {
		return nil
	}
	call, context := c.progress, c.progress_context
	return func(done, total int) { C.mlxrgo_call_progress(call, context, C.int64_t(done), C.int64_t(total)) }
}
