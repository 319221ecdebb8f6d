package server

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// raw sends a request verbatim and returns its answer.
func (v *served) raw(t *testing.T, request string) (int, string) {
	t.Helper()
	c := v.dial(t)
	send(t, c, request)
	return readAnswer(t, bufio.NewReader(c))
}

// Requests are accepted under addresses, names of this machine and allowed names.
// Other names are rejected with the flag that allows them.
func TestHosts(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{AllowedHosts: []string{"Rank.example.org:8437"}})
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	short, _, _ := strings.Cut(own, ".")
	for _, host := range []string{
		"127.0.0.1", "127.0.0.1:8437", "[::1]:8437", "[::1]", "192.168.1.7:8437", "localhost", "LOCALHOST:1", "a.localhost:1", "localhost.",
		"rank.example.org:8437", "RANK.example.org", own, own + ":8437", own + ".", strings.ToUpper(own), short, short + ".local", short + ".local:8437",
		"host.docker.internal", "host.docker.internal:8437", "host.containers.internal", "",
	} {
		if status, body, _ := v.ask(t, "/rerank", smallRequest, "Host", host); host != "" && status != 200 {
			t.Errorf("%q: %d %s", host, status, body)
		}
	}
	for _, host := range []string{
		"evil.example.org", "rank.example.org.evil", "localhost.evil", "127.0.0.1.evil", "evil.local", "local", "xlocalhost", "example.org",
		own + ".evil", short + ".local.evil", "x" + short, short + ".evil.org", "host.docker.internal.evil.org", "docker.internal",
	} {
		for _, a := range apis {
			status, body, _ := v.ask(t, a.path, a.body("q", "d"), "Host", host+":8437")
			if want := fmt.Sprintf(`host \"%s\" is not allowed; add --allowed-host %s"`, strings.ToLower(host), strings.ToLower(host)); status != 403 || !strings.Contains(body, want) {
				t.Errorf("%s %q: %d %s, want 403 %s", a.path, host, status, body, want)
			}
		}
	}
}

// A page whose host name resolves to this machine has the same origin for its
// browser, and gets nothing.
func TestDNSRebinding(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{CORSOrigins: []string{"https://app.example.org"}, Dashboard: http.NotFoundHandler()})
	const host = "Host: evil.example.org:8437\r\nOrigin: http://evil.example.org:8437\r\nSec-Fetch-Site: same-origin\r\n"
	for _, request := range []string{
		"POST /rerank", "POST /v1/rerank", "POST /v2/rerank", "POST /predict", "POST /score", "POST /", "POST /invocations",
		"GET /info", "GET /metrics", "GET /v1/models", "GET /dashboard", "GET /dashboard/api/events", "GET /docs", "GET /openapi.json",
		"GET //info", "GET /info/", "POST /health", "POST /ping", "OPTIONS /rerank", "OPTIONS /health", "GET /health/../info", "GET /%69nfo",
	} {
		body := "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
		if status, answer := v.raw(t, request+" HTTP/1.1\r\n"+host+body); status != 403 || !strings.Contains(answer, "--allowed-host evil.example.org") {
			t.Errorf("%s: %d %s", request, status, answer)
		}
	}
	// Names that break out of the message or fill it are not repeated.
	for _, name := range []string{"evil;reboot", "a'b", "$(reboot)", strings.Repeat("x", 5000)} {
		if status, answer := v.raw(t, "GET /info HTTP/1.1\r\nHost: "+name+"\r\n\r\n"); status != 403 || !strings.Contains(answer, "--allowed-host HOST") || len(answer) > 500 {
			t.Errorf("%.30q: %d %.500s", name, status, answer)
		}
	}
}

// Health checks are answered under every name, and without one, as HTTP/1.0 allows.
func TestProbes(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{})
	for _, path := range []string{"/health", "/ready", "/ping", "/"} {
		for _, request := range []string{
			"GET %s HTTP/1.0\r\n\r\n", "HEAD %s HTTP/1.0\r\n\r\n", "GET %s HTTP/1.1\r\nHost: mlxrank.prod.svc.cluster.local:8437\r\n\r\n", "GET %s HTTP/1.1\r\nHost: \r\n\r\n",
		} {
			request = fmt.Sprintf(request, path)
			c := v.dial(t)
			send(t, c, request)
			method, _, _ := strings.Cut(request, " ")
			answer, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
			if err != nil || answer.StatusCode != 200 {
				t.Fatalf("%q: %v %v", request, answer, err)
			}
			if err := answer.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	call := fmt.Sprintf("POST /rerank HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(smallRequest), smallRequest)
	if status, answer := v.raw(t, call); status != 200 {
		t.Errorf("a request without Host: %d %s", status, answer)
	}
	if status, _ := v.raw(t, "GET /health HTTP/1.1\r\n\r\n"); status != 400 { // RFC 9112
		t.Errorf("HTTP/1.1 without Host: %d", status)
	}
}

// With a key the host name does not matter.
func TestHostsWithKey(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Key: "secret"})
	const key = "Bearer secret"
	if status, body, _ := v.ask(t, "/rerank", smallRequest, "Host", "rerank.internal", "Authorization", key); status != 200 {
		t.Errorf("with the key: %d %s", status, body)
	}
	for _, path := range []string{"/rerank", "/", "/invocations", "/score"} {
		if status, body, _ := v.ask(t, path, smallRequest, "Host", "rerank.internal"); status != 401 {
			t.Errorf("%s without the key: %d %s", path, status, body)
		}
	}
	// A path needs the key in every spelling.
	for _, path := range []string{"/info", "//info", "/info/", "/v1//models", "/dashboard//api/events", "//dashboard/api/events", "/docs/../info", "/health/../info"} {
		if status, body, _ := v.do(t, http.MethodGet, path, ""); status == 200 {
			t.Errorf("%s without the key: %d %s", path, status, body)
		}
	}
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"https://rerank.internal", "*.internal", "a b", "", "rerank.internal/x"} {
		if _, err := New(Config{Engine: &fakeEngine{}, AllowedHosts: []string{host}}); err == nil || !strings.Contains(err.Error(), "rerank.example.org") {
			t.Errorf("%q: %v", host, err)
		}
	}
	v := serveOn(t, Config{AllowedHosts: []string{"*"}})
	if status, body, _ := v.ask(t, "/rerank", smallRequest, "Host", "any.example.org"); status != 200 {
		t.Errorf("with all hosts allowed: %d %s", status, body)
	}
}

// A preflight and the request after it are decided alike, whatever headers the
// client's SDK adds.
func TestPreflights(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Key: "secret", CORSOrigins: []string{"https://app.example.org", "https://*.example.net", "http://localhost:*"}})
	closed := serveOn(t, Config{})
	headers := "authorization,content-type,x-fern-language,x-fern-sdk-name,x-stainless-arch,x-stainless-retry-count,x-anything"
	for origin, want := range map[string]bool{
		"https://app.example.org": true, "https://APP.example.org": true, "https://a.example.net": true, "https://a.b.example.net": true, "http://localhost:3000": true,
		"http://app.example.org": false, "https://app.example.org:444": false, "https://example.net": false, "https://aexample.net": false,
		"https://a.example.net.evil.org": false, "https://evil.org": false, "http://localhost.evil.org": false, "null": false,
	} {
		for _, path := range []string{"/rerank", "/v1/rerank", "/v2/rerank", "/predict", "/score", "/"} {
			status, _, h := v.do(t, http.MethodOptions, path, "", "Origin", origin, "Access-Control-Request-Method", "POST",
				"Access-Control-Request-Headers", headers, "Access-Control-Request-Private-Network", "true")
			allowed := status == 204 && h.Get("Access-Control-Allow-Origin") == origin && h.Get("Access-Control-Allow-Headers") == headers &&
				h.Get("Access-Control-Allow-Methods") == "POST" && h.Get("Access-Control-Allow-Private-Network") == "true"
			if allowed != want || !want && h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: preflight of %s: %d %v", path, origin, status, h)
			}
		}
		status, body, h := v.ask(t, "/rerank", smallRequest, "Origin", origin, "Sec-Fetch-Site", "cross-site", "Authorization", "Bearer secret", "X-Fern-Language", "JavaScript")
		if (status == 200) != want || !want && status != 403 || (h.Get("Access-Control-Allow-Origin") == origin) != want {
			t.Errorf("request of %s: %d %s %v", origin, status, body, h)
		}
		if _, _, h := closed.do(t, http.MethodOptions, "/rerank", "", "Origin", origin, "Access-Control-Request-Method", "POST"); h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight of %s without CORS: %v", origin, h)
		}
	}
	// A page may read why its request was rejected.
	if status, _, h := v.ask(t, "/rerank", smallRequest, "Origin", "https://a.example.net"); status != 401 || h.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("without the key: %d %v", status, h)
	}
}
