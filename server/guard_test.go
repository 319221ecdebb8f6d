package server

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	const call = `{"query": "q", "texts": ["d"]}`
	closed, open := newServer(t, Config{}), newServer(t, Config{CORSOrigins: []string{"https://app.example.org"}})
	for _, test := range []struct {
		name          string
		headers       []string
		closed, allow int // status without and with the origin allowed
	}{
		{"no browser", nil, 200, 200},
		{"own page", []string{"Origin", "http://127.0.0.1:8437", "Sec-Fetch-Site", "same-origin"}, 200, 200},
		{"own page of an old browser", []string{"Origin", "http://127.0.0.1:8437"}, 200, 200},
		{"allowed page", []string{"Origin", "https://app.example.org", "Sec-Fetch-Site", "cross-site"}, 403, 200},
		{"other page", []string{"Origin", "https://evil.example.org", "Sec-Fetch-Site", "cross-site"}, 403, 403},
		{"other port of this machine", []string{"Origin", "http://127.0.0.1:3000", "Sec-Fetch-Site", "same-site"}, 403, 403},
		{"a file", []string{"Origin", "null"}, 403, 403},
	} {
		if w := post(closed, "/rerank", call, test.headers...); w.Code != test.closed || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: status %d, want %d; %v", test.name, w.Code, test.closed, w.Header())
		}
		w := post(open, "/rerank", call, test.headers...)
		if w.Code != test.allow {
			t.Errorf("%s, allowed: status %d, want %d", test.name, w.Code, test.allow)
		}
		if allowed := w.Header().Get("Access-Control-Allow-Origin"); (allowed != "") != (test.name == "allowed page") {
			t.Errorf("%s, allowed: Access-Control-Allow-Origin %q", test.name, allowed)
		}
	}
	all := newServer(t, Config{CORSOrigins: []string{"*"}})
	if w := post(all, "/rerank", call, "Origin", "https://any.example.org", "Sec-Fetch-Site", "cross-site"); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("all origins: %d %v", w.Code, w.Header())
	}
	for _, origin := range []string{"example.org/path", "http*://example.org", "*://example.org", "https://*.*.example.org", "https://example.org/", "", "*.example.org"} {
		if _, err := New(Config{Engine: &fakeEngine{}, CORSOrigins: []string{origin}}); err == nil || !strings.Contains(err.Error(), "https://example.org") {
			t.Errorf("origin %q: %v", origin, err)
		}
	}
}

// The * of a pattern matches labels of a host or a port, but no delimiter.
func TestOriginPatterns(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{CORSOrigins: []string{"https://*.example.org", "http://localhost:*", "https://pr-*.preview.example.net:8443"}})
	for origin, want := range map[string]bool{
		"https://a.example.org": true, "https://a.b-c.example.org": true, "HTTPS://A.Example.ORG": true, "https://xn--bcher-kva.example.org": true,
		"http://localhost:3000": true, "http://localhost:1": true, "https://pr-12.preview.example.net:8443": true,
		"https://example.org": false, "https://.example.org": false, "https://..example.org": false, "http://a.example.org": false,
		"https://evil.com/.example.org": false, "https://evil.com#.example.org": false, "https://evil.com?.example.org": false,
		"https://evil.com:1.example.org": false, "https://me@a.example.org": false, "https://a.example.org.evil.com": false,
		"https://a.example.org:8443": false, "https://evil.com\\.example.org": false, "https://a.exampleXorg": false,
		"http://localhost:3000.evil.com": false, "http://localhost:": false, "http://localhost:3000/": false, "http://localhost:@evil.com": false,
		"http://localhost.evil.com:3000": false, "https://pr-.preview.example.net:8443": false, "https://pr-1.preview.example.net": false,
	} {
		w := post(s, "/rerank", smallRequest, "Origin", origin, "Sec-Fetch-Site", "cross-site")
		if allowed := w.Header().Get("Access-Control-Allow-Origin"); (w.Code == 200) != want || (allowed == origin) != want || !want && w.Code != 403 {
			t.Errorf("%s: status %d, Access-Control-Allow-Origin %q; allowed should be %v", origin, w.Code, allowed, want)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	dashboard := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s := newServer(t, Config{Key: "secret", Dashboard: dashboard})
	for _, path := range []string{"/health", "/ready", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/dashboard", "/dashboard/app.js"} {
		if w := do(s, "GET", path); w.Code != 200 {
			t.Errorf("%s without the key: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/info", "/metrics", "/dashboard/api/events", "/nothing"} {
		for header, want := range map[string]bool{
			"": false, "secret": false, "Basic secret": false, "Bearer": false, "Bearer ": false, "Bearer secre": false, "Bearer secret2": false,
			"Bearer secret": true, "bearer secret": true, "Bearer  secret": true,
		} {
			w := do(s, "GET", path, "Authorization", header)
			if (w.Code != 401) != want {
				t.Errorf("%s with %q: %d", path, header, w.Code)
			}
		}
	}
}

// The log holds neither texts nor keys, whatever error occurs.
func TestTextsAreNotLogged(t *testing.T) {
	t.Parallel()
	for _, row := range contract {
		var log bytes.Buffer
		e := &fakeEngine{before: row.before}
		cfg := Config{Engine: e, Logger: zerolog.New(&log).Level(zerolog.DebugLevel)}
		if row.config != nil {
			row.config(&cfg)
		}
		s := newServer(t, cfg)
		for _, a := range apis {
			r := request(a.path+"?secrettext=secrettext", a.body("secrettext", "secrettext "+strings.Repeat("secrettext ", 30)), row.headers...)
			if row.ctx != nil {
				r = r.WithContext(row.ctx())
			}
			r.Header.Add("X-Secret", "secrettext")
			if r.Header.Get("Authorization") == "" {
				r.Header.Set("Authorization", "Bearer secrettext")
			}
			serve(s, r)
			serve(s, request(a.path, `{"query": "secrettext", "secrettext`))
			serve(s, request("/secrettext", "secrettext"))
		}
		if n := strings.Count(log.String(), `"message":"http"`); n != 3*len(apis) {
			t.Errorf("%s: %d events of %d requests", row.name, n, 3*len(apis))
		}
		if strings.Contains(log.String(), "secrettext") {
			t.Errorf("%s: %s", row.name, log.String())
		}
	}
}

func TestEventOfARequest(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newServer(t, Config{Logger: zerolog.New(&log).Level(zerolog.DebugLevel)})
	post(s, "/v2/rerank", `{"query": "q", "documents": ["a", "b"]}`)
	for _, field := range []string{
		`"route":"/v2/rerank"`, `"status":200`, `"pairs":2`, `"tokens":10`, `"padding_waste_pct":0`, `"latency_ms":4`, `"inference_ms":3`,
		`"tokenization_ms":0.7`, `"queue_wait_ms":0.2`, `"other_ms":0.1`, `"http_ms":`, `"bytes_in":`, `"bytes_out":`,
	} {
		if !strings.Contains(log.String(), field) {
			t.Errorf("the event lacks %s: %s", field, log.String())
		}
	}
}

var _ Engine = (*engine.Engine)(nil)
