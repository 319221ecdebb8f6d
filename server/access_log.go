package server

import (
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// An exchange is a request that has been answered.
type exchange struct {
	*outcome
	answer  *answer
	request *http.Request
	route   *route
	took    time.Duration
}

// kind returns the kind of the failure, "" without one.
func (e *exchange) kind() string {
	if e.failure == nil {
		return ""
	}
	return e.failure.kind
}

// describe adds the fields that the log and the access log share. None holds a text, a
// path or a key; the name of a key is there.
func (e *exchange) describe(event *zerolog.Event) {
	event.
		Str("request_id", e.answer.id).
		Str("method", method(e.request.Method)).
		Str("route", e.route.label()).
		Int("status", e.answer.status).
		Int("bytes_in", e.bytesIn).
		Int("bytes_out", e.answer.bytes).
		Float64("http_ms", telemetry.Milliseconds(e.took))
	if span := e.answer.span; span != nil {
		event.Stringer("trace_id", span.SpanContext().TraceID())
	}
	if c := e.answer.client; c != nil {
		event.Str("key", c.Name)
	}
	if e.failure != nil {
		event.Str("error_type", e.kind())
		if e.failure.cause != nil {
			event.Err(e.failure.cause)
		}
	}
	e.describeScoring(event)
}

// describeScoring adds what only scoring requests have.
func (e *exchange) describeScoring(event *zerolog.Event) {
	if e.format != "" {
		event.Str("format", e.format)
	}
	if e.model != nil {
		event.Str("model", e.model.name)
	}
	if e.documents > 0 {
		event.Int("pairs", e.documents)
	}
	if e.empty > 0 {
		event.Int("empty", e.empty)
	}
	if e.priority != "" {
		event.Str("priority", string(e.priority))
	}
	if e.deadline > 0 {
		event.Float64("deadline_ms", telemetry.Milliseconds(e.deadline))
	}
	r := e.result
	if r == nil {
		return
	}
	event.EmbedObject(r)
	if r.CacheHits+r.CacheMisses > 0 {
		event.Int("cache_hits", r.CacheHits).Int("cache_misses", r.CacheMisses)
	}
}

// accessTime is RFC 3339 with milliseconds.
const accessTime = "2006-01-02T15:04:05.000Z07:00"

// logAccess writes a line of the access log, if there is one.
func (s *Server) logAccess(e *exchange) {
	event := s.access.Log()
	if !event.Enabled() {
		return
	}
	event.Str("time", e.answer.start.UTC().Format(accessTime))
	if host, _, err := net.SplitHostPort(e.request.RemoteAddr); err == nil { // a Unix socket has none
		event.Str("client", host)
	}
	e.describe(event)
	event.Send()
}
