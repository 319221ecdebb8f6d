package server

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestMCP checks which requests reach the handler of the protocol, and that the server
// has no other routes. The control is a server without the handler.
func TestMCP(t *testing.T) {
	t.Parallel()
	var bodies []string
	s := newServer(t, Config{Limits: Limits{BodyBytes: 100}, MCP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || int(r.ContentLength) != len(body) || r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%q of %d bytes, %v, %v", body, r.ContentLength, r.Header, err)
		}
		bodies = append(bodies, string(body))
		w.WriteHeader(http.StatusAccepted)
	})})
	for _, test := range []struct {
		name, path, body string
		headers          []string
		status           int
	}{
		{"a message", "/mcp", `{"a": 1}`, nil, 202},
		{"a path with a slash", "/mcp/", `{"a": 2}`, nil, 202},
		{"a compressed message", "/mcp", gzipped(t, `{"a": 3}`), []string{"Content-Encoding", "gzip"}, 202},
		{"a page of another site", "/mcp", `{}`, []string{"Origin", "https://evil.example"}, 403},
		{"a form", "/mcp", `{}`, []string{"Content-Type", "text/plain"}, 415},
		{"a large body", "/mcp", strings.Repeat(" ", 101), nil, 413},
		{"a compressed large body", "/mcp", gzipped(t, strings.Repeat(" ", 101)), []string{"Content-Encoding", "gzip"}, 413},
		{"another path", "/mcp/x", `{}`, nil, 404},
		{"the root", "/", `{"query": "q", "texts": ["d"]}`, nil, 404},
		{"a route for scores", "/rerank", smallRequest, nil, 404},
		{"the dashboard", "/dashboard", `{}`, nil, 404},
	} {
		if w := post(s, test.path, test.body, test.headers...); w.Code != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.name, w.Code, test.status, w.Body)
		}
	}
	if got := strings.Join(bodies, " "); got != `{"a": 1} {"a": 2} {"a": 3}` {
		t.Errorf("the handler got %s", got)
	}
	for path, status := range map[string]int{"/mcp": 405, "/health": 200, "/ready": 200, "/metrics": 200, "/docs": 404, "/openapi.json": 404, "/info": 404} {
		if w := do(s, http.MethodGet, path); w.Code != status {
			t.Errorf("GET %s: status %d, want %d", path, w.Code, status)
		}
	}
	if left := s.bodies.taken.Load(); left != 0 || s.present != 0 {
		t.Errorf("%d bytes and %d requests are left", left, s.present)
	}
	s.drain()
	if w := post(s, "/mcp", `{}`); w.Code != 503 {
		t.Errorf("while the server stops: status %d", w.Code)
	}
	if w := post(newServer(t, Config{}), "/mcp", `{}`); w.Code != 404 {
		t.Errorf("without the handler: status %d", w.Code)
	}
}
