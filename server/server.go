// Package server answers rerank requests over HTTP in the formats of
// text-embeddings-inference (TEI), Jina, Cohere, Voyage, vLLM, infinity, Weaviate and
// Hugging Face's inference endpoints.
//
// A request passes the guard (Host, Origin, key) and is read within the limits. It
// is validated against the schemas of the OpenAPI document, and the engine scores
// it. An error is answered in the shape of the request's own API, and a request that
// is rejected before scoring executes nothing. Texts are never logged.
//
// Another program mounts [Server.Handler], or calls [Server.Serve]. The Go API may
// change with a minor version; CHANGELOG.md lists changes. The HTTP API is described
// by docs/user/server.md and by the OpenAPI document at /openapi.json. It breaks with
// a major version only, and before v1.0.0 with a minor one.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/cors"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/mlxrank/mlxrank/engine"
)

// Engine is the part of engine.Engine that the server uses. Tests replace it.
type Engine interface {
	Rerank(ctx context.Context, query string, documents []string, opts engine.RerankOptions) (*engine.Ranking, error)
	ScoreWith(ctx context.Context, pairs []engine.Pair, opts engine.ScoreOptions) (*engine.Result, error)
	ScorePassages(ctx context.Context, pairs []engine.Pair, opts engine.ScoreOptions) (*engine.Result, error)
	Healthy(ctx context.Context) error
	Stats() engine.Stats
	Info() engine.Info
	Memory() (engine.Memory, error)
	Trim() error
	Close() error
}

// Config sets what is served, to whom and within which limits.
type Config struct {
	// Models are the models that requests may name. A program with one open engine sets
	// Engine instead. Either must outlive the server.
	Models *Models
	Engine Engine
	// AnyModel answers requests that name an unknown model with the default model.
	AnyModel bool
	// Admin adds /admin/models, where the key allows to load, unload and switch models. It
	// needs Key or Keys, and Models whose Load takes any name that the key's holders may ask for.
	Admin   bool
	Version string // of the program
	Logger  zerolog.Logger
	// AccessLog gets a JSON object with a line end for each request, one Write each; nil
	// for no access log.
	AccessLog io.Writer
	Traces    trace.TracerProvider // of OpenTelemetry; nil for none
	Limits    Limits               // zeros stand for DefaultLimits

	Key          string      // bearer token that requests must have; "" for none
	Keys         *Keys       // further keys, with names and limits; nil for none. Not with MCP
	TLS          *tls.Config // of the network addresses that Serve answers at; nil for none. Unix sockets have none
	CORSOrigins  []string    // origins of pages that may call, "*" for all; none by default
	AllowedHosts []string    // host names besides addresses and this machine's names, "*" for all

	// Dashboard answers /dashboard and all paths below it, behind the same guard.
	// Paths below /dashboard/api/ need the key, the others do not. It sets its own
	// write deadlines.
	Dashboard http.Handler

	// MCP answers POST /mcp with JSON, behind the same guard and within the same limits of
	// bodies. The server then has no other routes than /health, /ready and /metrics.
	MCP http.Handler
}

// A Server answers rerank requests.
type Server struct {
	Config
	routes     map[string]*route // by path
	cors       *cors.Cors        // nil if no other site's page may call
	protection *http.CrossOriginProtection
	bodies     budget
	received   atomic.Int64  // bytes of bodies, since the start
	answers    budget        // of answers that clients have not read yet
	decoders   chan struct{} // holds one element for each body being decompressed
	registry   *prometheus.Registry
	metrics    *httpMetrics
	schemas    huma.Registry
	openAPI    []byte
	access     zerolog.Logger
	tracer     trace.Tracer // nil without traces
	started    time.Time

	retiring atomic.Bool // /ready answers 503; new scoring requests may still be accepted

	mu       sync.Mutex
	present  int           // scoring requests from the first byte of the body to the answer
	running  int           // scoring requests that are being scored
	draining bool          // new scoring requests are refused
	idle     chan struct{} // closed once draining and present is 0

	base   context.Context // of every request
	cancel context.CancelCauseFunc
}

// New makes a server of models, which must outlive it.
func New(cfg Config) (*Server, error) {
	if (cfg.Models == nil) == (cfg.Engine == nil) {
		return nil, errors.New("server: expected either Models or an Engine")
	}
	switch {
	case cfg.Admin && cfg.Key == "" && cfg.Keys == nil:
		return nil, errors.New("server: the admin route needs a key")
	case cfg.MCP != nil && cfg.Keys != nil:
		return nil, errors.New("server: limits of keys do not hold for MCP; expected Key alone")
	case cfg.Admin && cfg.Models == nil:
		return nil, errors.New("server: the admin route needs Models")
	}
	if cfg.Engine != nil {
		cfg.Models = openModels(cfg.Engine)
	}
	s := &Server{
		Config: cfg, idle: make(chan struct{}), started: time.Now(),
		access: zerolog.Nop(), decoders: newDecoders(), schemas: newSchemas(), protection: http.NewCrossOriginProtection(),
	}
	if cfg.AccessLog != nil {
		s.access = zerolog.New(cfg.AccessLog)
	}
	if cfg.Traces != nil {
		s.tracer = cfg.Traces.Tracer(tracerName, trace.WithInstrumentationVersion(cfg.Version))
	}
	s.Limits = cfg.Limits.orDefaults()
	s.Models.limitWaiters(s.Limits.Requests)
	s.bodies.limit, s.answers.limit = s.Limits.BodyBytesAtOnce, s.Limits.BodyBytesAtOnce
	s.base, s.cancel = context.WithCancelCause(context.Background())
	var err error
	if s.AllowedHosts, err = parseHosts(cfg.AllowedHosts); err != nil {
		return nil, err
	}
	if s.cors, err = newCORS(cfg.CORSOrigins); err != nil {
		return nil, err
	}
	if err := s.makeMetrics(); err != nil {
		return nil, err
	}
	if s.MCP != nil {
		s.routes = s.mcpRoutes()
		return s, nil
	}
	return s, s.makeRoutes()
}

// Handler answers all routes. Serve adds the timeouts of connections and an
// orderly shutdown.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// arrive registers a scoring request whose body is about to be read, so that a
// server that stops waits for its answer. depart must follow.
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

// enter admits a scoring request whose body has been read. leave must follow a
// success.
func (s *Server) enter() *failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return failStopping()
	case s.running >= s.Limits.Requests:
		return failOverloaded("too many requests: %d are running (limit %d); try again later", s.running, s.Limits.Requests)
	}
	s.running++
	return nil
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

// drain refuses new scoring requests. It returns a channel that is closed when the
// last one is answered.
func (s *Server) drain() <-chan struct{} {
	s.retiring.Store(true)
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
