package hub

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// TestRefused requests models that the hub does not deliver.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		ref   string
		token string
		set   func(*hubtest.Server)
		words []string
	}{
		{"misspelt", "org/misspelt", "", nil, []string{"401", "no such model", "spelling", "HF_TOKEN"}},
		{"misspelt, with a token", "org/misspelt", token, nil, []string{"404", "no such model", "spelling", "HF_TOKEN"}},
		{"revision", model + "@v9", "", nil, []string{"404", `no revision "v9"`}},
		{"commit", model + "@" + strings.Repeat("0", 40), "", nil, []string{"no revision"}},
		{"private", model, "", func(s *hubtest.Server) { s.Repos[model].Token = "other" }, []string{"401", "private", "set HF_TOKEN"}},
		{"private, of another account", model, token, func(s *hubtest.Server) { s.Repos[model].Token = "other" }, []string{"404", "private", "HF_TOKEN"}},
		{"gated", model, "", func(s *hubtest.Server) { s.Repos[model].Gated = true }, []string{"401", "accept the conditions", "/" + model, "set HF_TOKEN"}},
		{"gated, with a token", model, token, func(s *hubtest.Server) { s.Repos[model].Gated = true }, []string{"403", "accept the conditions", "account"}},
		{"bad token", model, token, func(s *hubtest.Server) {
			s.SetHub(func(w http.ResponseWriter, r *http.Request) bool {
				hubtest.Fail(w, 401, "", "Invalid credentials in Authorization header: "+r.Header.Get("Authorization"))
				return true
			})
		}, []string{"token from HF_TOKEN is not accepted", "Invalid credentials", "(token)"}},
		{"malformed response", model, token, func(s *hubtest.Server) {
			s.SetHub(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("X-Echo", r.Header.Get("Authorization")+"\x1b"+strings.Repeat("x", 500))
				return false
			})
		}, []string{"malformed", "(token)", "--model builtin"}},
		{"forbidden", model, "", func(s *hubtest.Server) {
			s.SetHub(func(w http.ResponseWriter, _ *http.Request) bool {
				hubtest.Fail(w, 403, "", "Access to this resource is disabled.\u202e\u0085"+strings.Repeat("x", 500))
				return true
			})
		}, []string{"403", "disabled.xxx", "…"}},
		{"file missing", model, "", func(s *hubtest.Server) {
			s.SetHub(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/vocab.txt") {
					hubtest.Fail(w, 404, "EntryNotFound", "Entry not found")
					return true
				}
				return false
			})
		}, []string{"404", "vocab.txt"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := start(t)
			t.Setenv("HF_TOKEN", test.token)
			c := newClient(t)
			if test.set != nil {
				test.set(s)
			}
			_, err := c.Pull(t.Context(), toRef(t, test.ref), PullOptions{})
			wantError(t, err, test.words...)
			if strings.ContainsAny(err.Error(), "\u202e\u0085\n") {
				t.Errorf("control characters in %q", err)
			}
			if len(s.Requests()) > 2*len(wanted)+2 {
				t.Errorf("%d requests", len(s.Requests()))
			}
		})
	}
}

// TestTokenStaysWithTheHub follows every request of a pull of a private model.
func TestTokenStaysWithTheHub(t *testing.T) {
	s, _ := start(t)
	s.Repos[model].Token = token
	s.Renamed["org/old"] = model
	t.Setenv("HF_TOKEN", token)
	c := newClient(t)
	pullModel(t, s, c, "org/old")
	content := 0
	for _, r := range s.Requests() {
		if want := "Bearer " + token; !r.Content && r.Auth != want {
			t.Errorf("%s %s: authorization %q", r.Method, r.Path, r.Auth)
		}
		if r.Content {
			content++
			if r.Auth != "" {
				t.Errorf("the content server was sent %q", r.Auth)
			}
		}
	}
	if content == 0 {
		t.Error("nothing came from the content server")
	}
	for _, path := range walk(t, c.Cache()) {
		if strings.Contains(string(readFile(t, path)), token) {
			t.Errorf("%s holds the token", path)
		}
	}
}

// TestRenamed checks that a renamed model is cached under the requested name, as
// Python does.
func TestRenamed(t *testing.T) {
	s, c := start(t)
	s.Renamed["org/old"] = model
	snapshot := pullModel(t, s, c, "org/old")
	if filepath.Dir(filepath.Dir(snapshot.Dir)) != filepath.Join(c.Cache(), "models--org--old") {
		t.Errorf("the snapshot is in %s, want the requested name", snapshot.Dir)
	}
	s.Renamed["org/loop"] = "org/loop"
	_, err := c.Pull(t.Context(), toRef(t, "org/loop"), PullOptions{})
	wantError(t, err, "redirect", "10 in a row")
}

// TestRetried makes requests fail before they succeed.
func TestRetried(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(w http.ResponseWriter)
		min  time.Duration
	}{
		{"429 with seconds", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "1"); w.WriteHeader(429) }, time.Second},
		{"429 with a date", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", time.Now().Add(2*time.Second).UTC().Format(http.TimeFormat))
			w.WriteHeader(429)
		}, 500 * time.Millisecond},
		{"429", func(w http.ResponseWriter) { w.WriteHeader(429) }, 0},
		{"500", func(w http.ResponseWriter) { w.WriteHeader(500) }, 0},
		{"503", func(w http.ResponseWriter) { w.WriteHeader(503) }, 0},
		{"cut before the headers", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 0},
		{"cut in the body", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			if _, err := w.Write([]byte("{")); err != nil {
				panic(err)
			}
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := start(t)
			var mu sync.Mutex
			failed := map[string]bool{}
			once := func(key string, w http.ResponseWriter) bool {
				mu.Lock()
				first := !failed[key]
				failed[key] = true
				mu.Unlock()
				if first {
					test.fail(w)
				}
				return first
			}
			s.SetHub(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead && strings.Contains(test.name, "body") {
					return false // a HEAD response has no body
				}
				path := r.URL.Path
				return (strings.Contains(path, "/revision/") || strings.HasSuffix(path, "/vocab.txt") && test.min == 0) && once(r.Method, w)
			})
			s.SetContent(func(w http.ResponseWriter, _ *http.Request, blob []byte) bool {
				return len(blob) == weightsSize && !strings.Contains(test.name, "body") && test.min == 0 && once("content", w)
			})
			began := time.Now()
			pullModel(t, s, c, model)
			if took := time.Since(began); took < test.min {
				t.Errorf("it took %v, want at least %v", took, test.min)
			}
		})
	}
}

// TestGivesUp checks that a pull gives up after some tries, or at once if the hub
// asks for a long wait.
func TestGivesUp(t *testing.T) {
	s, c := start(t)
	status, after := 503, ""
	s.SetHub(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", after)
		hubtest.Fail(w, status, "", "")
		return true
	})
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "503", "4 tries", "--model builtin", "--model DIR")
	if n := len(s.Requests()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
	s.Forget()
	status, after = 429, "600"
	_, err = c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "429", "10m0s", "HF_TOKEN")
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestUnreachable checks that a pull fails at once with an error that names the
// models that need no hub.
func TestUnreachable(t *testing.T) {
	start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{"http://" + closed, "https://" + closed, "http://no-such-host.invalid", "http://me:" + token + "@" + closed} {
		t.Setenv("HF_ENDPOINT", endpoint)
		c := newClient(t)
		c.limits.backoff = time.Minute // a second try would take too long
		began := time.Now()
		_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		wantError(t, err, "cannot reach the hub at", "--model builtin", "--model DIR")
		if !isTemporary(err) {
			t.Errorf("%s: the error is not temporary", endpoint)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: it took %v", endpoint, took)
		}
	}
}

func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// TestTemporary marks the answers of a hub that may be others later, and no others.
func TestTemporary(t *testing.T) {
	s, c := start(t)
	c.limits.tries = 1
	for status, want := range map[int]bool{500: true, 503: true, 429: true, 408: true, 400: false, 401: false, 403: false, 404: false} {
		s.SetHub(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			return true
		})
		_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		if err == nil || isTemporary(err) != want {
			t.Errorf("status %d: %v is temporary: %v, want %v", status, err, !want, want)
		}
	}
}

// TestNotAHub pulls from servers that are not hubs.
func TestNotAHub(t *testing.T) {
	s, c := start(t)
	for _, test := range []struct {
		answer string
		words  []string
	}{
		{"<html>welcome</html>", []string{"cannot parse the hub's description"}},
		{"{}", []string{"no commit"}},
		{`{"sha":"../../etc"}`, []string{"no commit"}},
		{`{"sha":"` + strings.Repeat("a", 40) + `","siblings":[{"rfilename":"../config.json"}]}`, []string{"no config.json"}},
		{`{"sha":7}`, []string{"cannot parse the hub's description"}},
		{strings.Repeat(" ", maxInfo+1), []string{"more than"}},
	} {
		s.SetHub(func(w http.ResponseWriter, _ *http.Request) bool {
			if _, err := w.Write([]byte(test.answer)); err != nil {
				panic(http.ErrAbortHandler)
			}
			return true
		})
		_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		wantError(t, err, test.words...)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		after, limit string
		min, max     time.Duration
	}{
		{"", "", 0, 0},
		{"7", "", 7 * time.Second, 7 * time.Second},
		{"-7", "", 0, 0},
		{"99999999999", "", time.Hour, 1 << 62},
		{"soon", "", 0, 0},
		{time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), "", 55 * time.Second, time.Minute},
		{"Fri, 01 Jan 2010 00:00:00 GMT", "", 0, 0},
		{"", `"api";r=0;t=55`, 55 * time.Second, 55 * time.Second},
		{"7", `"resolvers"; r = 0; t = 155`, 155 * time.Second, 155 * time.Second},
		{"7", `"api";r=12;t=55`, 7 * time.Second, 7 * time.Second},
	} {
		h := http.Header{}
		h.Set("Retry-After", test.after)
		h.Set("RateLimit", test.limit)
		if got := retryAfter(h); got < test.min || got > test.max {
			t.Errorf("%q and %q: %v, want %v to %v", test.after, test.limit, got, test.min, test.max)
		}
	}
}

// TestOrigins checks that only the hub's own origin counts as the hub.
func TestOrigins(t *testing.T) {
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	hub := parse("https://huggingface.co")
	for to, want := range map[string]bool{
		"https://huggingface.co/api": true, "https://huggingface.co:443/x": true, "http://huggingface.co/x": false, "https://huggingface.co:8443/x": false,
		"https://cdn-lfs.huggingface.co/x": false, "https://huggingface.co.evil.example": false, "https://hf.co": false, "https://huggingface.co@evil.example": false,
	} {
		if got := sameOrigin(parse(to), hub); got != want {
			t.Errorf("%s is the hub: %v, want %v", to, got, want)
		}
	}
	via := []*http.Request{{URL: hub}}
	if err := checkRedirect(&http.Request{URL: parse("http://huggingface.co")}, via); !errors.Is(err, errRedirect) {
		t.Errorf("from https to http: %v", err)
	}
	if err := checkRedirect(&http.Request{URL: parse("https://cdn.example")}, via); err != nil {
		t.Error(err)
	}
}

// TestCertificate checks that an untrusted certificate fails at once.
func TestCertificate(t *testing.T) {
	start(t)
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Setenv("HF_ENDPOINT", server.URL)
	c := newClient(t)
	c.limits.backoff = time.Minute // a second try would take too long
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "cannot reach the hub", "certificate", "--model builtin")
}

// proxied points the client at a hub whose name does not exist, so that only a
// proxy can reach it.
func proxied(t *testing.T, variable, proxy string) *Client {
	t.Helper()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(name, "")
		t.Setenv(strings.ToLower(name), "")
	}
	t.Setenv(variable, proxy)
	t.Setenv("HF_ENDPOINT", "http://hub.invalid")
	return newClient(t)
}

func TestAllProxy(t *testing.T) {
	s, _ := start(t)
	hub := strings.TrimPrefix(s.URL, "http://")
	// An HTTP proxy is a server that receives absolute URLs; the test's hub accepts
	// them too.
	for _, variable := range []string{"ALL_PROXY", "all_proxy", "HTTP_PROXY"} {
		c := proxied(t, variable, s.URL)
		s.Forget()
		pullModel(t, s, c, model)
		if _, err := c.Remove(toRef(t, model)); err != nil {
			t.Fatal(err)
		}
	}
	for _, scheme := range []string{"socks5", "socks5h"} {
		asked := make(chan string, 100)
		c := proxied(t, "ALL_PROXY", scheme+"://"+serveSOCKS(t, hub, asked))
		pullModel(t, s, c, model)
		if got := <-asked; got != "hub.invalid:80" {
			t.Errorf("%s: asked for %q", scheme, got)
		}
		if _, err := c.Remove(toRef(t, model)); err != nil {
			t.Fatal(err)
		}
	}
	c := proxied(t, "ALL_PROXY", s.URL)
	t.Setenv("NO_PROXY", ".invalid")
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "cannot reach the hub")
	c = proxied(t, "ALL_PROXY", "socks4://me:"+token+"@127.0.0.1:1")
	c.limits.backoff = time.Hour // a second try would not end in time
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = c.Pull(ctx, toRef(t, model), PullOptions{})
	wantError(t, err, "socks4://127.0.0.1:1", "expected http, https, socks5 or socks5h")
}

// serveSOCKS starts a SOCKS 5 proxy that connects every client to one address,
// and reports the address that the client requested.
func serveSOCKS(t *testing.T, to string, asked chan<- string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close() //nolint:errcheck // it may be closed already
				address, err := greetSOCKS(client)
				if err != nil {
					return
				}
				asked <- address
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer server.Close()       //nolint:errcheck // as above
				go io.Copy(server, client) //nolint:errcheck // it ends with either side
				io.Copy(client, server)    //nolint:errcheck // it ends with either side
			}()
		}
	}()
	return listener.Addr().String()
}

// greetSOCKS reads a request to connect to a name and grants it.
func greetSOCKS(client net.Conn) (string, error) {
	head := make([]byte, 2) // version, number of methods
	if _, err := io.ReadFull(client, head); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(client, make([]byte, head[1])); err != nil {
		return "", err
	}
	if _, err := client.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	request := make([]byte, 5) // version, connect, 0, kind of address, length of the name
	if _, err := io.ReadFull(client, request); err != nil {
		return "", err
	}
	name := make([]byte, int(request[4])+2)
	if _, err := io.ReadFull(client, name); err != nil {
		return "", err
	}
	end := len(name) - 2
	_, err := client.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return net.JoinHostPort(string(name[:end]), strconv.Itoa(int(name[end])<<8+int(name[end+1]))), err
}
