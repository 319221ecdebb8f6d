package serve

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/internal/otlp/otlptest"
)

// TestServeTraces checks that the environment turns traces on, that a server sends them
// before it ends, and that the access log names the same request and trace.
func TestServeTraces(t *testing.T) {
	receiver := otlptest.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	out, log := &bytes.Buffer{}, &addressWriter{address: make(chan string, 1)}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan int, 1)
	go func() {
		ended <- runProgram(ctx, []string{"mlxrank", "serve", "--listen", "127.0.0.1:0", "--model", clitest.TinyModel(t), "--access-log", "-"}, command.Streams{In: strings.NewReader(""), Out: out, Err: log})
	}()
	var address string
	select {
	case address = <-log.address:
	case <-ended:
		t.Fatal(log.String())
	}
	answer, err := http.Post(address+"/rerank", "application/json", strings.NewReader(`{"query": "q", "texts": ["a"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status, err)
	}
	stop()
	if status := <-ended; status != command.ExitOK {
		t.Fatalf("status %d: %s", status, log.String())
	}
	var root *tracepb.Span
	for _, span := range receiver.Spans() {
		if span.Kind == tracepb.Span_SPAN_KIND_SERVER {
			root = span
		}
	}
	if root == nil {
		t.Fatalf("no span arrived: %s", log.String())
	}
	id := answer.Header.Get("X-Request-Id")
	if got := otlptest.Attributes(root)["mlxrank.request_id"]; got != id {
		t.Errorf("the span is of request %v, want %s", got, id)
	}
	if line := out.String(); strings.Count(line, "\n") != 1 || !strings.Contains(line, `"request_id":"`+id+`"`) || !strings.Contains(line, `"trace_id":"`) {
		t.Errorf("the access log: %s", line)
	}
}
