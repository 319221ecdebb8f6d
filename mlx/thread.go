package mlx

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// A thread runs functions one after another on one OS thread.
type thread struct {
	jobs chan job
	stop chan struct{}
	once sync.Once
}

type job struct {
	run  func()
	done chan error
}

func newThread() *thread {
	t := &thread{jobs: make(chan job), stop: make(chan struct{})}
	go t.serve()
	return t
}

// serve never unlocks: the OS thread ends with the goroutine, so nothing else
// of the process ever runs on a thread that has been MLX's.
func (t *thread) serve() {
	runtime.LockOSThread()
	for {
		select {
		case j := <-t.jobs:
			j.done <- call(j.run)
		case <-t.stop:
			return
		}
	}
}

// call turns a panic into an error that carries the panicking stack, so that
// one failed job does not take the thread and everyone waiting for it.
func call(run func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("mlx: panic on the owner thread: %v\n%s", p, debug.Stack())
		}
	}()
	run()
	return nil
}

// do runs f on the thread and waits for it. It returns ErrClosed, and does not
// run f, once the thread is closed.
func (t *thread) do(f func()) error {
	j := job{run: f, done: make(chan error, 1)}
	select {
	case <-t.stop: // a closed thread refuses even if it is still reading jobs
		return ErrClosed
	default:
	}
	select {
	case t.jobs <- j:
		return <-j.done
	case <-t.stop:
		return ErrClosed
	}
}

// close lets the thread end after the job it is at. It may be called twice.
func (t *thread) close() {
	t.once.Do(func() { close(t.stop) })
}
