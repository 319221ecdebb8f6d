// Package otlp makes spans of OpenTelemetry's SDK reach a receiver by OTLP over HTTP, as
// the standard variables of the environment say.
package otlp

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// closeTime bounds how long Close waits for a receiver.
const closeTime = 3 * time.Second

// Traces makes spans and sends them from a goroutine of its own. No request waits for
// it: what exceeds its queue is lost.
type Traces struct {
	*trace.TracerProvider
	log zerolog.Logger
}

// Start returns nil unless the environment asks for traces. A variable that is wrong turns
// them off with a warning, since a program must not fail for its observers.
func Start(service, version string, log zerolog.Logger) *Traces {
	if !wanted() {
		return nil
	}
	address, err := receiver()
	if err != nil {
		log.Warn().Err(err).Msg("traces are off")
		return nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn().Err(err).Msg("traces") }))
	otel.SetLogger(logr.New(settingsLog{log: log}))
	ctx := context.Background()
	sender, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Warn().Err(err).Msg("traces are off")
		return nil
	}
	source, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil { // source has what could be read
		log.Warn().Err(err).Msg("traces: attributes of the resource")
	}
	log.Info().Str("receiver", address).Msg("sending traces")
	exporter := &exporter{SpanExporter: sender, log: log}
	return &Traces{trace.NewTracerProvider(trace.WithBatcher(exporter, batching(log)...), trace.WithResource(source)), log}
}

// Close sends the spans that have ended, for at most closeTime. The exporter has logged
// what could not be sent.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := t.Shutdown(ctx); err != nil {
		t.log.Warn().Err(err).Msg("traces: the last spans are lost")
	}
}

// An exporter logs the first of several failures, and the success after them.
type exporter struct {
	trace.SpanExporter
	log zerolog.Logger

	mu   sync.Mutex
	lost int // spans since the last success
}

// ExportSpans reports failures to the log and not to its caller, which would print each.
func (e *exporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && e.lost == 0:
		e.log.Warn().Err(err).Msg("traces cannot be sent; they are lost until the receiver takes them")
	case err == nil && e.lost > 0:
		e.log.Info().Int("lost_spans", e.lost).Msg("traces are sent again")
	}
	if e.lost += len(spans); err == nil {
		e.lost = 0
	}
	return nil
}

// A settingsLog gets the SDK's messages, such as which variable it cannot read. It drops
// their values, which may be keys.
type settingsLog struct{ log zerolog.Logger }

// Init does nothing.
func (settingsLog) Init(logr.RuntimeInfo) {}

// Enabled reports whether a message matters: only errors do.
func (settingsLog) Enabled(int) bool { return false }

// Info does nothing.
func (settingsLog) Info(int, string, ...any) {}

// Error logs a message of the SDK.
func (l settingsLog) Error(_ error, message string, _ ...any) {
	l.log.Warn().Msgf("traces: a variable of OpenTelemetry has no effect: %s", message)
}

// WithValues returns the log without the values.
func (l settingsLog) WithValues(...any) logr.LogSink { return l }

// WithName returns the log without the name.
func (l settingsLog) WithName(string) logr.LogSink { return l }
