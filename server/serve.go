package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
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

// Serve answers requests on the listeners until ctx ends. Then /ready answers 503.
// After the drain delay, new scoring requests are refused. Running requests finish
// within the drain timeout or are answered with 503. A request whose body is still
// arriving gets 503 when the body is complete, within the same time.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	var hurried atomic.Bool
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	background.Go(func() { s.returnMemory(ctx) })
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		background.Go(func() { failed <- srv.Serve(s.wrap(l, &hurried)) })
	}
	var err error
	select {
	case err = <-failed: // the others end with it
		err = errors.Join(err, srv.Close())
	case <-ctx.Done():
		err = s.finish(srv, &hurried)
	}
	cancel()
	background.Wait()
	close(failed)
	for served := range failed {
		if !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}

// wrap makes the connections of a listener linger and, unless it is a Unix socket, speak
// TLS if the server does.
func (s *Server) wrap(l net.Listener, hurried *atomic.Bool) net.Listener {
	lingering := &lingeringListener{Listener: l, hurried: hurried}
	if s.TLS == nil || l.Addr().Network() == "unix" {
		return lingering
	}
	config := s.TLS.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.NextProtos = []string{"h2", "http/1.1"}
	return tls.NewListener(lingering, config)
}

// protocols returns HTTP/1 and HTTP/2, also in cleartext for proxies: a client that knows
// of it begins with HTTP/2's preface.
func protocols() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &p
}

// finish ends running requests. The listeners stay open until then, so that new
// requests are refused with an answer.
func (s *Server) finish(srv *http.Server, hurried *atomic.Bool) error {
	s.retire()
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
	hurried.Store(true)
	return srv.Close()
}

// retire makes /ready answer 503, and waits for the drain delay. Requests are accepted
// until then, so that a load balancer that has not seen /ready yet loses none. Each
// answer ends its connection, because a balancer of connections would keep using it.
func (s *Server) retire() {
	s.retiring.Store(true)
	if s.Limits.DrainDelay > 0 {
		s.Logger.Info().Stringer("drain_delay", s.Limits.DrainDelay).Msg("stopping; requests are still accepted for the drain delay")
		time.Sleep(s.Limits.DrainDelay)
	}
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
