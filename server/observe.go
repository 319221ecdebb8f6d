package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/mlxrank/mlxrank/engine"
)

// An outcome holds what a handler returns in addition to its answer: figures for
// metrics and logs, and the failure that serveHTTP must answer.
type outcome struct {
	failure    *failure
	bytesIn    int
	documents  int
	empty      int // documents without text
	characters int
	model      *loadedModel   // that scored, nil if the request got none
	result     *engine.Result // nil if nothing was scored
	scored     time.Time      // when the engine returned the result
	format     string         // of the body, "" if none was found
	priority   engine.Priority
	latency    time.Duration // from the request's headers to its scores
	deadline   time.Duration // from the request's headers to the client's deadline, 0 for none
}

// An answer writes the response to one request and remembers what was written.
type answer struct {
	http.ResponseWriter
	start  time.Time // of the request
	id     string    // of the request, for logs and traces
	client *client   // whoever sends the request, nil without one of Config.Keys
	shape  shape     // of an error
	begin  func()    // runs before the headers are written
	status int       // 0 until then
	bytes  int
	span   trace.Span      // of the request, nil without traces
	traced context.Context // of the spans of its stages, nil if the span is not recorded
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
	return n, err
}

// Unwrap serves http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush serves handlers that look for http.Flusher.
func (a *answer) Flush() {
	if err := http.NewResponseController(a.ResponseWriter).Flush(); err != nil {
		return // the client is gone
	}
}

func (a *answer) sendJSON(status int, data []byte) {
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(status)
	if _, err := a.Write(data); err != nil {
		return // the client is gone
	}
}

// fail answers with an error. All errors go through it.
func (a *answer) fail(f *failure) {
	f.setHeaders(a.Header())
	a.sendJSON(f.status, encode(f.body(a.shape)))
}

// encode returns v as a line of JSON.
func encode(v any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // our own types always marshal, and numbers are finite
	}
	return out.Bytes()
}

// serveHTTP answers, counts and logs a request.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	r = s.plainPath(r)
	rt := s.route(r.URL.Path)
	body := watchBody(r)
	a := &answer{ResponseWriter: w, start: start, id: requestID(r.Header), shape: rt.shape, begin: func() {
		if s.retiring.Load() {
			w.Header().Set("Connection", "close")
		}
		settleBody(w, r, body)
		if !rt.dashboard {
			setDeadline(http.NewResponseController(w).SetWriteDeadline, time.Now().Add(s.Limits.WriteTimeout))
		}
	}}
	w.Header().Set(headerRequestID, a.id)
	r = s.startSpan(a, r, rt)
	var o outcome
	s.metrics.inFlight.Inc()
	defer func() {
		if v := recover(); v != nil {
			o = s.recovered(v, rt, a.id)
		}
		switch {
		case a.status != 0: // answered
		case o.failure != nil:
			a.fail(o.failure)
		default:
			a.WriteHeader(http.StatusOK)
		}
		leaveBody(w, body)
		s.metrics.inFlight.Dec()
		s.ended(&o, a, r, rt)
	}()
	o = s.handle(a, r, rt)
}

// recovered returns the outcome of a request whose handler panicked. The value
// of the panic may hold a text, so the stack is logged instead.
func (s *Server) recovered(v any, rt *route, id string) outcome {
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	s.Logger.Error().Str("route", rt.label()).Str("request_id", id).Bytes("stack", debug.Stack()).Msg("panic")
	return outcome{failure: failf(http.StatusInternalServerError, kindBackend, "internal error")}
}

// ended counts and logs a request.
func (s *Server) ended(o *outcome, a *answer, r *http.Request, rt *route) {
	took := time.Since(a.start)
	e := exchange{o, a, r, rt, took}
	s.metrics.observe(&e)
	if a.client != nil {
		s.metrics.byKey.WithLabelValues(a.client.Name, strconv.Itoa(a.status)).Inc()
	}
	level := zerolog.DebugLevel
	if a.status >= http.StatusInternalServerError && e.kind() != kindUnhealthy {
		level = zerolog.WarnLevel
	}
	if o.result != nil && len(o.result.Unscored) == o.documents && o.documents > 0 { // as useless as 504
		level = zerolog.WarnLevel
	}
	s.endSpan(&e)
	if event := s.Logger.WithLevel(level); event.Enabled() {
		e.describe(event)
		event.Msg("http")
	}
	s.logAccess(&e)
}

// method keeps made-up methods out of logs and metrics.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "other"
}
