package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// newKey returns a key whose token is "token-of-NAME".
func newKey(name string) ClientKey {
	return ClientKey{Name: name, SHA256: sha256.Sum256([]byte("token-of-" + name))}
}

func newKeys(t *testing.T, list ...ClientKey) *Keys {
	t.Helper()
	keys, err := NewKeys(list)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func tokenOf(name string) []string { return []string{"Authorization", "Bearer token-of-" + name} }

// Each key opens the routes, only an admin key opens /admin, and no key gets into the log.
func TestClientKeys(t *testing.T) {
	t.Parallel()
	var log, access bytes.Buffer
	admin := newKey("ops")
	admin.Admin = true
	s := newServer(t, Config{
		Models: newModels(t, newShelf(t), ModelsConfig{Names: []string{"a"}}), Admin: true, Key: "token-of-the-file",
		Keys: newKeys(t, newKey("search"), admin), Logger: zerolog.New(&log).Level(zerolog.TraceLevel), AccessLog: &access,
	})
	for _, test := range []struct {
		name                string
		scores, administers int
	}{{"search", 200, 403}, {"ops", 200, 200}, {"the-file", 200, 200}, {"stranger", 401, 401}} {
		if w := post(s, "/rerank", smallRequest, tokenOf(test.name)...); w.Code != test.scores {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
		w := do(s, http.MethodGet, "/admin/models", tokenOf(test.name)...)
		if w.Code != test.administers || w.Code == 403 && !strings.Contains(w.Body.String(), "key search does not open the admin route") {
			t.Errorf("%s at the admin route: %d %s", test.name, w.Code, w.Body)
		}
		if w := post(s, "/admin//models/", exampleLoad, tokenOf(test.name)...); test.administers != 200 && w.Code != test.administers {
			t.Errorf("%s at the admin route, POST: %d %s", test.name, w.Code, w.Body)
		}
	}
	if w := post(s, "/rerank", smallRequest); w.Code != 401 {
		t.Errorf("without a key: %d", w.Code)
	}
	metrics := do(s, http.MethodGet, "/metrics", tokenOf("ops")...).Body.String()
	for _, line := range []string{`mlxrank_key_requests_total{code="200",key="search"} 1`, `mlxrank_key_requests_total{code="403",key="search"} 2`} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	for name, text := range map[string]string{"log": log.String(), "access log": access.String(), "metrics": metrics} {
		if strings.Contains(text, "token-of") || name != "metrics" && !strings.Contains(text, `"key":"search"`) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// A key over its limits gets 429 in the shape of every format, under every spelling of a
// path, and executes nothing. Other keys go on.
func TestLimitsOfKeys(t *testing.T) {
	t.Parallel()
	limited := newKey("limited")
	limited.MaxRequests, limited.PairsPerMinute = 1, 5
	entered, finish := make(chan struct{}, 1), make(chan struct{})
	e := &fakeEngine{before: func(ctx context.Context) error {
		if ctx.Value(clientKey{}) != nil && clientOf(ctx).Name == "limited" {
			entered <- struct{}{}
			<-finish
		}
		return nil
	}}
	s := newServer(t, Config{Engine: e, Keys: newKeys(t, limited, newKey("free"))})
	refused := func(a api, path, message string) {
		t.Helper()
		body := a.body("q", "a", "b")
		a.path = path
		checkFailure(t, s, a, row{status: 429, kind: kindOverloaded, message: message, retry: true, headers: tokenOf("limited")}, body)
	}
	running := make(chan int, 1)
	go func() {
		running <- post(s, "/rerank", apis[0].body("q", "a", "b", "c", "d"), tokenOf("limited")...).Code
	}()
	<-entered
	for _, a := range apis {
		refused(a, a.path, "too many requests with key limited (limit 1 at a time)")
	}
	close(finish)
	if status := <-running; status != 200 {
		t.Errorf("the running request: %d", status)
	}
	for _, a := range apis {
		for _, path := range []string{a.path, "/" + a.path, a.path + "?x=y"} {
			refused(a, path, "too many pairs: key limited has 5 a minute")
		}
	}
	for _, path := range []string{"/rerank/", "//rerank", "/%72erank", "/invocations", "/x/..//rerank"} {
		if w := post(s, path, apis[0].body("q", "a", "b"), tokenOf("limited")...); w.Code == 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if n := e.executed.Load(); n != 4 {
		t.Errorf("%d pairs were executed", n)
	}
	if w := post(s, "/rerank", apis[0].body("q", "a", "b", "c", "d", "e", "f"), tokenOf("limited")...); w.Code != 422 || !strings.Contains(w.Body.String(), "too many pairs: 6 (key limited has 5 a minute); split the request") {
		t.Errorf("more than a minute has: %d %s", w.Code, w.Body)
	}
	for _, a := range apis {
		if w := post(s, a.path, a.body("q", "a", "b", "c"), tokenOf("free")...); w.Code != 200 {
			t.Errorf("%s with another key: %d %s", a.path, w.Code, w.Body)
		}
	}
}

func TestPairsPerMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testPairsPerMinute)
}

func testPairsPerMinute(t *testing.T) {
	key := newKey("k")
	key.PairsPerMinute = 60
	keys := newKeys(t, key)
	take := func(n int) *failure { return keys.find("token-of-k").takePairs(n, time.Now()) }
	if f := take(50); f != nil {
		t.Fatal(f.message)
	}
	if f := take(20); f == nil || f.retryAfter != 10 {
		t.Errorf("%+v, want a wait of 10 s", f)
	}
	if f := take(10); f != nil { // what was refused took nothing
		t.Error(f.message)
	}
	time.Sleep(10 * time.Second)
	if f := take(10); f != nil {
		t.Error(f.message)
	}
	// Nor do refusals at the same time take anything.
	var refused sync.WaitGroup
	for range 8 {
		refused.Go(func() {
			for range 5000 {
				if take(20) == nil {
					t.Error("more pairs than a minute has")
				}
			}
		})
	}
	refused.Wait()
	time.Sleep(time.Second)
	if f := take(1); f != nil {
		t.Error(f.message)
	}
	// The pairs that are used up stay used up when the keys are read again.
	key.PairsPerMinute = 120
	if err := keys.Replace([]ClientKey{key, newKey("new")}); err != nil {
		t.Fatal(err)
	}
	if f := take(2); f == nil || f.retryAfter != 1 {
		t.Errorf("after the keys were read again: %+v", f)
	}
	if keys.find("token-of-new") == nil {
		t.Error("the new key is not found")
	}
	if err := keys.Replace([]ClientKey{newKey("new")}); err != nil || keys.find("token-of-k") != nil {
		t.Errorf("a revoked key is found, %v", err)
	}
	limited := newKey("new") // it had no limit before
	limited.PairsPerMinute = 5
	if err := keys.Replace([]ClientKey{limited}); err != nil {
		t.Fatal(err)
	}
	if f := keys.find("token-of-new").takePairs(5, time.Now()); f != nil {
		t.Errorf("the first pairs of a limit that is new: %s", f.message)
	}
	if f := keys.find("token-of-new").takePairs(1, time.Now()); f == nil {
		t.Error("a limit that is new has no effect")
	}
	for _, bad := range [][]ClientKey{nil, {{Name: "empty", SHA256: sha256.Sum256(nil)}}, {newKey("a b")}, {newKey("")}, {newKey("k"), newKey("k")}, {{Name: "k", MaxRequests: -1}}, {{Name: "a"}, {Name: "b"}}} {
		if err := keys.Replace(bad); err == nil || keys.find("token-of-new") == nil {
			t.Errorf("%v: %v, and the keys before should stay", bad, err)
		}
	}
}
