package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// head returns a request up to its body.
func head(method, path, version string, headers ...string) string {
	return fmt.Sprintf("%s %s %s\r\nHost: localhost\r\n%s\r\n", method, path, version, strings.Join(append(headers, ""), "\r\n"))
}

const (
	withKey  = "Authorization: Bearer key"
	withJSON = "Content-Type: application/json"
)

// unread lists requests whose bodies the server does not read.
var unread = []struct {
	name   string
	head   string
	status int
}{
	{"no key", head("POST", "/rerank", "HTTP/1.1", withJSON, "Content-Length: 1000"), 401},
	{"no key, large", head("POST", "/v2/rerank", "HTTP/1.1", withJSON, "Content-Length: 90000000"), 401},
	{"no key, no length", head("POST", "/rerank", "HTTP/1.1", withJSON, "Transfer-Encoding: chunked"), 401},
	{"no key, HTTP/1.0", head("POST", "/rerank", "HTTP/1.0", withJSON, "Content-Length: 1000"), 401},
	{"no key, expects", head("POST", "/rerank", "HTTP/1.1", withJSON, "Content-Length: 1000", "Expect: 100-continue"), 401},
	{"another site", head("POST", "/rerank", "HTTP/1.1", withKey, withJSON, "Origin: https://example.org", "Content-Length: 1000"), 403},
	{"no such path", head("POST", "/nothing", "HTTP/1.1", withKey, "Content-Length: 1000"), 404},
	{"no such method", head("PUT", "/rerank", "HTTP/1.1", withKey, withJSON, "Content-Length: 1000"), 405},
	{"announced too large", head("POST", "/rerank", "HTTP/1.1", withKey, withJSON, "Content-Length: 99999999999"), 413},
	{"no JSON", head("POST", "/rerank", "HTTP/1.1", withKey, "Content-Type: text/plain", "Content-Length: 1000"), 415},
	{"health", head("GET", "/health", "HTTP/1.1", "Content-Length: 1000"), 200},
	{"health, no length", head("GET", "/health", "HTTP/1.1", "Transfer-Encoding: chunked"), 200},
	{"ready, HEAD", head("HEAD", "/ready", "HTTP/1.1", "Content-Length: 1000"), 200},
	{"metrics", head("GET", "/metrics", "HTTP/1.1", withKey, "Content-Length: 1000"), 200},
	{"docs", head("GET", "/docs", "HTTP/1.1", "Content-Length: 1000"), 200},
}

// A request whose body is not read is answered and its connection closed, whether
// the client sends none of the body or a part.
func TestUnreadBodies(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	v := serveOn(t, Config{Key: "key"})
	type waiting struct {
		name   string
		status int
		conn   *net.TCPConn
	}
	var all []waiting
	for _, test := range unread {
		for _, part := range []string{"", "5\r\nab"} {
			for range 4 {
				c := v.dial(t)
				send(t, c, test.head+part)
				all = append(all, waiting{test.name, test.status, c})
			}
		}
	}
	begun := time.Now()
	for _, w := range all {
		r := bufio.NewReader(w.conn)
		answer, err := http.ReadResponse(r, &http.Request{Method: map[bool]string{true: "HEAD", false: "GET"}[strings.Contains(w.name, "HEAD")]})
		if err != nil || answer.StatusCode != w.status || !answer.Close {
			t.Errorf("%s: %v, %v; want status %d and Connection: close", w.name, answer, err, w.status)
			continue
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		closed(t, r)
	}
	if took := time.Since(begun); took > 10*time.Second { // lingerIdle passes once for all
		t.Errorf("%d answers took %v", len(all), took)
	}
	// The clients' sides are still open.
	waitFor(t, "the end of all connections", func() bool { return v.connections.Load() == 0 })
}

// A short unread body is dropped, and the connection stays open.
func TestUnreadBodyKeepsTheConnection(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Key: "key"})
	c := v.dial(t)
	r := bufio.NewReader(c)
	for range 3 {
		send(t, c, rawRequest(smallRequest))
		if status, _ := readAnswer(t, r); status != 401 {
			t.Errorf("without the key: %d", status)
		}
		send(t, c, head("GET", "/health", "HTTP/1.1", "Content-Length: 2")+"{}")
		if status, _ := readAnswer(t, r); status != 200 {
			t.Errorf("health: %d", status)
		}
	}
}

// A client that sends its whole body before it reads gets the refusal and no reset,
// although the body is larger than the buffers of the sockets.
func TestRefusalsReachSenders(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	const size = 16 << 20
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = 'x'
	}
	for _, test := range []struct {
		name    string
		limits  Limits
		headers []string
		status  int
	}{
		{"no key", Limits{}, []string{withJSON}, 401},
		{"no JSON", Limits{}, []string{withKey, "Content-Type: text/csv"}, 415},
		{"announced too large", Limits{BodyBytes: 1 << 20}, []string{withKey, withJSON}, 413},
		{"too many bodies", Limits{BodyBytes: 64 << 20, BodyBytesAtOnce: 2 << 20}, []string{withKey, withJSON}, 429},
		{"stopping", Limits{}, []string{withKey, withJSON}, 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := serveOn(t, Config{Key: "key", Limits: test.limits})
			if test.status == 503 {
				v.drain()
			}
			const clients = 4
			failed := make(chan error, clients)
			for range clients {
				c := v.dial(t)
				go func() { failed <- sendThenRead(c, test.headers, body, size, test.status) }()
			}
			for range clients {
				if err := <-failed; err != nil {
					t.Error(err)
				}
			}
			if n := v.bodies.taken.Load(); n != 0 {
				t.Errorf("%d bytes of bodies are held", n)
			}
		})
	}
}

// sendThenRead sends the whole body and then expects a status.
func sendThenRead(c net.Conn, headers []string, piece []byte, size, status int) error {
	text := head("POST", "/rerank", "HTTP/1.1", append(headers, fmt.Sprintf("Content-Length: %d", size))...)
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	for sent := 0; sent < size; sent += len(piece) {
		if _, err := c.Write(piece); err != nil {
			return fmt.Errorf("after %d bytes: %w", sent, err)
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != status {
		return errors.Join(fmt.Errorf("status %d, want %d", answer.StatusCode, status), answer.Body.Close())
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}

// Clients that do not read their answers occupy neither the limit of requests nor
// the budget of bodies. The number of long unread answers is limited.
func TestSlowReadersHoldNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{Requests: 1, BodyBytesAtOnce: 17 << 20, WriteTimeout: 15 * time.Second}})
	long := rawRequest(`{"query": "q", "texts": ["` + strings.Repeat("d", 7_900_000) + `"], "return_text": true}`)
	slow := func() *net.TCPConn {
		c := v.dial(t)
		if err := c.SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
		send(t, c, long)
		return c
	}
	for i := range 2 {
		slow()
		waitFor(t, "an unread answer", func() bool { return v.answers.taken.Load() > int64(i+1)*7_900_000 })
		if v.inProgress() != 0 || v.bodies.taken.Load() != 0 {
			t.Errorf("%d requests and %d bytes are held", v.inProgress(), v.bodies.taken.Load())
		}
	}
	quick := v.dial(t)
	r := bufio.NewReader(quick)
	send(t, quick, rawRequest(smallRequest))
	if status, body := readAnswer(t, r); status != 200 {
		t.Errorf("a short answer: %d %s", status, body)
	}
	send(t, quick, long)
	if status, body := readAnswer(t, r); status != 429 || !strings.Contains(body, "not read yet") {
		t.Errorf("a third long answer: %d %.200s", status, body)
	}
	waitFor(t, "the slow readers' end", func() bool { return v.answers.taken.Load() == 0 })
	later := v.dial(t)
	send(t, later, long)
	if status, body := readAnswer(t, bufio.NewReader(later)); status != 200 {
		t.Errorf("afterwards: %d %.200s", status, body)
	}
}

// A server that shuts down waits for answers that are being read.
func TestEndWaitsForAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	v := serveOn(t, Config{})
	c := v.dial(t)
	if err := c.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	send(t, c, rawRequest(`{"query": "q", "texts": ["`+strings.Repeat("d", 7_900_000)+`"], "return_text": true}`))
	waitFor(t, "an unread answer", func() bool { return v.answers.taken.Load() > 0 })
	v.stop()
	waitFor(t, "draining", v.isDraining)
	time.Sleep(2 * closeTime)
	if status, body := readAnswer(t, bufio.NewReader(c)); status != 200 || len(body) < 7_900_000 {
		t.Errorf("%d with %d bytes", status, len(body))
	}
	if err := v.end(); err != nil {
		t.Error(err)
	}
}

// Clients that send many requests and read no answers are disconnected.
func TestPipelineThatIsNotRead(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{WriteTimeout: 300 * time.Millisecond}})
	for range 4 {
		c := v.dial(t)
		if err := c.SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
		many := strings.Repeat(head("GET", "/openapi.json", "HTTP/1.1"), 2000)
		if _, err := io.WriteString(c, many); err != nil {
			continue // it is disconnected already
		}
		waitFor(t, "a connection", func() bool { return v.connections.Load() > 0 })
	}
	waitFor(t, "the end of all connections", func() bool { return v.connections.Load() == 0 })
}
