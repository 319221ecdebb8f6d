package server

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxHeaderBytes = 64 << 10
	closeTime      = time.Second // for connections to end once nothing runs on them
)

// Serve answers calls that come to the listener, until ctx ends. Then /ready
// turns 503 and no more scoring calls are taken in; those at work are finished,
// for up to the drain timeout, and answered with 503 beyond it. Calls whose
// bodies are still coming are answered with 503 once they have come, within the
// same time.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	lingering := &lingeringListener{Listener: listener}
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.Limits.HeaderTimeout,
		IdleTimeout:       s.Limits.IdleTimeout,
		// From the headers on; answers have deadlines of their own.
		WriteTimeout:   s.Limits.RequestTimeout + s.Limits.WriteTimeout,
		ConnState:      watchIdle,
		MaxHeaderBytes: maxHeaderBytes,
		BaseContext:    func(net.Listener) context.Context { return s.base },
		// What net/http says of broken connections is of no use to anybody.
		ErrorLog: stdlog.New(io.Discard, "", 0),
	}
	var resting sync.WaitGroup
	defer resting.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resting.Go(func() { s.returnMemory(ctx) })
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(lingering) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	err := s.finish(srv, lingering)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// finish ends what runs. The listener stays open until then, so that whoever
// asks is told.
func (s *Server) finish(srv *http.Server, listener *lingeringListener) error {
	idle := s.drain()
	srv.SetKeepAlivesEnabled(false)
	timer := time.NewTimer(s.Limits.DrainTimeout)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
		s.Logger.Warn().Stringer("drain_timeout", s.Limits.DrainTimeout).Msg("requests still at work are given up")
	}
	s.cancel(errStopping) // the dashboard's streams too, which have no end of their own
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := srv.Shutdown(ctx); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	listener.hurried.Store(true)
	return srv.Close()
}
