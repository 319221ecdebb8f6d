package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/mlx"
)

// Engine is what the server needs of an engine.Engine; tests have others, which
// fail as they are told.
type Engine interface {
	Rerank(ctx context.Context, query string, documents []string, opts engine.RerankOptions) (*engine.Ranking, error)
	ScoreWith(ctx context.Context, pairs []engine.Pair, opts engine.ScoreOptions) (*engine.Result, error)
	ScoreWindows(ctx context.Context, pairs []engine.Pair, opts engine.ScoreOptions) (*engine.Result, error)
	Healthy(ctx context.Context) error
	Stats() engine.Stats
	Info() engine.Info
	Memory() (mlx.Memory, error)
}

// Config says what is served, to whom and within what limits.
type Config struct {
	Engine  Engine
	Version string // of the program
	Logger  zerolog.Logger
	Limits  Limits // zeros mean the defaults

	Key          string   // asked for as a bearer token; "" asks for none
	CORSOrigins  []string // that may call from a browser, "*" for all; none by default
	AllowedHosts []string // names that calls may come under, beside addresses and localhost; "*" for all

	// Dashboard answers /dashboard and all below it, behind the same guard. What
	// is below /dashboard/api/ asks for the key, the rest does not. It sets its
	// own write deadlines.
	Dashboard http.Handler
}

// A Server answers calls.
type Server struct {
	Config
	handler  http.Handler
	routes   routes
	bodies   budget
	received atomic.Int64  // bytes of bodies, since the start
	answers  budget        // that wait for their clients to take them
	decoders chan struct{} // a place for each compressed body that is decoded
	registry *prometheus.Registry
	metrics  *httpMetrics
	health   healthCheck
	openAPI  []byte
	jina     http.Handler // ranks a body that has been read
	started  time.Time

	mu       sync.Mutex
	present  int           // scoring calls from the first byte of the body to the answer
	running  int           // those that are scored
	draining bool          // no more of them are taken in
	idle     chan struct{} // closed once draining and none is present

	base   context.Context // of every request
	cancel context.CancelCauseFunc
}

// What ends a call before its answer, beside its client.
var (
	errTimeout  = errors.New("server: the request has taken too long")
	errStopping = errors.New("server: stopping")
)

// New makes a server of an engine, which must outlive it.
func New(cfg Config) (*Server, error) {
	s := &Server{Config: cfg, idle: make(chan struct{}), started: time.Now()}
	s.Limits = cfg.Limits.orDefaults()
	var err error
	if s.AllowedHosts, err = checkHosts(cfg.AllowedHosts); err != nil {
		return nil, err
	}
	s.bodies.limit, s.answers.limit = s.Limits.BodyBytesAtOnce, s.Limits.BodyBytesAtOnce
	s.decoders = newDecoders()
	s.base, s.cancel = context.WithCancelCause(context.Background())
	if err := s.makeMetrics(); err != nil {
		return nil, err
	}
	if err := s.makeRoutes(); err != nil {
		return nil, err
	}
	handler, err := s.guard(http.HandlerFunc(s.routes.serve))
	if err != nil {
		return nil, err
	}
	s.handler = s.withPlainPath(s.observe(handler))
	return s, nil
}

// Handler answers everything; Serve is for whoever wants deadlines of
// connections and an orderly end too.
func (s *Server) Handler() http.Handler { return s.handler }

// arrive registers a scoring call whose body is about to be read, so that a
// server that stops waits to answer it. Each that arrived departs.
func (s *Server) arrive() *failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return failStopping()
	}
	s.present++
	return nil
}

func (s *Server) depart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present--
	if s.draining && s.present == 0 {
		close(s.idle)
	}
}

// enter takes a scoring call in that has arrived, if it may come in. Those that
// did leave when they are scored.
func (s *Server) enter() *failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return failStopping()
	case s.running >= s.Limits.Requests:
		return failOverloaded("%d requests are at work, as many as the server takes; try again later", s.running)
	}
	s.running++
	return nil
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

// drain takes no more calls in. The channel is closed when the last is done.
func (s *Server) drain() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.draining = true
		if s.present == 0 {
			close(s.idle)
		}
	}
	return s.idle
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}
