package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A reader reads events from a connection.
type reader struct{ lines *bufio.Scanner }

func watch(ctx context.Context, t testing.TB, url string) *reader {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/dashboard/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	})
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %d", response.StatusCode)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &reader{lines}
}

// next returns an event, "" at the end.
func (r *reader) next(t testing.TB) (name string, data map[string]json.RawMessage) {
	t.Helper()
	for r.lines.Scan() && r.lines.Text() != "" {
		field, value, _ := strings.Cut(r.lines.Text(), ": ")
		if field == "event" {
			name = value
		} else if err := json.Unmarshal([]byte(value), &data); err != nil {
			t.Fatal(err)
		}
	}
	return name, data
}

func (d *Dashboard) watching() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.hub.watchers)
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Ten watchers get the same events from one reading of the engine per second, and
// leave nothing behind.
func TestTenWatchers(t *testing.T) {
	f := &fakeEngine{}
	s := serve(t, f, "127.0.0.1:0", "")
	ctx, cancel := context.WithCancel(context.Background())
	var readers []*reader
	for range 10 {
		readers = append(readers, watch(ctx, t, s.url))
	}
	for _, r := range readers {
		if name, data := r.next(t); name != "history" || len(data["facts"]) == 0 || data["rows"] == nil {
			t.Fatalf("the first event is %q: %v", name, data)
		}
	}
	start, reads := time.Now(), f.readings()
	rows := make(map[string]int)
	for range 2 {
		for _, r := range readers {
			name, data := r.next(t)
			if name != "second" {
				t.Fatalf("event %q", name)
			}
			rows[string(data["row"])]++
		}
	}
	if most, n := int(time.Since(start)/time.Second)+2, f.readings()-reads; n > most {
		t.Errorf("%d readings of the engine in %v", n, time.Since(start))
	}
	for row, n := range rows {
		if n > 10 {
			t.Errorf("row %s came %d times to 10 watchers", row, n)
		}
	}
	cancel()
	waitFor(t, "no watcher is left", func() bool { return s.watching() == 0 })
	waitFor(t, "no goroutine is left", func() bool { return serving() == 0 })
}

// serving counts the goroutines of this process that serve watchers.
func serving() int {
	stacks := make([]byte, 4<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("dashboard.(*Dashboard).watch("))
}

// A watcher that reads nothing is disconnected; the others do not wait for it.
func TestSlowWatcher(t *testing.T) {
	d, _, pass := seconds(t)
	slow, _ := d.join()
	quick, first := d.join()
	if !strings.HasPrefix(string(first), "event: history\ndata: {") {
		t.Errorf("%.60q", first)
	}
	for range behind + 1 {
		pass()
		if event := <-quick; !strings.HasPrefix(string(event), "event: second\n") {
			t.Fatalf("%.60q", event)
		}
	}
	if n := d.watching(); n != 1 {
		t.Errorf("%d watch", n)
	}
	taken := 0
	for range slow {
		taken++
	}
	if taken != behind {
		t.Errorf("the slow one got %d events before it was let go, want %d", taken, behind)
	}
	d.leave(slow) // as its handler does, once more
}

// A client that reads nothing from its connection is disconnected.
func TestClientThatNeverReads(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	d, _, pass := seconds(t)
	for range history { // so that the first event does not fit into buffers that are small
		pass()
	}
	server, client := net.Pipe() // which has no buffer at all
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := &pipeWriter{Conn: server, header: make(http.Header)}
		request, err := http.NewRequest(http.MethodGet, "/dashboard/api/events", nil)
		if err != nil {
			t.Error(err)
			return
		}
		d.ServeHTTP(w, request)
	}()
	waitFor(t, "it watches", func() bool { return d.watching() == 1 })
	select {
	case <-done:
	case <-time.After(writeTime + time.Minute):
		t.Fatal("its handler still waits")
	}
	if n := d.watching(); n != 0 {
		t.Errorf("%d watch", n)
	}
}

// A pipeWriter writes responses without headers to a connection.
type pipeWriter struct {
	net.Conn
	header http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }
func (w *pipeWriter) WriteHeader(int)     {}
func (w *pipeWriter) Flush()              {}

func TestTooManyWatchers(t *testing.T) {
	d, _, _ := seconds(t)
	for range mostWatchers {
		if events, _ := d.join(); events == nil {
			t.Fatal("refused too early")
		}
	}
	if events, _ := d.join(); events != nil {
		t.Error("one too many")
	}
	d.closeHub()
	if events, _ := d.join(); events != nil || d.watching() != 0 {
		t.Error("somebody watches what has ended")
	}
}

// The end of the dashboard disconnects all watchers.
func TestEndOfRun(t *testing.T) {
	s := serve(t, &fakeEngine{}, "127.0.0.1:0", "")
	r := watch(context.Background(), t, s.url)
	s.stop()
	for name := "history"; name != ""; { // its connection ends
		name, _ = r.next(t)
	}
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkWatchers measures the CPU time per second of a dashboard of a busy engine,
// without watchers and with ten. It includes the ten clients, which run in this
// process, so the server alone uses less.
func BenchmarkWatchers(b *testing.B) {
	for b.Loop() {
		alone, watched := cpuPerSecond(b, 0), cpuPerSecond(b, 10)
		b.ReportMetric(alone, "ms/s-alone")
		b.ReportMetric(watched, "ms/s-watched")
		b.ReportMetric(watched-alone, "ms/s-of-ten-watchers")
	}
}

func cpuPerSecond(b *testing.B, watchers int) float64 {
	const span = 10 * time.Second
	s := serve(b, builtin(b), "127.0.0.1:0", "")
	ctx, cancel := context.WithCancel(context.Background())
	defer s.stop()
	defer cancel()
	for range watchers {
		r := watch(ctx, b, s.url)
		go func() {
			for r.lines.Scan() {
			}
		}()
	}
	time.Sleep(time.Second)
	before := cpuTime(b)
	time.Sleep(span)
	return telemetry.Milliseconds(cpuTime(b)-before) / span.Seconds()
}

// HEAD gets the stream's headers, adds no watcher and keeps the connection open.
func TestHeadOfTheStream(t *testing.T) {
	s := serve(t, &fakeEngine{}, "127.0.0.1:0", "")
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for range 3 {
		if _, err := conn.Write([]byte("HEAD /dashboard/api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodHead})
		if err != nil || answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%v: %v", answer, err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if n := s.watching(); n != 0 {
			t.Errorf("%d watch", n)
		}
	}
}
