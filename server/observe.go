package server

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// A call is what is logged and counted of a request.
type call struct {
	start     time.Time
	kind      string // of its failure
	err       error  // of the engine's, which names no text
	bytesIn   int
	documents int
	empty     int            // documents without text
	result    *engine.Result // nil if nothing was scored
}

type callKey struct{}

// callOf is the request's call. One that is not observed has one that nobody
// looks at.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{start: time.Now()}
}

// An answer remembers what was written.
type answer struct {
	http.ResponseWriter
	begin  func() // called before the headers are written
	status int
	bytes  int
	broken bool // the client takes no more
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
		a.begin()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(data []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	n, err := a.ResponseWriter.Write(data)
	a.bytes += n
	a.broken = a.broken || err != nil
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush is for handlers that ask for http.Flusher.
func (a *answer) Flush() {
	if err := http.NewResponseController(a.ResponseWriter).Flush(); err != nil {
		a.broken = true
	}
}

// observe counts and logs every request, and turns a panic into an error.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{start: time.Now()}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
		body := watchBody(r)
		a := &answer{ResponseWriter: w, begin: func() { s.beginAnswer(w, r, body) }}
		s.metrics.inFlight.Inc()
		defer func() {
			s.recovered(recover(), a, r)
			if a.status == 0 {
				a.WriteHeader(http.StatusOK)
			}
			leaveBody(w, body)
			s.metrics.inFlight.Dec()
			s.ended(c, a, r)
		}()
		next.ServeHTTP(a, r)
	})
}

// beginAnswer runs before an answer's headers are written.
func (s *Server) beginAnswer(w http.ResponseWriter, r *http.Request, body *watchedBody) {
	settleBody(w, r, body)
	if !isDashboard(r.URL.Path) {
		setDeadline(http.NewResponseController(w).SetWriteDeadline, time.Now().Add(s.Limits.WriteTimeout))
	}
}

// recovered answers a call whose handler panicked, if it has not answered. The
// value of the panic may hold a text, so it is not logged; where it was is.
func (s *Server) recovered(v any, a *answer, r *http.Request) {
	if v == nil || a.broken { // huma panics when it cannot write
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	s.Logger.Error().Str("route", s.routes.route(r.URL.Path)).Bytes("stack", debug.Stack()).Msg("panic")
	if a.status == 0 {
		fail(a, r, failf(http.StatusInternalServerError, kindBackend, "internal error"))
	}
}

// ended counts and logs a request. Paths and queries are the client's words, so
// the route stands for them.
func (s *Server) ended(c *call, a *answer, r *http.Request) {
	took := time.Since(c.start)
	route := s.routes.route(r.URL.Path)
	s.metrics.observe(orElse(route, "other"), r.Method, a.status, c.kind, took)
	level := zerolog.DebugLevel
	if a.status >= http.StatusInternalServerError && c.kind != kindUnhealthy {
		level = zerolog.WarnLevel
	}
	event := s.Logger.WithLevel(level)
	if !event.Enabled() {
		return
	}
	event.
		Str("method", method(r.Method)).
		Str("route", orElse(route, "other")).
		Int("status", a.status).
		Int("bytes_in", c.bytesIn).
		Int("bytes_out", a.bytes).
		Float64("http_ms", milliseconds(took))
	if c.kind != "" {
		event.Str("error_type", c.kind)
	}
	if c.err != nil {
		event.Err(c.err)
	}
	if c.documents > 0 {
		event.Int("pairs", c.documents)
	}
	if c.empty > 0 {
		event.Int("empty", c.empty)
	}
	if res := c.result; res != nil {
		event.
			Int("distinct_pairs", res.Distinct).
			Int("truncated", res.Truncated).
			Int("batches", res.Batches).
			Int("tokens", res.Tokens).
			Int("computed_tokens", res.ComputedTokens)
		if res.ComputedTokens > 0 {
			event.Float64("padding_waste_pct", 100*float64(res.ComputedTokens-res.Tokens)/float64(res.ComputedTokens))
		}
		t := res.Timings
		event.
			Float64("latency_ms", milliseconds(t.Latency)).
			Float64("inference_ms", milliseconds(t.Inference)).
			Float64("tokenization_ms", milliseconds(t.Tokenization)).
			Float64("queue_wait_ms", milliseconds(t.QueueWait)).
			Float64("other_ms", milliseconds(t.Other))
	}
	event.Msg("http")
}

// method keeps made-up methods out of logs and metrics.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "other"
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
