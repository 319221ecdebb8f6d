package mlx

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that callers may want to tell apart, by errors.Is.
var (
	// ErrClosed is returned by every method of a closed Session.
	ErrClosed = errors.New("mlx: session is closed")
	// ErrNoDevice says that the device asked for is not there.
	ErrNoDevice = errors.New("no such device")
	// ErrBusy says that two tickets of the session are in flight already.
	ErrBusy = errors.New("session is busy")
	// ErrInvalid says that the library refused an argument; nothing was done.
	ErrInvalid = errors.New("invalid argument")
	// ErrMismatch says that libmlxrank is not the one this program was built
	// for, or libmlx not the one libmlxrank was built for.
	ErrMismatch = errors.New("library mismatch")
)

// A NativeError is a call that libmlxrank refused or failed.
type NativeError struct {
	Call   string // the C function's name without its prefix
	Status int    // MLXRANK_* of mlxrank.h
	Text   string
}

// Error adds what EAGAIN means here: C++ reports a thread that cannot be created
// by the text of its error number alone.
func (e *NativeError) Error() string {
	text := "mlx: " + e.Call + ": " + e.Text
	if strings.HasSuffix(e.Text, "Resource temporarily unavailable") {
		text += " (a thread cannot be created: the limit on processes and threads of this user or container is too low)"
	}
	return text
}

// Is makes errors.Is(err, ErrNoDevice), ErrBusy, ErrInvalid and ErrMismatch work.
func (e *NativeError) Is(target error) bool {
	switch e.Status {
	case statusInvalid:
		return target == ErrInvalid
	case statusMismatch:
		return target == ErrMismatch
	case statusNoDevice:
		return target == ErrNoDevice
	case statusBusy:
		return target == ErrBusy
	}
	return false
}

// A LoadError says why no library could be used, and every path tried.
type LoadError struct {
	Tried []string // "PATH: why not", in the order of the search
	Err   error    // what ended the search; nil when nothing was found
}

func (e *LoadError) Error() string {
	var b strings.Builder
	if e.Err != nil {
		fmt.Fprintf(&b, "mlx: cannot use libmlxrank: %v", e.Err)
	} else {
		fmt.Fprintf(&b, "mlx: %s not found; build it with `make build` or name it in %s", LibraryFile, LibraryEnv)
	}
	b.WriteString("; tried:")
	for _, t := range e.Tried {
		b.WriteString("\n  " + t)
	}
	return b.String()
}

func (e *LoadError) Unwrap() error { return e.Err }

// errThreads reports that OpenBLAS could not start its threads.
var errThreads = errors.New("OpenBLAS, which libmlxrank needs, could not create its threads: " +
	"the limit on processes and threads of this user or container is too low")
