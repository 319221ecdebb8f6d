package mcp

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/files"
	"github.com/mlxrank/mlxrank/server"
)

var argumentSeeds = []string{
	`{"query": "city", "documents": ["water", "london"], "top_n": 1, "deadline_ms": 60000}`, `{"query": "city", "paths": ["../x", "/etc/passwd", "*.md"]}`,
	`{"query": "", "documents": []}`, `{"query": "q", "documents": ["a"], "paths": ["b"]}`, `{"query": "q", "documents": null, "top_n": 1.5}`,
	`{"query": "\ud800", "documents": ["\u0000"]}`, `{"query": "q", "documents": ["a"], "top_n": 1e300}`, `{"query": 1}`, `{"querry": "q"}`, `[]`, `null`, ``,
}

// FuzzArguments parses arbitrary arguments of the tool. Those that are accepted are whole.
func FuzzArguments(f *testing.F) {
	for _, seed := range argumentSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := parseArguments(data)
		if err == nil && (in.Query == "" || in.TopN < 1 || in.DeadlineMS < 0 || (len(in.Documents) > 0) == (len(in.Paths) > 0)) {
			t.Errorf("%q is accepted as %+v", data, in)
		}
	})
}

// FuzzMessages sends arbitrary messages of the protocol over HTTP to a server with a root
// that is empty.
func FuzzMessages(f *testing.F) {
	const call = `{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "rerank", "arguments": ARGUMENTS}}`
	for _, seed := range argumentSeeds {
		f.Add([]byte(strings.Replace(call, "ARGUMENTS", seed, 1)))
	}
	for _, seed := range []string{
		`{"jsonrpc": "2.0", "id": "a", "method": "tools/list"}`, `{"jsonrpc": "2.0", "method": "notifications/initialized"}`, `{"jsonrpc": "2.0", "id": null, "method": "ping"}`,
		`[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]`, `{"jsonrpc": "1.0"}`, `{"jsonrpc": "2.0", "id": 1, "result": {}}`,
	} {
		f.Add([]byte(seed))
	}
	roots, err := files.OpenRoots([]string{f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := roots.Close(); err != nil {
			f.Error(err)
		}
	})
	e := clitest.OpenEngine(f, clitest.TinyModel(f))
	s, err := server.New(server.Config{Engine: e, MCP: newHandler(newServer(newTool(e, roots, server.DefaultLimits())))})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "http://localhost/mcp", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code >= 500 || w.Code == 200 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("status %d: %q", w.Code, w.Body)
		}
	})
}
