package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// An api is a scoring route and the form of its requests and errors.
type api struct {
	path  string
	body  func(query string, documents ...string) string
	error string // the field with the message
}

func quoted(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func documentsBody(field string) func(string, ...string) string {
	return func(query string, documents ...string) string {
		return quoted(map[string]any{"query": query, field: append([]string{}, documents...)})
	}
}

var apis = []api{
	{"/rerank", documentsBody("texts"), "error"},
	{"/v1/rerank", documentsBody("documents"), "detail"},
	{"/v2/rerank", documentsBody("documents"), "message"},
	{"/predict", func(query string, documents ...string) string {
		pairs := [][2]string{}
		for _, d := range documents {
			pairs = append(pairs, [2]string{query, d})
		}
		return quoted(map[string]any{"inputs": pairs})
	}, "error"},
	{"/score", func(query string, documents ...string) string {
		return quoted(map[string]any{"text_1": query, "text_2": append([]string{}, documents...)})
	}, "error.message"},
	{"/voyage/v1/rerank", documentsBody("documents"), "detail"},
	{"/infinity/rerank", documentsBody("documents"), "error.message"},
	{"/weaviate/rerank", documentsBody("documents"), "error"},
	{"/", func(query string, documents ...string) string { // Hugging Face's inference endpoints
		return quoted(map[string]any{"inputs": map[string]any{"query": query, "texts": append([]string{}, documents...)}})
	}, "error"},
}

// everyPath lists the APIs at all of their paths.
func everyPath() []api {
	list := slices.Clone(apis)
	for path, like := range map[string]int{
		"/invocations": 0, "/hf-inference/models/m/pipeline/text-classification": 3, "/v1/score": 4, "/voyage/rerank": 5, "/infinity/v1/rerank": 6,
	} {
		a := apis[like]
		a.path = path
		list = append(list, a)
	}
	return list
}

// A row of the contract causes one status on every API.
type row struct {
	name    string
	status  int
	kind    string // TEI's error_type
	message string // part of it
	retry   bool   // Retry-After is there

	config  func(*Config)
	before  func(context.Context) error // the engine's
	logit   float32
	ctx     func() context.Context
	headers []string
	body    func(a api) string
	drain   bool
}

func fails(err error) func(context.Context) error { return func(context.Context) error { return err } }

func waits(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func gone() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	return ctx
}

func text(s string) func(api) string { return func(api) string { return s } }

var contract = []row{
	{name: "no body", status: 400, kind: kindValidation, message: "body is required", body: text("")},
	{name: "no JSON", status: 400, kind: kindValidation, message: "validation failed", body: text(`{"query": "q`)},
	{name: "no deadline", status: 400, kind: kindValidation, message: "X-Deadline-Ms", headers: []string{"X-Deadline-Ms", "0"}},
	{name: "no priority", status: 400, kind: kindValidation, message: "X-Priority", headers: []string{"X-Priority", "high"}},
	{name: "an empty deadline", status: 400, kind: kindValidation, message: "X-Deadline-Ms", headers: []string{"X-Deadline-Ms", ""}},
	{name: "an empty priority", status: 400, kind: kindValidation, message: "X-Priority", headers: []string{"X-Priority", ""}},
	{name: "no key", status: 401, kind: kindUnauthorized, message: "Bearer KEY", config: func(c *Config) { c.Key = "secret" }},
	{name: "wrong key", status: 401, kind: kindUnauthorized, message: "Bearer KEY", config: func(c *Config) { c.Key = "secret" }, headers: []string{"Authorization", "Bearer secrets"}},
	{name: "strange name", status: 403, kind: kindForbidden, message: "--allowed-host", headers: []string{"Host", "evil.example.org:8437"}},
	{name: "other site", status: 403, kind: kindForbidden, message: "--cors-origin", headers: []string{"Origin", "https://evil.example.org"}},
	{name: "unknown model", status: 404, kind: kindNotFound, message: "model is not served: expected one of fake", body: func(a api) string {
		return strings.Replace(a.body("q", "d"), "{", `{"model": "fake2", `, 1)
	}},
	{name: "body too large", status: 413, kind: kindValidation, message: "exceeds 64 bytes", config: func(c *Config) { c.Limits.BodyBytes = 64 },
		body: func(a api) string { return a.body("q", strings.Repeat("d", 100)) }},
	{name: "too many characters", status: 413, kind: kindValidation, message: "characters: 13 (limit 10)", config: func(c *Config) { c.Limits.Characters = 10 },
		body: func(a api) string { return a.body("q", "twelve bytes") }},
	{name: "nested too deeply", status: 400, kind: kindValidation, message: "129 levels (limit 128)", body: text(`{"x": ` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`)},
	{name: "too many values", status: 413, kind: kindValidation, message: "JSON values", body: text(`{"x": [` + strings.Repeat("[],", 60_000) + `1]}`)},
	{name: "more than the queue holds", status: 413, kind: kindValidation, message: "split it", before: fails(fmt.Errorf("%w: split it", engine.ErrTooLarge))},
	{name: "not JSON's type", status: 415, kind: kindValidation, message: "application/json", headers: []string{"Content-Type", "text/plain"}},
	{name: "no fields", status: 422, kind: kindValidation, message: "expected ", body: text(`{}`)},
	{name: "wrong type", status: 422, kind: kindValidation, message: "found a number", body: text(`{"query": 1, "texts": 2, "documents": 3, "inputs": 4, "text_1": 5}`)},
	{name: "too many documents", status: 422, kind: kindValidation, message: "documents: 3 (limit 2)", config: func(c *Config) { c.Limits.Documents = 2 },
		body: func(a api) string { return a.body("q", "1", "2", "3") }},
	{name: "too long", status: 422, kind: kindValidation, message: "pair 3", before: fails(fmt.Errorf("%w: pair 3", engine.ErrTooLong))},
	{name: "no text", status: 422, kind: kindTokenizer, message: "a word", before: fails(fmt.Errorf("%w: a word", engine.ErrText))},
	{name: "no room in the queue", status: 429, kind: kindOverloaded, message: "again later", retry: true, before: fails(fmt.Errorf("%w: try again later", engine.ErrOverloaded))},
	{name: "no room for bodies", status: 429, kind: kindOverloaded, message: "16 bytes", retry: true, config: func(c *Config) { c.Limits.BodyBytesAtOnce = 16 }},
	{name: "client gone", status: 499, kind: kindCancelled, message: "closed the connection", before: waits, ctx: gone},
	{name: "not a number", status: 500, kind: kindBackend, message: "no finite score", logit: float32(math.NaN())},
	{name: "infinite", status: 500, kind: kindBackend, message: "no finite score", logit: float32(math.Inf(1))},
	{name: "an error of the engine", status: 500, kind: kindBackend, message: "not finite", before: fails(engine.ErrNotFinite)},
	{name: "a fault", status: 500, kind: kindBackend, message: "a fault", before: fails(errors.New("engine: a fault"))},
	{name: "a panic", status: 500, kind: kindBackend, message: "internal error", before: func(context.Context) error { panic("the text") }},
	{name: "stopping", status: 503, kind: kindUnhealthy, message: "stopping", retry: true, drain: true},
	{name: "closed", status: 503, kind: kindUnhealthy, message: "stopping", retry: true, before: fails(engine.ErrClosed)},
	{name: "unhealthy", status: 503, kind: kindUnhealthy, message: "device lost", retry: true, before: fails(fmt.Errorf("%w: device lost", engine.ErrUnhealthy))},
	{name: "deadline passed", status: 504, kind: kindTimeout, message: "deadline of the request", before: waits, headers: []string{"X-Deadline-Ms", "20"}},
	{name: "too slow", status: 504, kind: kindTimeout, message: "not scored within", before: waits, config: func(c *Config) { c.Limits.RequestTimeout = 20 * time.Millisecond }},
}

// Every API answers every status in its own shape, and a rejected request executes
// nothing.
func TestContract(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	for _, a := range everyPath() {
		for _, row := range contract {
			t.Run(a.path+" "+row.name, func(t *testing.T) {
				t.Parallel()
				e := &fakeEngine{before: row.before}
				if row.logit != 0 {
					e.logit = func(engine.Pair) float32 { return row.logit }
				}
				cfg := Config{Engine: e}
				if row.config != nil {
					row.config(&cfg)
				}
				s := newServer(t, cfg)
				if row.drain {
					s.drain()
				}
				body := a.body("a query", "a document", "another")
				if row.body != nil {
					body = row.body(a)
				}
				checkFailure(t, s, a, row, body)
				if row.status != 500 && e.executed.Load() > 0 {
					t.Errorf("%d pairs were executed", e.executed.Load())
				}
				if n := s.bodies.taken.Load(); n != 0 || s.running != 0 {
					t.Errorf("%d bytes and %d requests are held", n, s.running)
				}
			})
		}
	}
}

func checkFailure(t *testing.T, s *Server, a api, row row, body string) {
	t.Helper()
	r := request(a.path, body, row.headers...)
	if row.ctx != nil {
		r = r.WithContext(row.ctx())
	}
	w := serve(s, r)
	if w.Code != row.status {
		t.Fatalf("status %d, want %d: %s", w.Code, row.status, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	if got := w.Header().Get("Retry-After"); (got != "") != row.retry {
		t.Errorf("Retry-After: %q", got)
	} else if row.retry {
		if n, err := strconv.Atoi(got); err != nil || n < 1 {
			t.Errorf("Retry-After: %q", got)
		}
	}
	if got := w.Header().Get("WWW-Authenticate"); (got != "") != (row.status == http.StatusUnauthorized) {
		t.Errorf("WWW-Authenticate: %q", got)
	}
	fields, err := errorFields(a, w.Body.Bytes())
	if err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	message := fields[a.error]
	if !strings.Contains(message, row.message) || strings.HasPrefix(message, "engine: ") {
		t.Errorf("message %q lacks %q", message, row.message)
	}
	want := 1
	switch a.error {
	case "error":
		if want = 2; fields["error_type"] != row.kind {
			t.Errorf("error_type %q, want %q", fields["error_type"], row.kind)
		}
	case "error.message":
		if want = 3; fields["type"] != row.kind || fields["code"] != strconv.Itoa(row.status) {
			t.Errorf("fields %v, want type %q and code %d", fields, row.kind, row.status)
		}
	}
	if len(fields) != want {
		t.Errorf("fields %v", fields)
	}
}

// errorFields reads an API's error; the key of the message is the API's.
func errorFields(a api, body []byte) (map[string]string, error) {
	fields := make(map[string]string)
	if a.error != "error.message" {
		return fields, json.Unmarshal(body, &fields)
	}
	var answer struct {
		Error struct {
			Message, Type string
			Code          int
		}
	}
	err := json.Unmarshal(body, &answer)
	fields[a.error], fields["type"], fields["code"] = answer.Error.Message, answer.Error.Type, strconv.Itoa(answer.Error.Code)
	return fields, err
}

// The contract is tried at every scoring route, and has every status of the user's page.
func TestContractIsWhole(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	tried := map[*route]bool{}
	for _, a := range everyPath() {
		tried[s.route(a.path)] = true
	}
	for path, route := range s.routes {
		if route.post != nil && route.post.formats != nil && !tried[route] {
			t.Errorf("the contract is not tried at %s", path)
		}
	}
	page, err := os.ReadFile("../docs/user/server.md")
	if err != nil {
		t.Fatal(err)
	}
	statuses := []string{"408"} // TestSlowClients
	for _, row := range contract {
		statuses = append(statuses, strconv.Itoa(row.status))
	}
	_, table, _ := strings.Cut(string(page), "\n## Errors\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var documented []string
	for _, found := range regexp.MustCompile(`(?m)^\| (\d{3}) \|`).FindAllStringSubmatch(table, -1) {
		documented = append(documented, found[1])
	}
	slices.Sort(statuses)
	if statuses = slices.Compact(statuses); !slices.Equal(statuses, documented) {
		t.Errorf("the contract has %v, the page %v", statuses, documented)
	}
	for _, found := range regexp.MustCompile("`(POST|GET) (/[^`]*)`").FindAllStringSubmatch(string(page), -1) {
		if rt := s.route(found[2]); !slices.Contains(rt.methods(), found[1]) && !strings.HasPrefix(found[2], "/admin") && !strings.HasPrefix(found[2], "/dashboard") {
			t.Errorf("the page has %s %s, the server does not", found[1], found[2])
		}
	}
}

// The OpenAPI document lists the statuses of the rows and no others.
func TestContractIsDocumented(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Key: "secret"})
	var document struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Responses map[string]any `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(do(s, "GET", "/openapi.json").Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %q", document.OpenAPI)
	}
	want := map[string]bool{"200": true, "408": true} // the latter needs a connection: TestSlowClients
	for _, row := range contract {
		want[strconv.Itoa(row.status)] = true
	}
	for _, a := range apis {
		got := document.Paths[a.path]["post"].Responses
		for status := range want {
			if _, ok := got[status]; !ok {
				t.Errorf("%s: status %s is not documented", a.path, status)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s documents %d statuses, want %d", a.path, len(got), len(want))
		}
	}
	for _, path := range []string{"/info", "/health", "/ready", "/ping", "/", "/v1/models", "/metrics", "/docs"} {
		if _, ok := document.Paths[path]["get"].Responses["200"]; !ok {
			t.Errorf("%s is not documented", path)
		}
	}
}

func TestEmptyLists(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for _, a := range apis {
		status, kind := 422, kindValidation
		if a.error == "error" {
			status, kind = 400, kindEmpty
		}
		checkFailure(t, s, a, row{status: status, kind: kind}, a.body("q"))
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for _, test := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"POST", "/v3/rerank", 404, ""}, {"GET", "/dashboard", 404, ""}, {"GET", "/health/x", 404, ""}, {"PUT", "/", 405, "POST, GET"},
		{"GET", "/rerank", 405, "POST"}, {"PUT", "/v2/rerank", 405, "POST"}, {"POST", "/health", 405, "GET"}, {"DELETE", "/metrics", 405, "GET"},
		{"HEAD", "/health", 200, ""}, {"GET", "/health", 200, ""}, {"GET", "/ready", 200, ""}, {"GET", "/info", 200, ""}, {"GET", "/v1/models", 200, ""},
		{"GET", "/metrics", 200, ""}, {"GET", "/openapi.json", 200, ""}, {"GET", "/docs", 200, ""}, {"GET", "/docs/swagger-ui.css", 200, ""},
	} {
		w := do(s, test.method, test.path)
		if w.Code != test.status || w.Header().Get("Allow") != test.allow {
			t.Errorf("%s %s: status %d, Allow %q: %s", test.method, test.path, w.Code, w.Header().Get("Allow"), w.Body)
		}
	}
}

func TestHealthAndReady(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{}
	s := newServer(t, Config{Engine: e})
	lost := errors.New("engine: unhealthy: device lost")
	e.unhealthy.Store(&lost)
	for _, path := range []string{"/health", "/ready"} {
		if w := do(s, "GET", path); w.Code != 503 || !strings.Contains(w.Body.String(), `"error_type":"Unhealthy"`) || !strings.Contains(w.Body.String(), "device lost") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	e.unhealthy.Store(nil)
	for _, path := range []string{"/health", "/ready"} {
		if w := do(s, "GET", path); w.Code != 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	// A batch that fails right after a probe that worked makes the server unready.
	e.heals = true
	s.Models.loaded()[0].health.last = time.Time{}
	for _, status := range []int{200, 503} {
		e.unhealthy.Store(&lost)
		if w := do(s, "GET", "/ready"); w.Code != status {
			t.Errorf("/ready: %d, want %d: %s", w.Code, status, w.Body)
		}
	}
	e.unhealthy.Store(nil)
	s.drain()
	if w := do(s, "GET", "/health"); w.Code != 200 {
		t.Errorf("/health of a server that is stopping: %d", w.Code)
	}
	if w := do(s, "GET", "/ready"); w.Code != 503 {
		t.Errorf("/ready of a server that is stopping: %d", w.Code)
	}
}

// Retry-After is the predicted wait, rounded up, or a second without a prediction.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"8": fmt.Errorf("scoring: %w", &engine.OverloadedError{RetryAfter: 7100 * time.Millisecond}),
		"1": engine.ErrOverloaded,
	} {
		s := newServer(t, Config{Engine: &fakeEngine{before: func(context.Context) error { return err }}})
		for _, a := range apis {
			w := post(s, a.path, a.body("q", "a"))
			if got := w.Header().Get("Retry-After"); w.Code != http.StatusTooManyRequests || got != want {
				t.Errorf("%s: status %d, Retry-After %q, want 429 and %s", a.path, w.Code, got, want)
			}
		}
	}
}

// The engine gets the deadline of a request, counted from its headers.
func TestEngineKnowsTheDeadline(t *testing.T) {
	t.Parallel()
	var left time.Duration
	s := newServer(t, Config{Limits: Limits{RequestTimeout: time.Minute}, Engine: &fakeEngine{before: func(ctx context.Context) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil
	}}})
	if w := post(s, "/rerank", `{"query": "q", "texts": ["a"]}`); w.Code != http.StatusOK || left > time.Minute || left < 50*time.Second {
		t.Errorf("status %d, %v left of a minute", w.Code, left)
	}
}
