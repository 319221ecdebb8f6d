package main

// #include "internal.h"
import "C"

import (
	"context"
	"sync"

	"github.com/mlxrank/mlxrank/engine"
)

// A ranker is an open engine with its log.
type ranker struct {
	engine *engine.Engine
	log    *logWriter

	mu        sync.Mutex
	closing   bool
	closed    chan struct{} // closed when the first mlxr_close returns
	lastError string
}

// A registry holds objects by handle. It never reuses a handle.
type registry[T any] struct {
	mu     sync.Mutex
	first  int64
	given  int64
	byName map[int64]T
}

var (
	rankers = registry[*ranker]{}
	// Cancellations start at another number, so that neither kind of handle is valid
	// as the other.
	cancellations = registry[*cancellation]{first: 1 << 40}
)

func (r *registry[T]) add(object T) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName == nil {
		r.byName = make(map[int64]T)
	}
	r.given++
	r.byName[r.first+r.given] = object
	return r.first + r.given
}

func (r *registry[T]) get(handle int64) (T, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	object, ok := r.byName[handle]
	return object, ok
}

func (r *registry[T]) remove(handle int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byName, handle)
}

// was reports whether the handle exists or existed.
func (r *registry[T]) was(handle int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return handle > r.first && handle <= r.first+r.given
}

// A cancellation is a context that the host cancels.
type cancellation struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// toContext returns the cancellation's context, or one that never ends if handle is 0.
func toContext(handle C.mlxr_cancellation) (context.Context, error) {
	if handle == 0 {
		return context.Background(), nil
	}
	c, ok := cancellations.get(int64(handle))
	if !ok {
		return nil, failf(C.MLXR_CLOSED, "cancellation %d is not open", int64(handle))
	}
	return c.ctx, nil
}

// refuseInLog refuses calls from a log callback. While it logs, the engine may hold a
// lock, or be about to run the batch that the call would wait for.
func refuseInLog() error {
	if C.mlxrgo_in_log() != 0 {
		return invalid("a log callback cannot call a ranker: the ranker waits for the callback; make the call from another thread, after the callback has returned")
	}
	return nil
}

// on calls f with the ranker and keeps the message if f fails.
func on(handle C.mlxr_ranker, message *C.char, f func(*ranker) error) C.int32_t {
	return guard(message, func() error {
		if err := refuseInLog(); err != nil {
			return err
		}
		r, ok := rankers.get(int64(handle))
		if !ok {
			return failf(C.MLXR_CLOSED, "ranker %d is not open", int64(handle))
		}
		err := f(r)
		if err != nil {
			r.mu.Lock()
			r.lastError = err.Error()
			r.mu.Unlock()
		}
		return err
	})
}

// close frees the ranker. A second close waits for the first.
func (r *ranker) close(handle int64) error {
	r.mu.Lock()
	first := !r.closing
	r.closing = true
	r.mu.Unlock()
	if !first {
		<-r.closed
		return nil
	}
	defer close(r.closed)
	err := r.engine.Close()
	r.log.stop()
	rankers.remove(handle)
	return err
}
