// Package otlp makes spans of OpenTelemetry's SDK reach a receiver, as the standard
// variables of the environment say. It speaks OTLP over HTTP by a client of its own: the
// SDK's client links gRPC, which is ten times as large as the rest.
package otlp

import (
	"context"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// closeTime bounds how long Close waits for a receiver.
const closeTime = 3 * time.Second

// Traces makes spans and sends them from a goroutine of its own. Nobody waits for it:
// what exceeds its queue is lost.
type Traces struct {
	*trace.TracerProvider
	client *client
}

// Start returns nil unless the environment asks for traces. A variable that is wrong turns
// them off with a warning, since a program must not fail for its observers.
func Start(service, version string, log zerolog.Logger) *Traces {
	if !wanted() {
		return nil
	}
	s, err := readSettings()
	if err != nil {
		log.Warn().Err(err).Msg("traces are off")
		return nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn().Err(err).Msg("traces") }))
	ctx, c := context.Background(), newClient(s, log)
	exporter, err := otlptrace.New(ctx, c)
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
	log.Info().Str("receiver", s.url.Redacted()).Msg("sending traces")
	return &Traces{trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(source)), c}
}

// Close sends the spans that have ended, for at most closeTime. The client has logged what
// could not be sent.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	t.client.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := t.Shutdown(ctx)
	t.client.cancel()
	if err != nil {
		t.client.log.Warn().Err(err).Msg("traces: the last spans are lost")
	}
}
