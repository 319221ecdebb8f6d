package mlx

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// thread runs functions one after another on one OS thread.
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

// serve never unlocks the OS thread, so that the thread ends with the goroutine
// and no other goroutine runs on a thread that MLX has used.
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

// call turns a panic into an error with the panicking stack, so that a failed job
// ends neither the thread nor the jobs that wait for it.
func call(run func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("mlx: panic on the session's thread: %v\n%s", p, debug.Stack())
		}
	}()
	run()
	return nil
}

// do runs f on the thread and waits for it. Once the thread is closed, do returns
// ErrClosed without running f.
func (t *thread) do(f func()) error {
	j := job{run: f, done: make(chan error, 1)}
	select {
	case <-t.stop: // a closed thread refuses jobs even while it still reads them
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

// close ends the thread after its current job. It may be called twice.
func (t *thread) close() {
	t.once.Do(func() { close(t.stop) })
}
