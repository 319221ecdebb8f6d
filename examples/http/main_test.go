package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

const ranked = `{"query": "Golang library for colorizing strings for terminal output", "passages": ["A mail reader for the terminal.",
	"Colorstring is a Go library for outputting colored strings to a console using a simple inline syntax to specify the colors."]}`

// room is the queue size in tokens. A long request and a short one fit, two long
// ones do not.
const room = 21_000

// long returns a request with passages of 512 tokens; 40 passages take a second
// or more.
func long(t *testing.T, passages int) string {
	t.Helper()
	req := request{Query: "q"}
	for i := range passages {
		req.Passages = append(req.Passages, fmt.Sprint(i, strings.Repeat(" a b", 300)))
	}
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

type answer struct {
	status int
	retry  string
	body   string
	err    error
}

func post(ctx context.Context, url, body string) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	text, err := io.ReadAll(resp.Body)
	if closed := resp.Body.Close(); err == nil {
		err = closed
	}
	return answer{resp.StatusCode, resp.Header.Get("Retry-After"), string(text), err}
}

func checkRanked(t *testing.T, a answer) {
	t.Helper()
	var items []item
	if err := json.Unmarshal([]byte(a.body), &items); err != nil || a.status != http.StatusOK || len(items) != 2 {
		t.Fatalf("got %+v, %v", a, err)
	}
	// PyTorch's logit of the best pair is 6.6942.
	if best := items[0]; best.Passage != 1 || best.Score < 0.9986 || best.Score > 0.9989 || items[1].Score > 0.1 {
		t.Errorf("got %+v", items)
	}
}

func opened(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Model: "builtin", Device: "cpu", QueueTokens: room})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("timeout after a minute: ", what)
		}
	}
}

func TestRank(t *testing.T) {
	server := httptest.NewServer(rank(opened(t)))
	defer server.Close()
	checkRanked(t, post(t.Context(), server.URL, ranked))
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"not JSON":    {`{"query"`, http.StatusBadRequest},
		"wrong type":  {`{"query": 1}`, http.StatusBadRequest},
		"no passages": {`{"query": "q"}`, http.StatusUnprocessableEntity},
		"large body":  {`{"query": "` + strings.Repeat("x", maxBody) + `"}`, http.StatusRequestEntityTooLarge},
		"never fits":  {long(t, 50), http.StatusRequestEntityTooLarge},
	} {
		if got := post(t.Context(), server.URL, test.body); got.err != nil || got.status != test.status {
			t.Errorf("%s: got %+v, want status %d", name, got, test.status)
		}
	}
}

// TestOverload sends a request while another fills the queue, then cancels the
// other's context, which makes room.
func TestOverload(t *testing.T) {
	e := opened(t)
	server := httptest.NewServer(rank(e))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan answer, 1)
	go func() { first <- post(ctx, server.URL, long(t, 40)) }()
	waitFor(t, "the first request runs", func() bool { return e.Stats().Live == 1 })
	if got := post(t.Context(), server.URL, long(t, 40)); got.status != http.StatusServiceUnavailable || got.retry != "1" {
		t.Errorf("got %+v, want status 503 and Retry-After 1", got)
	}
	cancel()
	if got := <-first; got.err == nil {
		t.Errorf("the first got %+v, want an error because its context ended", got)
	}
	waitFor(t, "the first is given up", func() bool { return e.Stats().Cancelled == 1 })
	checkRanked(t, post(t.Context(), server.URL, ranked))
}

// TestShutdown stops the server while it answers. The answer must be complete, and
// the engine closes afterwards.
func TestShutdown(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, listener, engine.Config{Model: "builtin", Device: "cpu"}) }()
	if got := get(t, url+"/healthy"); got != http.StatusOK {
		t.Fatalf("/healthy answers %d", got)
	}
	answered := make(chan answer, 1)
	go func() { answered <- post(t.Context(), url+"/rank", long(t, 40)) }()
	time.Sleep(200 * time.Millisecond) // until the request executes, which takes longer
	stop()
	if got := <-answered; got.status != http.StatusOK {
		t.Errorf("got %+v, want the answer", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := post(t.Context(), url+"/rank", ranked); got.err == nil {
		t.Errorf("after the shutdown: %+v", got)
	}
}

func get(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// TestRunErrors checks that run fails if the engine cannot open.
func TestRunErrors(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), listener, engine.Config{Model: "./none"}); err == nil || !strings.Contains(err.Error(), "./none") {
		t.Errorf("got %v", err)
	}
}
