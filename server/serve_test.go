package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A served is a server on a socket.
type served struct {
	*Server
	address     string
	transport   http.RoundTripper
	connections *atomic.Int64 // accepted and not closed yet by the server
	stop        context.CancelFunc
	ended       chan error
}

// A countingListener counts the connections that the server has open. A count of
// goroutines would change with anything that runs in the background.
type countingListener struct {
	net.Listener
	open *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{TCPConn: c.(*net.TCPConn), closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type countedConn struct {
	*net.TCPConn
	closed func()
}

func (c *countedConn) Close() error {
	defer c.closed()
	return c.TCPConn.Close()
}

func serveOn(t *testing.T, cfg Config) *served {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	v := &served{Server: newServer(t, cfg), address: listener.Addr().String(), transport: http.DefaultTransport, connections: new(atomic.Int64), stop: stop, ended: make(chan error, 1)}
	go func() { v.ended <- v.Serve(ctx, countingListener{listener, v.connections}) }()
	t.Cleanup(func() {
		stop()
		if err := v.end(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// end waits until the server has ended. It may be called several times.
func (v *served) end() error {
	select {
	case err := <-v.ended:
		v.ended <- err
		return err
	case <-time.After(time.Minute):
		return errors.New("the server does not end")
	}
}

func (v *served) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", v.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

const smallRequest = `{"query": "q", "texts": ["d"]}`

func rawRequest(body string) string {
	return fmt.Sprintf("POST /rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body)
}

func send(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func readAnswer(t *testing.T, r *bufio.Reader) (int, string) {
	t.Helper()
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// closed waits until the other side closes.
func closed(t *testing.T, r io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, r); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection stays open: %v", err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%s does not come about", what)
		}
	}
}

// Slow senders of headers are disconnected and slow senders of bodies get an error.
// Neither delays other clients or keeps memory.
func TestSlowClients(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{HeaderTimeout: 300 * time.Millisecond, BodyTimeout: 300 * time.Millisecond, Requests: 1}})
	var headers, bodies []*net.TCPConn
	for range 20 {
		c := v.dial(t)
		send(t, c, "POST /rerank HTTP/1.1\r\nHost: localh")
		headers = append(headers, c)
		c = v.dial(t)
		send(t, c, rawRequest(smallRequest)[:len(rawRequest(smallRequest))-3])
		bodies = append(bodies, c)
	}
	quick := v.dial(t)
	send(t, quick, rawRequest(smallRequest))
	if status, body := readAnswer(t, bufio.NewReader(quick)); status != 200 {
		t.Errorf("beside slow clients: %d %s", status, body)
	}
	for _, c := range bodies {
		if status, body := readAnswer(t, bufio.NewReader(c)); status != 408 || !strings.Contains(body, `"error_type":"Timeout"`) {
			t.Errorf("a slow body: %d %s", status, body)
		}
		closed(t, c)
	}
	for _, c := range headers {
		closed(t, c)
	}
	if n := v.bodies.taken.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are held", n)
	}
	v.stop()
	if err := v.end(); err != nil {
		t.Error(err)
	}
	waitFor(t, "the end of all connections", func() bool { return v.connections.Load() == 0 })
}

// A body that is too large is rejected by its announced length before it is read, or
// when it passes the limit. One that ends early keeps no memory.
func TestOversizeAndBrokenBodies(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{BodyBytes: 1000}})
	c := v.dial(t)
	send(t, c, "POST /v2/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
	if status, body := readAnswer(t, bufio.NewReader(c)); status != 413 || !strings.Contains(body, `{"message":"the body exceeds 1000 bytes`) {
		t.Errorf("announced: %d %s", status, body)
	}
	c = v.dial(t)
	send(t, c, "POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+strings.Repeat("64\r\n"+strings.Repeat("x", 100)+"\r\n", 11))
	if status, body := readAnswer(t, bufio.NewReader(c)); status != 413 || !strings.Contains(body, `{"detail":"the body exceeds 1000 bytes`) {
		t.Errorf("not announced: %d %s", status, body)
	}
	for range 20 {
		c = v.dial(t)
		send(t, c, rawRequest(smallRequest)[:len(rawRequest(smallRequest))-3])
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "an empty budget", func() bool { return v.bodies.taken.Load() == 0 })
	c = v.dial(t)
	send(t, c, "POST /rerank HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 2*maxHeaderBytes)+"\r\n\r\n")
	if status, _ := readAnswer(t, bufio.NewReader(c)); status != 431 {
		t.Errorf("large headers: %d", status)
	}
}

// A closed connection cancels its request at once. A half-closed one gets an error.
func TestVanishedAndHalfClosedClients(t *testing.T) {
	t.Parallel()
	var freed sync.WaitGroup
	e := &fakeEngine{before: func(ctx context.Context) error {
		defer freed.Done()
		<-ctx.Done()
		return ctx.Err()
	}}
	v := serveOn(t, Config{Engine: e})
	freed.Add(2)
	gone, half := v.dial(t), v.dial(t)
	send(t, gone, rawRequest(smallRequest))
	send(t, half, rawRequest(smallRequest))
	waitFor(t, "two running requests", func() bool { return v.inProgress() == 2 })
	if err := errors.Join(gone.Close(), half.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	freed.Wait()
	if status, body := readAnswer(t, bufio.NewReader(half)); status != 499 || !strings.Contains(body, `"error_type":"Cancelled"`) {
		t.Errorf("half closed: %d %s", status, body)
	}
	closed(t, half)
	waitFor(t, "no running request", func() bool { return v.inProgress() == 0 && v.bodies.taken.Load() == 0 })
}

func (s *Server) inProgress() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Pipelined requests are answered in order.
func TestPipelining(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{})
	c := v.dial(t)
	const requests = 50
	var all strings.Builder
	for i := range requests {
		body := fmt.Sprintf(`{"query": "q", "texts": ["d"], "return_text": true, "n": %d}`, i)
		switch i % 3 {
		case 1:
			body = `{"query": 1}`
		case 2:
			all.WriteString("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
			continue
		}
		all.WriteString(rawRequest(body))
	}
	send(t, c, all.String())
	r := bufio.NewReader(c)
	for i := range requests {
		if status, body := readAnswer(t, r); status != []int{200, 422, 200}[i%3] || i%3 == 2 && !strings.Contains(body, "ready") {
			t.Errorf("answer %d: %d %s", i, status, body)
		}
	}
}

// A server that shuts down answers with 503 while running requests finish.
func TestOrderlyEnd(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	e := &fakeEngine{before: func(context.Context) error { <-finish; return nil }}
	v := serveOn(t, Config{Engine: e})
	running := v.dial(t)
	send(t, running, rawRequest(smallRequest))
	waitFor(t, "a running request", func() bool { return v.inProgress() == 1 })
	v.stop()
	waitFor(t, "draining", v.isDraining)
	for path, want := range map[string]int{"/ready": 503, "/health": 200} {
		answer, err := http.Get("http://" + v.address + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != want {
			t.Errorf("%s while it ends: %d, want %d", path, answer.StatusCode, want)
		}
	}
	late := v.dial(t)
	send(t, late, rawRequest(smallRequest))
	if status, body := readAnswer(t, bufio.NewReader(late)); status != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("a late request: %d %s", status, body)
	}
	closed(t, late)
	close(finish)
	if status, body := readAnswer(t, bufio.NewReader(running)); status != 200 {
		t.Errorf("the running request: %d %s", status, body)
	}
	if err := v.end(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", v.address); err == nil {
		t.Error("it still listens", c.Close())
	}
}

// During the drain delay /ready answers 503 and requests are scored, so that a load
// balancer loses none. Their answers end the connections, which it would use again. After
// the delay requests are refused.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	var scored atomic.Int64
	e := &fakeEngine{before: func(context.Context) error {
		if scored.Add(1) == 1 {
			<-finish
		}
		return nil
	}}
	v := serveOn(t, Config{Engine: e, Limits: Limits{DrainDelay: 2 * time.Second}})
	running := v.dial(t)
	send(t, running, rawRequest(smallRequest))
	waitFor(t, "a running request", func() bool { return v.inProgress() == 1 })
	stopped := time.Now()
	v.stop()
	ask := func() (ready, status int, closes bool) {
		t.Helper()
		answer, err := http.Get("http://" + v.address + "/ready")
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Fatal(err)
		}
		late, err := http.Post("http://"+v.address+"/rerank", "application/json", strings.NewReader(smallRequest))
		if err != nil {
			t.Fatal(err)
		}
		if err := late.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, late.StatusCode, late.Close
	}
	waitFor(t, "a server that is not ready", v.retiring.Load)
	if ready, status, closes := ask(); ready != 503 || status != 200 || !closes {
		t.Errorf("during the delay: /ready %d, a request %d, closes %v; want 503, 200 and true", ready, status, closes)
	}
	waitFor(t, "draining", v.isDraining)
	if took := time.Since(stopped); took < v.Limits.DrainDelay {
		t.Errorf("it refuses requests after %v, want %v", took, v.Limits.DrainDelay)
	}
	if ready, status, closes := ask(); ready != 503 || status != 503 || !closes {
		t.Errorf("after the delay: /ready %d, a request %d, closes %v; want 503, 503 and true", ready, status, closes)
	}
	close(finish)
	if status, body := readAnswer(t, bufio.NewReader(running)); status != 200 {
		t.Errorf("the running request: %d %s", status, body)
	}
	if err := v.end(); err != nil {
		t.Error(err)
	}
}

// A request whose body is arriving at shutdown is answered, even if nothing else is
// running.
func TestOrderlyEndOfAnUpload(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	v := serveOn(t, Config{})
	c := v.dial(t)
	call := rawRequest(smallRequest)
	send(t, c, call[:len(call)-5])
	waitFor(t, "an upload", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.present == 1
	})
	v.stop()
	waitFor(t, "draining", v.isDraining)
	time.Sleep(closeTime + 200*time.Millisecond) // idle connections are closed by then
	send(t, c, call[len(call)-5:])
	if status, body := readAnswer(t, bufio.NewReader(c)); status != 503 || !strings.Contains(body, `"error":"the server is stopping"`) {
		t.Errorf("the upload: %d %s", status, body)
	}
	if err := v.end(); err != nil {
		t.Error(err)
	}
}

// Requests that exceed the drain timeout get an error.
func TestEndWithDeadline(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Engine: &fakeEngine{before: waits}, Limits: Limits{DrainTimeout: 100 * time.Millisecond}})
	running := v.dial(t)
	send(t, running, rawRequest(smallRequest))
	waitFor(t, "a running request", func() bool { return v.inProgress() == 1 })
	v.stop()
	if status, body := readAnswer(t, bufio.NewReader(running)); status != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("the running request: %d %s", status, body)
	}
	if err := v.end(); err != nil {
		t.Error(err)
	}
}

// A dashboard's endless stream does not delay the shutdown, and outlives the
// deadlines of requests until then.
func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for i := 0; ; i++ {
			if _, err := io.WriteString(w, "data: x\n\n"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			if i == 40 {
				close(begun)
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	v := serveOn(t, Config{Dashboard: stream, Limits: Limits{RequestTimeout: 20 * time.Millisecond, WriteTimeout: 20 * time.Millisecond}})
	c := v.dial(t)
	send(t, c, "GET /dashboard/api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-begun
	v.stop()
	closed(t, c)
	if err := v.end(); err != nil {
		t.Error(err)
	}
}

// A client that does not read its answer is disconnected after the write timeout.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{RequestTimeout: 200 * time.Millisecond, WriteTimeout: 200 * time.Millisecond}})
	c := v.dial(t)
	if err := c.SetReadBuffer(1); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("d", 7_000_000)
	send(t, c, rawRequest(`{"query": "q", "texts": ["`+long+`"], "return_text": true}`))
	waitFor(t, "the end of the request", func() bool { return v.inProgress() == 0 && v.bodies.taken.Load() == 0 })
}

// The body timeout ends with the body: scoring may take longer.
func TestScoringOutlastsTheBodysDeadline(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{before: func(ctx context.Context) error {
		select {
		case <-time.After(300 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	v := serveOn(t, Config{Engine: e, Limits: Limits{BodyTimeout: 100 * time.Millisecond}})
	c := v.dial(t)
	r := bufio.NewReader(c)
	for range 2 {
		send(t, c, rawRequest(smallRequest))
		if status, body := readAnswer(t, r); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
}
