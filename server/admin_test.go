package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
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
		{`{"action": "load", "model": "broken"}`, 503, "no weights in /models/broken"},
		{`{"action": "unload", "model": "broken"}`, 404, "expected one of b, c, live"},
		{`{"action": "alias", "alias": "b", "model": "c"}`, 422, "alias b is the name of a model"},
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
