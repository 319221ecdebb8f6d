package mlx

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that errors.Is distinguishes.
var (
	// ErrClosed is returned by every method of a closed Session.
	ErrClosed = errors.New("mlx: session is closed")
	// ErrNoDevice reports that MLX cannot use the device asked for.
	ErrNoDevice = errors.New("no such device")
	// ErrBusy reports that two tickets of the session are already in flight.
	ErrBusy = errors.New("session is busy")
	// ErrInvalid reports that the library refused an argument and did nothing.
	ErrInvalid = errors.New("invalid argument")
	// ErrNotFinite reports a NaN or infinite logit.
	ErrNotFinite = errors.New("logit is not finite")
	// ErrMismatch reports that libmlxrank was not built for this program, or
	// libmlx not for libmlxrank.
	ErrMismatch = errors.New("library mismatch")
)

// NativeError reports a call that libmlxrank refused or that failed.
type NativeError struct {
	Call   string // the C function's name without its prefix
	Status int    // MLXRANK_* of mlxrank.h
	Text   string
}

// Error returns the message, and explains EAGAIN: C++ reports a thread that cannot
// be created only by the text of that error number.
func (e *NativeError) Error() string {
	text := "mlx: " + e.Call + ": " + e.Text
	if strings.HasSuffix(e.Text, "Resource temporarily unavailable") {
		text += " (a thread cannot be created: the limit on processes and threads of this user or container is too low)"
	}
	return text
}

// Temporary reports whether the same call may succeed later: the library refused nothing,
// but failed, as it does without memory.
func (e *NativeError) Temporary() bool {
	return e.Status != statusInvalid && e.Status != statusMismatch && e.Status != statusNoDevice && e.Status != statusNotFinite
}

// Is reports whether target is the ErrInvalid, ErrMismatch, ErrNoDevice, ErrBusy or
// ErrNotFinite that e's status stands for.
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
	case statusNotFinite:
		return target == ErrNotFinite
	}
	return false
}

// LoadError reports why no library could be used, and every path that was tried.
type LoadError struct {
	Tried []string // "PATH: reason", in the order of the search
	Err   error    // why the first file was refused; nil if no file was found
}

func (e *LoadError) Error() string {
	var b strings.Builder
	if e.Err != nil {
		fmt.Fprintf(&b, "mlx: cannot use libmlxrank: %v", e.Err)
	} else {
		fmt.Fprintf(&b, "mlx: %s not found; build it with `make build` or set %s to its file", LibraryFile, LibraryEnv)
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
