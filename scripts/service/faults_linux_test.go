package service

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A control is a configuration with a mistake, which must lose requests when a server is
// killed, or when one stops.
type control struct {
	*balancer
	mistake string
	changes []replacement
	kill    bool // the mistake shows when a server is killed
	drain   bool // it shows when a server stops
}

const haproxyRetries = "retry-on conn-failure empty-response junk-response 502 503"

var controls = []control{
	{nginx, "no retries", []replacement{
		{"proxy_next_upstream error timeout invalid_header http_502 http_503 non_idempotent;", "proxy_next_upstream off;"}}, true, true},
	{nginx, "no retries of POST", []replacement{{" non_idempotent;", ";"}}, true, true},
	{nginx, "no retries of 503", []replacement{{" http_503", ""}}, false, true},
	{haproxy, "no retries", []replacement{{haproxyRetries, "retry-on none"}}, true, false},
	{haproxy, "retries at the same server", []replacement{{"option redispatch 1", "no option redispatch"}}, true, false},
	{haproxy, "no checks and no retries of 503", []replacement{{"default-server check ", "default-server "}, {" 502 503\n", "\n"}}, false, true},
	{caddy, "no retries of broken connections", []replacement{{"{rp.is_transport_error} || ", ""}}, true, false},
	{caddy, "no buffer", []replacement{{"\t\trequest_buffers 17MiB\n", ""}}, true, false},
	{caddy, "no checks and no retries of 503", []replacement{{"\t\thealth_uri /ready\n", ""}, {"[502, 503]", "[502]"}}, false, true},
}

// TestFaults keeps three servers busy through every balancer and every control. It kills a
// server that has requests, starts it again, and stops another one. No balancer may lose a
// request or give a wrong answer, and every control must lose some.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	f := newFixture(t)
	f.settle(t)
	f.judge(t, "no fault", func(control) bool { return false })

	// Stopped for a moment, the server has requests that it cannot answer when it is killed.
	third := f.servers[2]
	third.signal(t, syscall.SIGSTOP)
	time.Sleep(2 * time.Second)
	third.signal(t, syscall.SIGKILL)
	third.end(t)
	f.settle(t)
	f.judge(t, "kill -9", func(c control) bool { return c.kill })

	third.start(t)
	third.waitUntilReady(t)
	f.settle(t)
	f.judge(t, "a new server in its place", func(control) bool { return false })

	// A request whose body is still arriving keeps the server from its end after the delay. So
	// all balancers see how it refuses requests.
	second := f.servers[1]
	finish := startUpload(t, second.address)
	second.signal(t, syscall.SIGTERM)
	time.Sleep(drainDelay + 2*time.Second)
	finish()
	if status := second.end(t); status != 0 {
		t.Errorf("status %d after SIGTERM: %s", status, second.log.String())
	}
	f.settle(t)
	f.judge(t, "SIGTERM", func(c control) bool { return c.drain })

	f.end()
	for _, s := range []*server{f.servers[0], third} {
		s.signal(t, syscall.SIGKILL)
		s.end(t)
	}
	for _, l := range f.loads {
		status, header, answer, err := post(t.Context(), http.DefaultClient, l.url, f.questions[0].body)
		if err != nil || status != http.StatusServiceUnavailable || header.Get("Retry-After") != "5" || header.Get("Content-Type") != "application/json" || !strings.Contains(string(answer), `"error_type":"Unhealthy"`) {
			t.Errorf("%s without servers: %d, %v, %s, %v; want 503, Retry-After 5 and JSON", l.name, status, header, answer, err)
		}
	}
}

const drainDelay = 3 * time.Second

// A fixture is three servers, and loads through balancers and controls.
type fixture struct {
	questions []question
	servers   []*server
	loads     []*load // of the balancers
	controls  []control
	lossy     []*load // of the controls
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{questions: newQuestions(t, 60, 2, 10)}
	f.servers = startServers(t, 3, "--api-key-file", keyFile(t), "--drain-delay", drainDelay.String())
	addresses := addressesOf(f.servers)
	for _, b := range balancers() {
		f.loads = append(f.loads, startLoad(t, b.name, b.start(t, addresses), f.questions, 4))
	}
	for _, c := range controls {
		if slices.Contains(balancers(), c.balancer) {
			f.controls = append(f.controls, c)
			f.lossy = append(f.lossy, startLoad(t, c.name+" with "+c.mistake, c.start(t, addresses, c.changes...), f.questions, 1))
		}
	}
	return f
}

func keyFile(t *testing.T) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "key"), key+"\n")
}

func (f *fixture) end() {
	for _, l := range append(f.loads, f.lossy...) {
		l.end()
	}
}

// settle waits until every balancer has answered a few more requests.
func (f *fixture) settle(t *testing.T) {
	t.Helper()
	for _, l := range f.loads {
		for begun, deadline := l.count(), time.Now().Add(patience); l.count() < begun+12; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s answers no more", l.name)
			}
		}
	}
}

// judge counts what was lost since the last call. shows reports which controls must lose.
func (f *fixture) judge(t *testing.T, fault string, shows func(control) bool) {
	t.Helper()
	for _, l := range f.loads {
		answered, wrong, failed := l.take()
		t.Logf("%s: %s: %d answers, %d wrong, lost %v", fault, l.name, answered, len(wrong), failed)
		if answered == 0 || len(wrong) > 0 || len(failed) > 0 {
			t.Errorf("%s: %s: %d answers, wrong %q, lost %v; want answers and none wrong or lost", fault, l.name, answered, wrong, failed)
		}
	}
	for i, l := range f.lossy {
		answered, wrong, failed := l.take()
		t.Logf("%s: %s: %d answers, lost %v", fault, l.name, answered, failed)
		if len(wrong) > 0 {
			t.Errorf("%s: %s: wrong answers %q", fault, l.name, wrong)
		}
		if shows(f.controls[i]) && len(failed) == 0 {
			t.Errorf("%s: %s loses nothing", fault, l.name)
		}
	}
}

// startUpload sends a part of a request. finish sends the rest and expects 503.
func startUpload(t *testing.T, address string) (finish func()) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"query": "q", "texts": ["d"]}`
	if _, err := fmt.Fprintf(c, "POST /rerank HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", address, key, len(body), body[:5]); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := io.WriteString(c, body[5:]); err != nil {
			t.Fatal(err)
		}
		w, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Body.Close(); err != nil || w.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("an upload to a server that stops: %d, %v, want 503", w.StatusCode, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
