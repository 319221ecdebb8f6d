// Package otlptest receives spans in tests.
package otlptest

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A Receiver decodes uploads of OTLP over HTTP.
type Receiver struct {
	URL string // of the server, to which /v1/traces belongs

	mu      sync.Mutex
	spans   []*tracepb.Span
	sources []*tracepb.ResourceSpans
	headers []http.Header
	refuse  []int // statuses of the next uploads
}

// New starts a receiver, which the test's end stops.
func New(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, q *http.Request) {
		if status, err := r.take(q); err != nil {
			t.Errorf("an upload: %v", err)
			w.WriteHeader(http.StatusBadRequest)
		} else {
			w.WriteHeader(status)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *Receiver) take(q *http.Request) (status int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, q.Header)
	if len(r.refuse) > 0 {
		status, r.refuse = r.refuse[0], r.refuse[1:]
		return status, nil
	}
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(q.Body); err != nil {
			return 0, err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	var upload tracepb.TracesData
	if err := proto.Unmarshal(data, &upload); err != nil {
		return 0, err
	}
	r.sources = append(r.sources, upload.ResourceSpans...)
	for _, source := range upload.ResourceSpans {
		for _, scope := range source.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	return http.StatusOK, nil
}

// Refuse makes the receiver answer the next uploads with the statuses.
func (r *Receiver) Refuse(statuses ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = statuses
}

// Spans returns the spans received.
func (r *Receiver) Spans() []*tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Sources returns what was received, by source.
func (r *Receiver) Sources() []*tracepb.ResourceSpans {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sources)
}

// Headers returns the headers of all uploads.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.headers)
}

// Attributes returns a span's attributes as texts and numbers.
func Attributes(s *tracepb.Span) map[string]any {
	list := map[string]any{}
	for _, a := range s.Attributes {
		switch v := a.Value; {
		case v.GetStringValue() != "":
			list[a.Key] = v.GetStringValue()
		case v.GetDoubleValue() != 0:
			list[a.Key] = v.GetDoubleValue()
		default:
			list[a.Key] = v.GetIntValue()
		}
	}
	return list
}
