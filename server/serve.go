package server

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

const (
	maxHeaderBytes = 64 << 10
	maxStreams     = 250             // concurrent requests of one HTTP/2 connection
	closeTime      = time.Second     // for idle connections to end
	restTime       = 5 * time.Second // without a byte of a body, until memory is returned
	restBytes      = 16 << 20        // of bodies, below which that is not worth a collection
)

// Serve answers requests on the listener until ctx ends. Then /ready answers 503
// and new scoring requests are refused. Running requests finish within the drain
// timeout or are answered with 503. A request whose body is still arriving gets 503
// when the body is complete, within the same time.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	lingering := &lingeringListener{Listener: listener}
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: s.Limits.HeaderTimeout,
		IdleTimeout:       s.Limits.IdleTimeout,
		// It begins with the headers; answers set deadlines of their own.
		WriteTimeout:   s.Limits.RequestTimeout + s.Limits.WriteTimeout,
		ConnState:      watchIdle,
		MaxHeaderBytes: maxHeaderBytes,
		Protocols:      protocols(),
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: s.Limits.WriteTimeout},
		BaseContext:    func(net.Listener) context.Context { return s.base },
		// net/http logs connections that clients break, which is not a fault here.
		ErrorLog: stdlog.New(io.Discard, "", 0),
	}
	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	background.Go(func() { s.returnMemory(ctx) })
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

// protocols returns HTTP/1 and, for proxies, HTTP/2 in cleartext: a client that knows of
// it begins with HTTP/2's preface.
func protocols() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &p
}

// finish ends running requests. The listener stays open until then, so that new
// requests are refused with an answer.
func (s *Server) finish(srv *http.Server, listener *lingeringListener) error {
	idle := s.drain()
	srv.SetKeepAlivesEnabled(false)
	timer := time.NewTimer(s.Limits.DrainTimeout)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
		s.Logger.Warn().Stringer("drain_timeout", s.Limits.DrainTimeout).Msg("cancelling requests that did not finish within the drain timeout")
	}
	s.cancel(errStopping) // of requests and of the dashboard's endless streams
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := srv.Shutdown(ctx); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	listener.hurried.Store(true)
	return srv.Close()
}

// returnMemory returns the memory of past bodies to the system when no request is
// running, until ctx ends. Go alone would keep it for minutes.
func (s *Server) returnMemory(ctx context.Context) {
	var returned, before int64 // bytes of bodies
	for telemetry.SleepUntil(ctx, time.Now().Add(restTime)) {
		received := s.received.Load()
		rests := received == before && s.bodies.taken.Load() == 0 && s.answers.taken.Load() == 0
		before = received
		if rests && received-returned >= restBytes {
			returned = received
			debug.FreeOSMemory()
		}
	}
}
