package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/otlp"
	"github.com/mlxrank/mlxrank/internal/otlp/otlptest"
)

// startTraces returns traces to a receiver. close waits until the spans are there.
func startTraces(t testing.TB) (traces *otlp.Traces, spans func() []*tracepb.Span) {
	t.Helper()
	receiver := otlptest.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	traces = otlp.Start("mlxrank", "test", zerolog.Nop())
	t.Cleanup(traces.Close)
	return traces, func() []*tracepb.Span {
		if err := traces.ForceFlush(context.Background()); err != nil {
			t.Error(err)
		}
		return receiver.Spans()
	}
}

const (
	clientTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
)

// A request has a span in the client's trace, and one for each stage. They add up to
// X-Total-Time, and the stages are as long as the headers say.
func TestTraceOfARequest(t *testing.T) {
	traces, spans := startTraces(t)
	var access bytes.Buffer
	s := newServer(t, Config{Engine: openTiny(t, engine.Config{Cache: openCache(t)}), Traces: traces, AccessLog: &access, Keys: newKeys(t, newKey("team"))})
	body := `{"query": "secrettext", "documents": ["water secrettext", "london is a city"], "deadline_ms": 9000}`
	w := post(s, "/v2/rerank?secrettext", body, "traceparent", "00-"+clientTrace+"-"+clientSpan+"-01", "tracestate", "vendor=x",
		headerRequestID, "r-1", headerPriority, "batch", "Authorization", "Bearer token-of-team", "User-Agent", "secrettext")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	all := spans()
	root := all[slices.IndexFunc(all, func(s *tracepb.Span) bool { return s.Kind == tracepb.Span_SPAN_KIND_SERVER })]
	if root.Name != "POST /v2/rerank" || hex.EncodeToString(root.TraceId) != clientTrace || hex.EncodeToString(root.ParentSpanId) != clientSpan || root.TraceState != "vendor=x" {
		t.Errorf("the span: %v", root)
	}
	attributes := otlptest.Attributes(root)
	for name, want := range map[string]any{
		"http.request.method": "POST", "http.route": "/v2/rerank", "url.scheme": "http", "url.path": "/v2/rerank", "http.response.status_code": int64(200),
		"http.request.body.size": int64(len(body)), "http.response.body.size": int64(w.Body.Len()), "mlxrank.request_id": "r-1", "mlxrank.key": "team",
		"mlxrank.format": "cohere", "mlxrank.pairs": int64(2), "mlxrank.priority": "batch", "mlxrank.deadline_ms": 9000., "mlxrank.cache_misses": int64(2),
	} {
		if attributes[name] != want {
			t.Errorf("%s is %v, want %v", name, attributes[name], want)
		}
	}
	if tokens, err := strconv.ParseInt(w.Header().Get("X-Compute-Tokens"), 10, 64); err != nil || attributes["mlxrank.tokens"] != tokens || attributes["mlxrank.model"] == nil {
		t.Errorf("tokens and model: %v", attributes)
	}
	checkStages(t, w.Header(), root, all)
	for _, span := range all {
		if strings.Contains(span.String(), "secrettext") || strings.Contains(span.String(), "token-of") || strings.Contains(span.String(), "london") {
			t.Errorf("a text or a key: %v", span)
		}
	}
	if !strings.Contains(access.String(), `"trace_id":"`+clientTrace+`"`) {
		t.Errorf("the access log: %s", access.String())
	}
}

// checkStages adds up the stages of a request.
func checkStages(t *testing.T, h http.Header, root *tracepb.Span, all []*tracepb.Span) {
	t.Helper()
	at, sum, took := root.StartTimeUnixNano, uint64(0), map[string]uint64{}
	for _, span := range all {
		if span == root {
			continue
		}
		if string(span.ParentSpanId) != string(root.SpanId) || span.StartTimeUnixNano != at {
			t.Errorf("a stage does not follow the one before it: %v", span)
		}
		at = span.EndTimeUnixNano
		took[span.Name] = span.EndTimeUnixNano - span.StartTimeUnixNano
		if span.Name != "write" {
			sum += took[span.Name]
		}
	}
	if at != root.EndTimeUnixNano {
		t.Errorf("the stages end at %d, the request at %d", at, root.EndTimeUnixNano)
	}
	for header, got := range map[string]uint64{
		"X-Total-Time-Us": sum, "X-Tokenization-Time-Us": took["tokenization"], "X-Queue-Time-Us": took["queue_wait"], "X-Inference-Time-Us": took["inference"],
	} {
		if want := h.Get(header); strconv.FormatUint(got/1000, 10) != want {
			t.Errorf("%s is %s, the spans have %d ns: %v", header, want, got, took)
		}
	}
}

// Errors of the server are errors of the span, errors of the client are not. Probes and
// pages have no span.
func TestTracesOfFailures(t *testing.T) {
	traces, spans := startTraces(t)
	broken := engine.ErrUnhealthy
	e := &fakeEngine{before: func(context.Context) error { return broken }}
	s := newServer(t, Config{Engine: e, Traces: traces})
	post(s, "/rerank", `{"query": "q", "texts": ["a"]}`)
	post(s, "/rerank", `{}`)
	post(s, "/secrettext", `{}`)
	do(s, "GET", "/health")
	do(s, "GET", "/metrics")
	got := spans()
	if len(got) != 3 {
		t.Fatalf("%d spans", len(got))
	}
	for i, want := range []struct {
		name, kind string
		status     int64
		code       tracepb.Status_StatusCode
	}{
		{"POST /rerank", kindUnhealthy, 503, tracepb.Status_STATUS_CODE_ERROR},
		{"POST /rerank", kindValidation, 422, tracepb.Status_STATUS_CODE_UNSET},
		{"POST", kindNotFound, 404, tracepb.Status_STATUS_CODE_UNSET},
	} {
		a := otlptest.Attributes(got[i])
		if got[i].Name != want.name || a["error.type"] != want.kind || a["http.response.status_code"] != want.status || got[i].Status.GetCode() != want.code {
			t.Errorf("span %d: %v", i, got[i])
		}
	}
}

// The client's decision not to record counts, and OTEL_TRACES_SAMPLER without one.
func TestSampling(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
	traces, spans := startTraces(t)
	s := newServer(t, Config{Engine: &fakeEngine{}, Traces: traces})
	roots := func() (n int) {
		for _, span := range spans() {
			if span.Kind == tracepb.Span_SPAN_KIND_SERVER {
				n++
			}
		}
		return n
	}
	const body = `{"query": "q", "texts": ["a"]}`
	post(s, "/rerank", body, "traceparent", "00-"+clientTrace+"-"+clientSpan+"-00")
	if n := roots(); n != 0 {
		t.Fatalf("%d spans of a trace that is not sampled", n)
	}
	post(s, "/rerank", body, "traceparent", "00-"+clientTrace+"-"+clientSpan+"-01")
	post(s, "/rerank", body, "traceparent", "00-"+clientTrace+"-"+clientSpan+"-01-")
	if n := roots(); n < 1 || n > 2 {
		t.Fatalf("%d spans of a sampled trace", n)
	}
	before, requests := roots(), 300
	for range requests {
		post(s, "/rerank", body)
	}
	if n := roots() - before; n < 5 || n > 80 {
		t.Errorf("%d of %d requests are sampled with a ratio of 0.1", n, requests)
	}
}

// BenchmarkTraces compares a request without traces, one of a trace that is not sampled,
// and one whose spans are sent. The engine is a fake, so that the server's part is all.
func BenchmarkTraces(b *testing.B) {
	drop := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	traces, _ := startTraces(b)
	for _, test := range []struct {
		name string
		cfg  Config
	}{
		{"off", Config{}}, {"unsampled", Config{Traces: drop}}, {"sampled", Config{Traces: traces}},
	} {
		b.Run(test.name, func(b *testing.B) {
			test.cfg.Engine = &fakeEngine{}
			s := newServer(b, test.cfg)
			b.ReportAllocs()
			for b.Loop() {
				if w := post(s, "/rerank", `{"query": "q", "texts": ["a", "b"]}`); w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
