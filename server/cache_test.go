package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cache"
	"github.com/mlxrank/mlxrank/engine"
)

func openCache(t testing.TB) *cache.Cache {
	t.Helper()
	c, err := cache.Open(cache.Config{MemoryBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCacheHeader asks every API twice, and a third time without the cache.
func TestCacheHeader(t *testing.T) {
	for _, a := range apis {
		t.Run(a.path[1:], func(t *testing.T) {
			s := newServer(t, Config{Engine: openTiny(t, engine.Config{Cache: openCache(t)})})
			ask := func(control string, texts ...string) *httptest.ResponseRecorder {
				r := httptest.NewRequest(http.MethodPost, a.path, strings.NewReader(a.body("the city", texts...)))
				r.Host = "localhost"
				r.Header.Set("Content-Type", "application/json")
				if control != "" {
					r.Header.Set("Cache-Control", control)
				}
				w := httptest.NewRecorder()
				s.Handler().ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					t.Fatalf("status %d: %s", w.Code, w.Body)
				}
				return w
			}
			first := ask("", "london is a city", "water", "water")
			second := ask("max-age=0", "london is a city", "water", "water")
			third := ask("max-age=0, No-Store", "london is a city", "water", "water")
			for i, test := range []struct {
				answer *httptest.ResponseRecorder
				want   string
			}{
				{first, "hits=0, misses=2"}, {second, "hits=2, misses=0"}, {third, ""},
				{ask("no-cache", "new"), ""}, {ask("", "new", "water"), "hits=1, misses=1"},
			} {
				if got := test.answer.Header().Get("X-Cache"); got != test.want {
					t.Errorf("answer %d has X-Cache %q, want %q", i+1, got, test.want)
				}
			}
			for _, other := range []*httptest.ResponseRecorder{second, third} {
				if got, want := unnamed(t, other.Body.Bytes()), unnamed(t, first.Body.Bytes()); got != want {
					t.Errorf("answers differ:\n%s\n%s", got, want)
				}
				if got, want := other.Header().Get("X-Compute-Tokens"), first.Header().Get("X-Compute-Tokens"); got != want {
					t.Errorf("%s tokens, want %s", got, want)
				}
			}
		})
	}
}

// Scripts of allowed origins may read every header of its own that an answer has.
func TestExposedHeaders(t *testing.T) {
	s := newServer(t, Config{Engine: openTiny(t, engine.Config{Cache: openCache(t)}), CORSOrigins: []string{"*"}})
	w := post(s, "/rerank", apis[0].body("the city", "london"), "Origin", "https://app.example.org")
	exposed := map[string]bool{}
	for name := range strings.SplitSeq(w.Header().Get("Access-Control-Expose-Headers"), ",") {
		exposed[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
	}
	found := 0
	for name := range w.Header() {
		if strings.HasPrefix(name, "X-") && name != "X-Content-Type-Options" {
			found++
			if !exposed[name] {
				t.Errorf("%s is not exposed", name)
			}
		}
	}
	if found < 13 || !exposed["X-Unscored"] || !exposed["Retry-After"] || w.Header().Get("X-Cache") == "" {
		t.Errorf("%d headers: %v", found, w.Header())
	}
}

// unnamed returns an answer without its id and its time.
func unnamed(t *testing.T, data []byte) string {
	t.Helper()
	var answer any
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatal(err)
	}
	if object, ok := answer.(map[string]any); ok {
		delete(object, "id")
		delete(object, "created")
	}
	return string(encode(answer))
}

func TestCacheMetrics(t *testing.T) {
	s := newServer(t, Config{Engine: openTiny(t, engine.Config{Cache: openCache(t)})})
	post(s, "/rerank", apis[0].body("the city", "london", "water"))
	post(s, "/rerank", apis[0].body("the city", "london", "river"))
	text := do(s, "GET", "/metrics").Body.String()
	for _, line := range []string{
		"mlxrank_cache_hits_total 1", "mlxrank_cache_misses_total 3", "mlxrank_cache_entries 3", "mlxrank_cache_limit_bytes 1.048576e+06",
		"mlxrank_cache_disk_bytes 0", "mlxrank_pairs_total 3",
	} {
		name, value, _ := strings.Cut(line, " ")
		if !regexp.MustCompile(`(?m)^` + name + `(\{[^}]*\})? ` + regexp.QuoteMeta(value) + `$`).MatchString(text) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	if info := do(s, "GET", "/info").Body.String(); !strings.Contains(info, `"cache":{"limit_bytes":1048576,"disk":false}`) {
		t.Errorf("/info is %s", info)
	}
	without := newServer(t, Config{Engine: openTiny(t, engine.Config{})})
	post(without, "/rerank", apis[0].body("the city", "london", "water"))
	if text := do(without, "GET", "/metrics").Body.String(); strings.Contains(text, "mlxrank_cache") {
		t.Error("a server without a cache has its metrics")
	}
	if info := do(without, "GET", "/info").Body.String(); strings.Contains(info, `"cache"`) {
		t.Errorf("/info is %s", info)
	}
}
