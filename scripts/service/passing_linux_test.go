package service

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPassing sends through every balancer what it must leave as it is: keys, ids, large bodies, refusals and a stream of events.
func TestPassing(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	small, large := newQuestions(t, 1, 2, 10), newQuestions(t, 1, 1, 300_000)
	servers := startServers(t, 3, "--api-key-file", keyFile(t))
	for _, b := range balancers() {
		t.Run(b.name, func(t *testing.T) {
			url := b.start(t, addressesOf(servers))
			ask := func(body string, headers ...string) (int, http.Header, []byte) {
				t.Helper()
				status, header, answer, err := post(t.Context(), http.DefaultClient, url, body, headers...)
				if err != nil {
					t.Fatal(err)
				}
				return status, header, answer
			}
			for _, q := range []*question{&small[0], &large[0]} {
				status, header, answer := ask(q.body)
				if err := q.check(answer); err != nil || status != http.StatusOK || header.Get("X-Request-Id") == "" || header.Get("X-Inference-Time-Us") == "" {
					t.Errorf("a body of %d bytes: %d, %v, %v", len(q.body), status, header, err)
				}
			}
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			if _, err := io.WriteString(w, large[0].body); errors.Join(err, w.Close()) != nil {
				t.Fatal(err)
			}
			status, _, answer := ask(packed.String(), "Content-Encoding", "gzip")
			if err := large[0].check(answer); err != nil || status != http.StatusOK {
				t.Errorf("a body in gzip: %d, %v", status, err)
			}
			if status, header, answer := ask(small[0].body, "Authorization", "Bearer other"); status != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" || !strings.Contains(string(answer), `"error_type":"Unauthorized"`) {
				t.Errorf("another key: %d, %v, %s", status, header, answer)
			}
			if status, _, answer := ask(strings.Repeat(" ", 16<<20+1)); status != http.StatusRequestEntityTooLarge || !strings.Contains(string(answer), `"error_type":"Validation"`) {
				t.Errorf("a body above mlxrank's limit: %d, %s; want mlxrank's answer", status, last(string(answer), 300))
			}
			checkEvents(t, url)
			checkLeaving(t, url, servers)
			checkDead(t, b, servers[0].address, &large[0])
		})
	}
}

// checkEvents reads two events of the dashboard's stream, which ends with the connection only.
func checkEvents(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/dashboard/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	for lines := bufio.NewScanner(io.LimitReader(w.Body, 1<<20)); events < 2 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") {
			events++
		}
	}
	cancel()
	if err := w.Body.Close(); err != nil {
		t.Error(err)
	}
	if events < 2 || w.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("the stream of events: %d, %v, %d events", w.StatusCode, w.Header, events)
	}
}

// checkLeaving leaves a request that takes seconds; a server must notice.
func checkLeaving(t *testing.T, url string, servers []*server) {
	t.Helper()
	before := countRequests(t, servers, "499")
	texts := make([]string, 150)
	for i := range texts {
		texts[i] = fmt.Sprintf(`"%d%s"`, i, strings.Repeat(" river", 250))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if status, _, _, err := post(ctx, http.DefaultClient, url, `{"query": "q", "texts": [`+strings.Join(texts, ",")+`]}`); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a request of 150 long texts: %d, %v; want no answer so soon", status, err)
	}
	for deadline := time.Now().Add(patience); countRequests(t, servers, "499") == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a client that leaves does not free its work")
		}
	}
}

// checkDead sends a large body while two of three servers do not listen.
func checkDead(t *testing.T, b *balancer, address string, q *question) {
	t.Helper()
	url := b.start(t, []string{freeAddress(t), address, freeAddress(t)})
	for range 3 {
		status, _, answer, err := post(t.Context(), http.DefaultClient, url, q.body)
		if err == nil {
			err = q.check(answer)
		}
		if err != nil {
			t.Errorf("a body of %d bytes beside dead servers: %d, %v", len(q.body), status, err)
		}
	}
}

func addressesOf(servers []*server) (list []string) {
	for _, s := range servers {
		list = append(list, s.address)
	}
	return list
}

// countRequests adds the requests for scores that servers have answered with a status, ""
// for any.
func countRequests(t *testing.T, servers []*server, status string) (sum int) {
	t.Helper()
	for _, s := range servers {
		sum += s.countRequests(t, status)
	}
	return sum
}

func (s *server) countRequests(t *testing.T, status string) (sum int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(w.Body)
	if err := errors.Join(err, w.Body.Close()); err != nil || w.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %d, %v", w.StatusCode, err)
	}
	for _, match := range regexp.MustCompile(`(?m)^mlxrank_http_requests_total{code="`+status+`\d*",.*route="/rerank"} (\d+)$`).FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(match[1]))
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// TestOverload sends more requests than the servers take. Every request reaches one server
// only, and every 429 the client, with Retry-After. The work is spread over all servers. The
// control repeats requests after 429.
func TestOverload(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	questions := newQuestions(t, 12, 6, 40)
	servers := startServers(t, 3, "--max-requests", "1")
	for _, b := range balancers() {
		t.Run(b.name, func(t *testing.T) {
			sent, refused, reached := overload(t, b.start(t, addressesOf(servers)), questions, servers)
			t.Logf("%d requests, %d refused, by server %v", sent, refused, reached)
			if sum := reached[0] + reached[1] + reached[2]; sum != sent || refused == 0 || min(reached[0], reached[1], reached[2]) == 0 {
				t.Errorf("%d requests, %d refused, by server %v; want each at one server, some refused, and some at each", sent, refused, reached)
			}
		})
	}
	t.Run("control", func(t *testing.T) {
		url := nginx.start(t, addressesOf(servers), replacement{" http_503", " http_503 http_429"},
			replacement{"11:8437 max_fails=1", "11:8437 max_fails=0"}, replacement{"12:8437 max_fails=1", "12:8437 max_fails=0"}, replacement{"13:8437 max_fails=1", "13:8437 max_fails=0"})
		if sent, refused, reached := overload(t, url, questions, servers); reached[0]+reached[1]+reached[2] <= sent {
			t.Errorf("nginx that repeats requests after 429: %d requests, %d refused, by server %v; want more at the servers", sent, refused, reached)
		}
	})
}

func overload(t *testing.T, url string, questions []question, servers []*server) (sent, refused int, reached [3]int) {
	t.Helper()
	for i, s := range servers {
		reached[i] = -s.countRequests(t, "")
	}
	var mu sync.Mutex
	var clients sync.WaitGroup
	for client := range 9 {
		clients.Go(func() {
			for n := range 4 {
				q := &questions[(client+n)%len(questions)]
				status, header, answer, err := post(t.Context(), http.DefaultClient, url, q.body)
				switch {
				case err == nil && status == http.StatusOK:
					err = q.check(answer)
				case err == nil && (status != http.StatusTooManyRequests || header.Get("Retry-After") != "1" || !strings.Contains(string(answer), `"error_type":"Overloaded"`)):
					err = fmt.Errorf("%d, %v, %s", status, header, answer)
				}
				mu.Lock()
				sent++
				if status == http.StatusTooManyRequests {
					refused++
				}
				if err != nil {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	for i, s := range servers {
		reached[i] += s.countRequests(t, "")
	}
	return sent, refused, reached
}
