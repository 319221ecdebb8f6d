package main

// #include "internal.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/mlx"
)

// A statusError is an error with a status.
type statusError struct {
	status C.int32_t
	text   string
}

func (e *statusError) Error() string { return e.text }

func failf(status C.int32_t, format string, args ...any) error {
	return &statusError{status, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error { return failf(C.MLXR_INVALID, format, args...) }

// guard returns the status of f's error and writes its message to text. It recovers
// from panics, because a panic that leaves Go would end the host.
func guard(text *C.char, f func() error) (status C.int32_t) {
	defer func() {
		if p := recover(); p != nil {
			status = C.MLXR_FAILED
			write(text, fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	err := f()
	if err != nil {
		write(text, err.Error())
	}
	return toStatus(err)
}

// write copies a message with a NUL to the MLXR_MESSAGE bytes at to, cut if it is too
// long. It replaces NULs and invalid UTF-8 by U+FFFD.
func write(to *C.char, message string) {
	room := unsafe.Slice((*byte)(unsafe.Pointer(to)), C.MLXR_MESSAGE)
	message = strings.ToValidUTF8(strings.ReplaceAll(message, "\x00", "\uFFFD"), "\uFFFD")
	for len(message) >= len(room) {
		_, size := utf8.DecodeLastRuneInString(message)
		message = message[:len(message)-size]
	}
	room[copy(room, message)] = 0
}

// toStatus returns the status of an error.
func toStatus(err error) C.int32_t {
	var own *statusError
	var load *mlx.LoadError
	var native *mlx.NativeError
	switch {
	case err == nil:
		return C.MLXR_OK
	case errors.As(err, &own):
		return own.status
	case errors.Is(err, context.Canceled):
		return C.MLXR_CANCELLED
	case errors.Is(err, engine.ErrClosed):
		return C.MLXR_CLOSED
	case errors.Is(err, engine.ErrOverloaded):
		return C.MLXR_OVERLOADED
	case errors.Is(err, engine.ErrTooLarge):
		return C.MLXR_TOO_LARGE
	case errors.As(err, &load), errors.Is(err, mlx.ErrMismatch):
		return C.MLXR_LIBRARY
	case errors.Is(err, mlx.ErrNoDevice), errors.Is(err, engine.ErrUnhealthy), errors.As(err, &native):
		return C.MLXR_DEVICE
	}
	return C.MLXR_FAILED
}
