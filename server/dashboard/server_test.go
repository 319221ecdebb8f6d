package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

// openBuiltin opens the builtin model once for all tests.
var openBuiltin = sync.OnceValues(func() (*engine.Engine, error) {
	return engine.Open(context.Background(), engine.Config{Model: weights.Builtin, Device: "cpu"})
})

func builtin(t testing.TB) *engine.Engine {
	t.Helper()
	e, err := openBuiltin()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestMain(m *testing.M) {
	code := m.Run()
	if e, err := openBuiltin(); err == nil {
		if err := e.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// A testServer serves a dashboard and, for its "try it" box, rerank calls.
type testServer struct {
	*Dashboard
	url  string
	stop func() // all of it, its connections too
}

// serve listens on an address; without a port it takes any free one.
func serve(t testing.TB, e Engine, address, key string) *testServer {
	t.Helper()
	return serveModels(t, e, address, key, nil)
}

// serveModels serves a dashboard that shows several models.
func serveModels(t testing.TB, e Engine, address, key string, models func() any) *testServer {
	t.Helper()
	d, err := New(e, Options{Version: "test", Models: models})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/dashboard", d)
	mux.Handle("/dashboard/", d)
	if reranker, ok := e.(*engine.Engine); ok {
		mux.Handle("POST /v1/rerank", rerank(t, reranker))
	}
	server := &http.Server{Handler: withKey(key, mux)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	t.Cleanup(stop)
	return &testServer{d, "http://" + listener.Addr().String(), stop}
}

// withKey requires a key for the paths where the server does; the page needs none.
func withKey(key string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		free := strings.HasPrefix(r.URL.Path, "/dashboard") && !strings.HasPrefix(r.URL.Path, "/dashboard/api/")
		if key != "" && !free && r.Header.Get("Authorization") != "Bearer "+key {
			http.Error(w, "the key is missing or wrong", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// rerank responds in Jina's format.
func rerank(t testing.TB, e *engine.Engine) http.Handler {
	type result struct {
		Index int     `json:"index"`
		Score float32 `json:"relevance_score"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var call struct {
			Model     string   `json:"model"`
			Query     string   `json:"query"`
			Documents []string `json:"documents"`
			TopN      int      `json:"top_n"`
		}
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
			http.Error(w, `{"detail":"no JSON"}`, http.StatusBadRequest)
			return
		}
		if call.Model == "org/absent" {
			http.Error(w, `{"detail":"model is not served"}`, http.StatusNotFound)
			return
		}
		if call.Query == "refuse me" {
			http.Error(w, `{"detail":"refused, as asked for"}`, http.StatusUnprocessableEntity)
			return
		}
		ranking, err := e.Rerank(r.Context(), call.Query, call.Documents, engine.RerankOptions{TopN: call.TopN})
		if err != nil {
			http.Error(w, `{"detail":"the engine"}`, http.StatusInternalServerError)
			return
		}
		answer := struct {
			Results []result       `json:"results"`
			Usage   map[string]int `json:"usage"`
		}{Usage: map[string]int{"total_tokens": ranking.Tokens}}
		for _, item := range ranking.Items {
			answer.Results = append(answer.Results, result{item.Index, item.Score})
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	})
}

// load scores requests of the given number of documents until the caller calls the
// function that it returns.
func load(t testing.TB, e *engine.Engine, documents int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for client := range 2 {
		running.Go(func() {
			for n := client; ctx.Err() == nil; n++ {
				texts := make([]string, documents)
				for i := range texts {
					texts[i] = strings.Repeat("a tool that rotates and compresses log files, number "+string(rune('a'+(n+i)%26))+". ", 1+(n*7+i*3)%9)
				}
				if _, err := e.Rerank(ctx, "how to rotate log files", texts, engine.RerankOptions{}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}
