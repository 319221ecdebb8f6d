package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

// The admin route exists only if it is asked for, and needs the key.
func TestAdminAccess(t *testing.T) {
	t.Parallel()
	m := newModels(t, newShelf(t), ModelsConfig{Names: []string{"a"}})
	const change = `{"action": "load", "model": "a"}`
	off := newServer(t, Config{Models: m, Key: "secret"})
	if w := post(off, "/admin/models", change, "Authorization", "Bearer secret"); w.Code != 404 {
		t.Errorf("without Admin: %d %s", w.Code, w.Body)
	}
	s := newServer(t, Config{Models: m, Key: "secret", Admin: true, CORSOrigins: []string{"https://app.example.org"}})
	for _, test := range []struct {
		headers []string
		status  int
	}{
		{nil, 401},
		{[]string{"Authorization", "Bearer secrets"}, 401},
		{[]string{"Authorization", "Bearer secret"}, 200},
		{[]string{"Authorization", "Bearer secret", "Origin", "https://app.example.org", "Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Authorization", "Bearer secret", "Content-Type", "text/plain"}, 415},
	} {
		if w := post(s, "/admin/models", change, test.headers...); w.Code != test.status {
			t.Errorf("%q: %d %s, want %d", test.headers, w.Code, w.Body, test.status)
		}
	}
	if w := do(s, http.MethodGet, "/admin/models"); w.Code != 401 {
		t.Errorf("GET without the key: %d", w.Code)
	}
	if w := do(s, http.MethodGet, "/admin/models", "Authorization", "Bearer secret"); w.Code != 200 || !strings.Contains(w.Body.String(), `"id":"a"`) {
		t.Errorf("GET: %d %s", w.Code, w.Body)
	}
}

func TestAdminChanges(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	shelf.delay = func(_ context.Context, name string) error {
		if name == "broken" {
			return errors.New("no weights in /models/broken")
		}
		return nil
	}
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b"}, Aliases: map[string]string{"live": "a"}})
	s := newServer(t, Config{Models: m, Key: "secret", Admin: true})
	for _, test := range []struct {
		change string
		status int
		want   string
	}{
		{`{"action": "load", "model": "c"}`, 200, `"id":"c","aliases":[],"default":false,"state":"loaded"`},
		{`{"action": "alias", "alias": "live", "model": "c"}`, 200, `"id":"c","aliases":["live"]`},
		{`{"action": "default", "model": "live"}`, 200, `{"models":[{"id":"c","aliases":["live"],"default":true`},
		{`{"action": "unload", "model": "live"}`, 200, `"id":"c","aliases":["live"],"default":true,"state":"unloaded"`},
		{`{"action": "remove", "model": "a"}`, 200, `{"models":[{"id":"c"`},
		{`{"action": "remove", "model": "a"}`, 404, "expected one of b, c, live"},
		{`{"action": "remove", "model": "c"}`, 422, "make another one the default first"},
		{`{"action": "unload", "model": "x"}`, 404, "model is not served"},
		{`{"action": "load", "model": "broken"}`, 422, "no weights in /models/broken"},
		{`{"action": "alias", "alias": "x", "model": "broken"}`, 422, "no weights in /models/broken"},
		{`{"action": "default", "model": "broken"}`, 422, "no weights in /models/broken"},
		{`{"action": "unload", "model": "broken"}`, 404, "expected one of b, c, live"},
		{`{"action": "alias", "alias": "b", "model": "c"}`, 422, "alias b is the name of a model"},
		{`{"action": "alias", "alias": "builtin", "model": "c"}`, 422, "alias builtin is the name of a model"},
		{`{"action": "alias", "alias": "a b", "model": "c"}`, 422, "has a space or a control character"},
		{`{"action": "alias", "alias": "a\n", "model": "c"}`, 422, "has a space or a control character"},
		{`{"action": "alias", "alias": "a\u00a0", "model": "c"}`, 422, "has a space or a control character"},
		{`{"action": "alias", "alias": "a\u202eb", "model": "c"}`, 422, "has a space or a control character"},
		{`{"action": "alias", "alias": "a b", "model": "never-loaded"}`, 422, "has a space or a control character"},
		{`{"action": "load", "model": "a\nb"}`, 422, "has a control character"},
		{`{"action": "unload", "model": "never-loaded"}`, 404, "expected one of b, c, live"},
		{`{"action": "alias", "model": "c"}`, 422, "alias is for the action alias"},
		{`{"action": "load", "model": "c", "alias": "x"}`, 422, "alias is for the action alias"},
		{`{"action": "burn", "model": "c"}`, 422, "expected one of load, unload, remove, default, alias"},
		{`{"action": "load"}`, 422, "model"},
		{`{"action": "load", "model": ""}`, 422, "model"},
		{``, 400, "body is required"},
	} {
		w := post(s, "/admin/models", test.change, "Authorization", "Bearer secret")
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s: %d %s, want %d %s", test.change, w.Code, w.Body, test.status, test.want)
		}
	}
	for asked, want := range map[string]string{"": "c", "live": "c", "b": "b"} {
		w := post(s, "/v1/rerank", named(asked, "documents", "x"), "Authorization", "Bearer secret")
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"model":"`+want+`"`) {
			t.Errorf("model %q: %d %s, want %s", asked, w.Code, w.Body, want)
		}
	}
	// Pairs of removed models still count.
	if m.Stats().Pairs != 3 || len(m.slots) != 2 {
		t.Errorf("%d pairs, %d models", m.Stats().Pairs, len(m.slots))
	}
	for i := range mostModels {
		w := post(s, "/admin/models", `{"action": "load", "model": "m`+strings.Repeat("x", i)+`"}`, "Authorization", "Bearer secret")
		if want := i < mostModels-2; (w.Code == 200) != want {
			t.Fatalf("model %d: %d %s", i+2, w.Code, w.Body)
		}
	}
}

// Pages of other sites reach the admin route by no method, whatever CORSOrigins allows.
// The controls are another route, this server's own page, and a program.
func TestAdminOrigins(t *testing.T) {
	t.Parallel()
	m := newModels(t, newShelf(t), ModelsConfig{Names: []string{"a"}})
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodPut}
	for _, origins := range [][]string{nil, {"*"}, {"http://evil.example"}} {
		s := newServer(t, Config{Models: m, Key: "secret", Admin: true, CORSOrigins: origins})
		for _, page := range [][]string{
			{"Origin", "http://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"},
			{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site", "Access-Control-Request-Method", "POST"},
		} {
			headers := append([]string{"Authorization", "Bearer secret"}, page...)
			for _, method := range methods {
				w := do(s, method, "/admin/models", headers...)
				if w.Code != 403 || w.Header().Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%v, %s %v: %d %v %s", origins, method, page, w.Code, w.Header(), w.Body)
				}
				if text := w.Body.String(); method == http.MethodPost && (!strings.Contains(text, "from a program") || strings.Contains(text, "add --cors-origin")) {
					t.Errorf("%v, %v: advice %s", origins, page, text)
				}
			}
			if w := do(s, http.MethodGet, "/info", headers...); w.Code != 200 && w.Code != 204 {
				t.Errorf("%v, GET /info %v: %d %s", origins, page, w.Code, w.Body)
			}
		}
		for _, own := range [][]string{{"Origin", "http://127.0.0.1:8437", "Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}, nil} {
			if w := do(s, http.MethodGet, "/admin/models", append([]string{"Authorization", "Bearer secret"}, own...)...); w.Code != 200 {
				t.Errorf("%v, %v: %d %s", origins, own, w.Code, w.Body)
			}
		}
	}
	if w := post(newServer(t, Config{MCP: http.NotFoundHandler()}), "/mcp", `{}`, "Origin", "http://evil.example"); w.Code != 403 || strings.Contains(w.Body.String(), "--cors-origin") {
		t.Errorf("a server without CORS origins advises them: %d %s", w.Code, w.Body)
	}
}

// An alias is removed alone: its model and the other names stay.
func TestAdminRemovesAlias(t *testing.T) {
	t.Parallel()
	m := newModels(t, newShelf(t), ModelsConfig{Names: []string{"a", "b"}, Aliases: map[string]string{"x": "b", "y": "x", "z": "a"}})
	s := newServer(t, Config{Models: m, Key: "secret", Admin: true})
	for _, test := range []struct {
		model string
		want  string // of the list
	}{
		{"x", `{"models":[{"id":"a","aliases":["z"],"default":true,"state":"loaded"`},
		{"z", `{"models":[{"id":"a","aliases":[],"default":true,"state":"loaded"`}, // an alias of the default model
	} {
		w := post(s, "/admin/models", `{"action": "remove", "model": "`+test.model+`"}`, "Authorization", "Bearer secret")
		if w.Code != 200 || !strings.Contains(w.Body.String(), test.want) || !strings.Contains(w.Body.String(), `{"id":"b","aliases":["y"],"default":false,"state":"loaded"`) {
			t.Errorf("remove %s: %d %s", test.model, w.Code, w.Body)
		}
	}
	for asked, status := range map[string]int{"x": 404, "z": 404, "y": 200, "a": 200, "b": 200} {
		if w := post(s, "/v1/rerank", named(asked, "documents", "d"), "Authorization", "Bearer secret"); w.Code != status {
			t.Errorf("model %s: %d %s, want %d", asked, w.Code, w.Body, status)
		}
	}
	// Control: under its own name the model goes, and its alias with it.
	w := post(s, "/admin/models", `{"action": "remove", "model": "b"}`, "Authorization", "Bearer secret")
	if w.Code != 200 || strings.Contains(w.Body.String(), `"b"`) || strings.Contains(w.Body.String(), `"y"`) {
		t.Errorf("remove b: %d %s", w.Code, w.Body)
	}
}

// temporaryError is a fault of the moment, as a hub that does not answer.
type temporaryError struct{ temporary bool }

func (temporaryError) Error() string     { return "the hub answers 502" }
func (e temporaryError) Temporary() bool { return e.temporary }

// A load that may succeed later answers 503 with Retry-After, another one 422.
func TestAdminLoadErrors(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	var cause error
	shelf.delay = func(_ context.Context, name string) error {
		if name == "new" {
			return cause
		}
		return nil
	}
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a"}})
	s := newServer(t, Config{Models: m, Key: "secret", Admin: true})
	for _, test := range []struct {
		cause  error
		status int
	}{
		{errors.New("config.json: no such file"), 422},
		{fmt.Errorf("open model: %w", &fs.PathError{Op: "stat", Path: "/x", Err: syscall.ENOENT}), 422},
		{fmt.Errorf("open model: %w", &fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}), 422},
		{temporaryError{false}, 422},
		{fmt.Errorf("pull: %w", temporaryError{true}), 503},
		{fmt.Errorf("pull: %w", &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}), 503},
		{fmt.Errorf("open model: %w", syscall.EMFILE), 503},
		{fmt.Errorf("%w: the device is lost", engine.ErrUnhealthy), 503},
	} {
		cause = test.cause
		for _, change := range []string{`{"action": "load", "model": "new"}`, `{"action": "default", "model": "new"}`, `{"action": "alias", "alias": "x", "model": "new"}`} {
			w := post(s, "/admin/models", change, "Authorization", "Bearer secret")
			reason := strings.Contains(w.Body.String(), plain(test.cause))
			if w.Code != test.status || !reason || (w.Header().Get("Retry-After") != "") != (test.status == 503) {
				t.Errorf("%v: %d %v %s, want %d", test.cause, w.Code, w.Header(), w.Body, test.status)
			}
		}
	}
	// Control: a scoring request does not get the reason, and may try again.
	other := newShelf(t)
	other.delay = func(context.Context, string) error { return errors.New("no weights in /models/new") }
	lazy := newModels(t, other, ModelsConfig{Names: []string{"new"}, Lazy: true})
	w := post(newServer(t, Config{Models: lazy}), "/v1/rerank", named("new", "documents", "d"))
	if w.Code != 503 || strings.Contains(w.Body.String(), "/models/new") {
		t.Errorf("a scoring request: %d %s", w.Code, w.Body)
	}
}

// A change that a load or a removal in progress prevents may work later: 503.
func TestAdminWhileBusy(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	release := make(chan struct{})
	shelf.delay = func(context.Context, string) error { <-release; return nil }
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b"}, Lazy: true})
	s := newServer(t, Config{Models: m, Key: "secret", Admin: true})
	change := func(action string) *httptest.ResponseRecorder {
		return post(s, "/admin/models", `{"action": "`+action+`", "model": "b"}`, "Authorization", "Bearer secret")
	}
	loaded := make(chan *httptest.ResponseRecorder)
	go func() { loaded <- change("load") }()
	waitFor(t, "a load", func() bool { return m.List()[1].State == "loading" })
	for _, action := range []string{"unload", "remove"} {
		if w := change(action); w.Code != 503 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "model b is being loaded; try again later") {
			t.Errorf("%s: %d %v %s", action, w.Code, w.Header(), w.Body)
		}
	}
	close(release)
	if w := <-loaded; w.Code != 200 {
		t.Errorf("load: %d %s", w.Code, w.Body)
	}
	if w := change("unload"); w.Code != 200 {
		t.Errorf("unload: %d %s", w.Code, w.Body)
	}
}

// Each route has its decision about access in the table.
func TestAccessOfRoutes(t *testing.T) {
	t.Parallel()
	m := newModels(t, newShelf(t), ModelsConfig{Names: []string{"a"}})
	s := newServer(t, Config{Models: m, Key: "secret", Admin: true, Dashboard: http.NotFoundHandler()})
	want := map[string]access{
		"/": accessProbe, "/health": accessProbe, "/ping": accessProbe, "/ready": accessProbe,
		"/docs": accessOpen, "/docs/": accessOpen, "/openapi.json": accessOpen, "/dashboard": accessOpen, "/dashboard/": accessOpen,
		"/rerank": accessKey, "/invocations": accessKey, "/predict": accessKey, "/v1/rerank": accessKey, "/v2/rerank": accessKey, "/score": accessKey, "/v1/score": accessKey,
		"/v1/models": accessKey, "/v1/": accessKey, "/v2/": accessKey, "/info": accessKey, "/metrics": accessKey,
		"/dashboard/api/": accessKey, "/dashboard/api/export.json": accessKey,
		"/admin/models": accessAdmin, "/hf-inference/models/": accessKey,
		"/voyage/": accessKey, "/voyage/rerank": accessKey, "/voyage/v1/rerank": accessKey,
		"/infinity/": accessKey, "/infinity/rerank": accessKey, "/infinity/v1/rerank": accessKey,
		"/weaviate/rerank": accessKey, "/weaviate/meta": accessKey, "/weaviate/.well-known/ready": accessProbe, "/weaviate/.well-known/live": accessProbe,
	}
	for path, route := range s.routes {
		if a, ok := want[path]; !ok || a != route.access {
			t.Errorf("%s has access %d, want %d (listed: %v)", path, route.access, a, ok)
		}
		// Without the key, only what is open answers.
		for _, method := range route.methods() {
			status := do(s, method, path).Code
			open := route.access == accessOpen || route.access == accessProbe && method == http.MethodGet
			if open == (status == http.StatusUnauthorized) {
				t.Errorf("%s %s without the key: status %d", method, path, status)
			}
		}
	}
	if len(s.routes) != len(want) {
		t.Errorf("%d routes, want %d", len(s.routes), len(want))
	}
}
