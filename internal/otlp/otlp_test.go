package otlp

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/otlp/otlptest"
)

// unsetVariables unsets the variables of OpenTelemetry for the test.
func unsetVariables(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
}

// makeSpans ends so many spans.
func makeSpans(traces *Traces, n int) {
	for range n {
		_, span := traces.Tracer("test").Start(context.Background(), "span")
		span.End()
	}
}

func TestSpansArrive(t *testing.T) {
	for _, compression := range []string{"", "gzip"} {
		unsetVariables(t)
		receiver := otlptest.New(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL+"/")
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret, x-team = search")
		t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
		t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
		var log bytes.Buffer
		traces := Start("mlxrank", "1.2.3", zerolog.New(&log))
		makeSpans(traces, 3)
		traces.Close()
		if n := len(receiver.Spans()); n != 3 {
			t.Fatalf("%d spans arrived; the log: %s", n, log.String())
		}
		h := receiver.Headers()[0]
		if h.Get("Authorization") != "Bearer secret" || h.Get("X-Team") != "search" || h.Get("Content-Type") != "application/x-protobuf" || h.Get("Content-Encoding") != compression {
			t.Errorf("the headers: %v", h)
		}
		found := map[string]string{}
		for _, a := range receiver.Sources()[0].Resource.Attributes {
			found[a.Key] = a.Value.GetStringValue()
		}
		if found["service.name"] != "mlxrank" || found["service.version"] != "1.2.3" || found["deployment.environment.name"] != "test" || found["telemetry.sdk.language"] != "go" {
			t.Errorf("the resource: %v", found)
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("the log has the key: %s", log.String())
		}
	}
}

// The variables of traces come before the general ones, and OTEL_SERVICE_NAME before the
// program's name.
func TestPrecedence(t *testing.T) {
	unsetVariables(t)
	receiver := otlptest.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.URL+"/v1/traces")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_SERVICE_NAME", "reranker")
	traces := Start("mlxrank", "1", zerolog.Nop())
	makeSpans(traces, 1)
	traces.Close()
	if len(receiver.Spans()) != 1 {
		t.Fatal("no span arrived")
	}
	if text := receiver.Sources()[0].Resource.String(); !strings.Contains(text, "reranker") || strings.Contains(text, `"mlxrank"`) {
		t.Errorf("the resource: %s", text)
	}
}

// The log names the receiver without what may be a key.
func TestReceiverIsNamedWithoutKeys(t *testing.T) {
	unsetVariables(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:secret@example.org/base?token=secret")
	if address, err := receiver(); err != nil || address != "https://example.org/base" {
		t.Errorf("%s, %v", address, err)
	}
}

func TestOff(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, test := range []struct {
		variables []string // names and values
		warning   string   // "" for none
	}{
		{nil, ""},
		{[]string{endpoint, "http://127.0.0.1:1", "OTEL_SDK_DISABLED", "True"}, ""},
		{[]string{endpoint, "http://127.0.0.1:1", exporterEnv, "none"}, ""},
		{[]string{exporterEnv, "zipkin"}, `OTEL_TRACES_EXPORTER is \"zipkin\"; expected otlp or none`},
		{[]string{endpoint, "127.0.0.1:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"},
		{[]string{endpoint, "ftp://user:secret@127.0.0.1"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"},
		{[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, `OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"; expected http/protobuf`},
	} {
		t.Run(strings.Join(test.variables, " "), func(t *testing.T) {
			unsetVariables(t)
			for pair := range slices.Chunk(test.variables, 2) {
				t.Setenv(pair[0], pair[1])
			}
			var log bytes.Buffer
			traces := Start("mlxrank", "1", zerolog.New(&log))
			traces.Close()
			if text := log.String(); traces != nil || (test.warning == "") != (text == "") || !strings.Contains(text, test.warning) || strings.Contains(text, "secret") {
				t.Errorf("%v; the log: %s", traces, text)
			}
		})
	}
}

// A variable that the SDK cannot read has no effect, and is in the log without its value.
func TestVariablesWithoutEffect(t *testing.T) {
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, value, warning string }{
		{"EXPORTER_OTLP_TRACES_TIMEOUT", "secret", "parse duration"},
		{"EXPORTER_OTLP_HEADERS", "a=b,secret", "parse headers"},
		{"EXPORTER_OTLP_HEADERS", "a=b,c=%secret", "escape header value"},
		{"EXPORTER_OTLP_CERTIFICATE", "/secret", "read tls ca cert file"},
		{"EXPORTER_OTLP_CERTIFICATE", certificate, "create tls cert pool"},
		{"BSP_MAX_QUEUE_SIZE", "-1", "OTEL_BSP_MAX_QUEUE_SIZE; expected a whole number from 1 to "},
		{"BSP_MAX_QUEUE_SIZE", "99999999999999", "OTEL_BSP_MAX_QUEUE_SIZE; expected"},
		{"BSP_MAX_EXPORT_BATCH_SIZE", "-1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE; expected"},
		{"BSP_SCHEDULE_DELAY", "0", "OTEL_BSP_SCHEDULE_DELAY; expected"},
		{"BSP_EXPORT_TIMEOUT", "secret", "OTEL_BSP_EXPORT_TIMEOUT; expected"},
	} {
		t.Run(test.name+" "+test.value, func(t *testing.T) {
			unsetVariables(t)
			receiver := otlptest.New(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
			t.Setenv("OTEL_"+test.name, test.value)
			var log bytes.Buffer
			traces := Start("mlxrank", "1", zerolog.New(&log))
			makeSpans(traces, 1)
			traces.Close()
			text := log.String()
			if !strings.Contains(text, "has no effect: "+test.warning) || strings.Contains(text, "secret") {
				t.Errorf("the log: %s", text)
			}
			if n := len(receiver.Spans()); n != 1 {
				t.Errorf("%d spans arrived", n)
			}
		})
	}
}

// A receiver that is overloaded gets the same spans again; one that refuses them does not.
func TestRepetition(t *testing.T) {
	unsetVariables(t)
	receiver := otlptest.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	var log bytes.Buffer
	traces := Start("mlxrank", "1", zerolog.New(&log))
	upload := func(want int, statuses ...int) {
		t.Helper()
		receiver.Refuse(statuses...)
		makeSpans(traces, 2)
		if err := traces.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(receiver.Spans()); n != want {
			t.Errorf("%d spans after %v, want %d", n, statuses, want)
		}
	}
	upload(2, http.StatusServiceUnavailable)
	upload(2, http.StatusForbidden)
	upload(2, http.StatusBadRequest)
	upload(4)
	traces.Close()
	if text := log.String(); strings.Count(text, "cannot be sent") != 1 || strings.Count(text, `"lost_spans":4`) != 1 || !strings.Contains(text, "403 Forbidden") {
		t.Errorf("the log: %s", text)
	}
}

// A safeBuffer may be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(data)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// Without a receiver, or with one that never answers, ending spans takes no time and
// closing a bounded one. The log has one warning.
func TestReceiverIsDown(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := silent.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, address := range []string{"127.0.0.1:1", silent.Addr().String()} {
		unsetVariables(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+address)
		t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
		var log safeBuffer // an upload that Close has given up may still end
		traces := Start("mlxrank", "1", zerolog.New(&log))
		makeSpans(traces, 20_000) // ten times the queue
		start := time.Now()
		traces.Close()
		if took := time.Since(start); took > 10*closeTime {
			t.Errorf("%s: Close took %v", address, took)
		}
		if n := strings.Count(log.String(), "cannot be sent"); n > 1 {
			t.Errorf("%s: %d warnings: %s", address, n, log.String())
		}
	}
}
