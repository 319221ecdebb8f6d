package server

import (
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// tracerName names the source of the spans.
const tracerName = "github.com/mlxrank/mlxrank/server"

// startSpan begins the span of a request that changes or scores something: probes, pages
// and metrics have none. It takes over the trace of the client.
func (s *Server) startSpan(a *answer, r *http.Request, rt *route) *http.Request {
	if s.tracer == nil || r.Method != http.MethodPost {
		return r
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	name, attributes := r.Method, []attribute.KeyValue{
		attribute.String("http.request.method", r.Method), attribute.String("url.scheme", scheme),
	}
	if len(rt.methods()) > 0 { // other paths are the client's words
		name += " " + rt.path
		attributes = append(attributes, attribute.String("http.route", rt.path), attribute.String("url.path", rt.path))
	}
	ctx, a.span = s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(a.start), trace.WithAttributes(attributes...))
	if !a.span.IsRecording() {
		return r
	}
	a.traced = ctx
	return r.WithContext(ctx)
}

// endSpan ends the span of a request, with a span for each stage.
func (s *Server) endSpan(e *exchange) {
	span, end := e.answer.span, e.answer.start.Add(e.took)
	if span == nil {
		return
	}
	if span.IsRecording() {
		span.SetAttributes(e.attributes()...)
		if e.answer.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		s.stageSpans(e, end)
	}
	span.End(trace.WithTimestamp(end))
}

// attributes describe an exchange, without texts, paths and keys.
func (e *exchange) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{
		attribute.Int("http.response.status_code", e.answer.status),
		attribute.Int("http.request.body.size", e.bytesIn),
		attribute.Int("http.response.body.size", e.answer.bytes),
		attribute.String("mlxrank.request_id", e.answer.id),
	}
	text := func(name, value string) {
		if value != "" {
			list = append(list, attribute.String(name, value))
		}
	}
	number := func(name string, value int) {
		if value > 0 {
			list = append(list, attribute.Int(name, value))
		}
	}
	if e.answer.status >= http.StatusBadRequest {
		text("error.type", e.kind())
	}
	if c := e.answer.client; c != nil {
		text("mlxrank.key", c.Name)
	}
	text("mlxrank.format", e.format)
	if e.model != nil {
		text("mlxrank.model", e.model.name)
	}
	number("mlxrank.pairs", e.documents)
	text("mlxrank.priority", string(e.priority))
	if e.deadline > 0 {
		list = append(list, attribute.Float64("mlxrank.deadline_ms", telemetry.Milliseconds(e.deadline)))
	}
	if r := e.result; r != nil {
		number("mlxrank.tokens", r.Tokens+r.CachedTokens)
		number("mlxrank.batches", r.Batches)
		number("mlxrank.truncated", r.Truncated)
		number("mlxrank.unscored", len(r.Unscored))
		number("mlxrank.cache_hits", r.CacheHits)
		number("mlxrank.cache_misses", r.CacheMisses)
	}
	return list
}

// stageSpans adds a span for each stage of a request with scores. All but the last add up
// to X-Total-Time. The engine knows how long each stage took in all; the spans lie end to
// end, although stages of several batches alternate.
func (s *Server) stageSpans(e *exchange, end time.Time) {
	if e.result == nil || e.latency == 0 {
		return
	}
	at, scored := e.answer.start, e.answer.start.Add(e.latency)
	add := func(name string, until time.Time) {
		if !until.After(at) {
			return
		}
		_, span := s.tracer.Start(e.answer.traced, name, trace.WithTimestamp(at))
		span.End(trace.WithTimestamp(until))
		at = until
	}
	t := e.result.Timings
	add("read", e.scored.Add(-t.Latency))
	add("tokenization", at.Add(t.Tokenization))
	add("queue_wait", at.Add(t.QueueWait))
	add("inference", at.Add(t.Inference))
	add("other", scored)
	add("write", end)
}
