package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/report/reporttest"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/server"
)

const testKey = "a-key"

// serving starts our server with the tiny model on loopback.
func serving(t *testing.T) string {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Model: tinyModel(t), Device: "cpu", Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Engine: e, Version: "test", Logger: zerolog.Nop(), Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		listener.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return listener.URL
}

// ofServer returns options that measure the server at an address.
func ofServer(t *testing.T, address, api string) Options {
	t.Helper()
	s, err := NewServer(address, api, testKey)
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Server = s
	return o
}

func runReport(t *testing.T, o Options) []reporttest.Section {
	t.Helper()
	return read(t, results.Files{Dir: o.Folder, Name: "bench"}.Report())
}

// cells returns the row of a table that begins with a name.
func cells(t *testing.T, sections []reporttest.Section, title, name string) []string {
	t.Helper()
	s := reporttest.Find(sections, title)
	if s == nil || len(s.Tables) == 0 {
		t.Fatalf("no section %q with a table", title)
	}
	for _, row := range s.Tables[0].Rows {
		if row[0] == name {
			return row[1:]
		}
	}
	t.Fatalf("%s: no row %q in %q", title, name, s.Tables[0].Rows)
	return nil
}

// Every API of our server gives the same report, with times of both sides.
func TestServer(t *testing.T) {
	address := serving(t)
	for _, api := range APIs {
		t.Run(api, func(t *testing.T) {
			o := ofServer(t, strings.Replace(address, "http://", "http://user:secret@", 1)+"/", api)
			o.withoutPlots = api != "tei"
			r := runExperiment(t, open(t, map[string]string{"requests": "20", "batch": "8", "concurrency": "2"}), o)
			run := &r.Points[0].Runs[0]
			if len(run.Requests) != 20 || run.Pairs() != 160 || run.Failed+run.Refused != 0 {
				t.Errorf("%d requests of %d pairs, %d failed, %d refused", len(run.Requests), run.Pairs(), run.Failed, run.Refused)
			}
			for _, q := range run.Requests {
				s := q.Server
				if s == nil || s.TotalMS == nil || s.TokenizationMS == nil || s.QueueWaitMS == nil || s.InferenceMS == nil {
					t.Fatalf("not all told: %+v", s)
				}
				if stages := *s.TokenizationMS + *s.QueueWaitMS + *s.InferenceMS; stages > *s.TotalMS+0.01 || *s.TotalMS > q.LatencyMS || *s.InferenceMS == 0 || q.Tokens == 0 {
					t.Errorf("stages %v of %v of %v ms, %d tokens", stages, *s.TotalMS, q.LatencyMS, q.Tokens)
				}
			}
			ours := runReport(t, o)
			for _, row := range []string{"Client: latency", "Server: total", "Server: tokenization", "Server: queue wait", "Server: inference", "Client less server's total"} {
				if got := cells(t, ours, "Client and Server", row); slices.Contains(got, "-") {
					t.Errorf("%s: %q", row, got)
				}
			}
			shown := strings.TrimRight(address, "/") + "/"
			for row, want := range map[string]string{"Server": shown, "API": api, "Server's version": "test", "Server's device": "cpu"} {
				if got := cells(t, ours, "Environment", row); got[0] != want {
					t.Errorf("%s is %q, want %q", row, got, want)
				}
			}
			// This machine's figures are not the server's.
			for _, row := range []string{"GPU Memory (MB)", "CPU Usage (%)", "Padding Waste (%)"} {
				if got := cells(t, ours, "Dashboard Metrics Summary", row); got[0] != "-" {
					t.Errorf("%s: %q", row, got)
				}
			}
			if got := cells(t, ours, "Dashboard Metrics Summary", "Inference (ms)"); got[0] == "-" {
				t.Errorf("inference: %q", got)
			}
			checkNoSecret(t, o)
		})
	}
}

func checkNoSecret(t *testing.T, o Options) {
	t.Helper()
	files := results.Files{Dir: o.Folder, Name: "bench"}
	for _, path := range []string{files.JSON(), files.Report()} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"secret", "user", testKey} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
	}
}

// The report has an engine's sections in the same order, and one more.
func TestServerStructure(t *testing.T) {
	flags := map[string]string{"requests": "4", "batch": "2"}
	engines, servers := options(t), ofServer(t, serving(t), "tei")
	runExperiment(t, open(t, flags), engines)
	runExperiment(t, open(t, flags), servers)
	titles := func(o Options) (list []string) {
		for _, s := range runReport(t, o) {
			if s.Title != "Token Lengths" && s.Title != "Client and Server" {
				list = append(list, s.Title)
			}
		}
		return list
	}
	if a, b := titles(engines), titles(servers); !slices.Equal(a, b) {
		t.Errorf("sections %q, want %q", b, a)
	}
}

// A peer is a fake text-embeddings-inference server.
func peer(t *testing.T, answer func(w http.ResponseWriter, n int64, texts int)) (address string, calls *atomic.Int64) {
	t.Helper()
	calls = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/rerank" || r.Header.Get("Authorization") != "Bearer "+testKey {
			http.NotFound(w, r)
			return
		}
		var body struct {
			Query    string
			Texts    []string
			Truncate bool
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Query == "" || !body.Truncate {
			t.Errorf("body %+v, %v", body, err)
		}
		answer(w, calls.Add(1)-1, len(body.Texts))
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func write(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	fmt.Fprint(w, body) //nolint:errcheck // the client reports it
}

func ranking(texts int) string {
	var list []string
	for i := range texts {
		list = append(list, fmt.Sprintf(`{"index":%d,"score":0.5}`, texts-1-i))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// text-embeddings-inference reports milliseconds; other servers some times or none.
func TestServerHeaders(t *testing.T) {
	for _, test := range []struct {
		name    string
		headers func(n int64) map[string]string
		want    map[string]bool // whether a row has figures
	}{
		{"milliseconds", func(int64) map[string]string {
			return map[string]string{"X-Total-Time": "5", "X-Tokenization-Time": "1", "X-Queue-Time": "0", "X-Inference-Time": "3"}
		}, map[string]bool{"Server: total": true, "Server: tokenization": true, "Server: queue wait": true, "Server: inference": true}},
		{"nothing", func(int64) map[string]string { return nil }, map[string]bool{"Server: total": false, "Server: tokenization": false, "Server: queue wait": false, "Server: inference": false}},
		{"some, some nonsense", func(n int64) map[string]string {
			h := map[string]string{"X-Total-Time": "NaN", "X-Tokenization-Time": "-1", "X-Inference-Time": "3", "X-Queue-Time": "1"}
			if n%2 == 1 {
				delete(h, "X-Queue-Time")
			}
			return h
		}, map[string]bool{"Server: total": false, "Server: tokenization": false, "Server: queue wait": false, "Server: inference": true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, _ := peer(t, func(w http.ResponseWriter, n int64, texts int) {
				for name, value := range test.headers(n) {
					w.Header().Set(name, value)
				}
				write(w, 200, ranking(texts))
			})
			o := ofServer(t, address, "tei")
			o.withoutPlots = false
			r := runExperiment(t, open(t, map[string]string{"requests": "12", "batch": "3"}), o)
			ours := runReport(t, o)
			for row, told := range test.want {
				if got := cells(t, ours, "Client and Server", row); (got[0] != "-") != told {
					t.Errorf("%s: %q", row, got)
				}
			}
			if got := cells(t, ours, "Client and Server", "Client: latency"); slices.Contains(got, "-") {
				t.Errorf("client: %q", got)
			}
			told := test.want["Server: queue wait"]
			if got := cells(t, ours, "Stage Breakdown", "Queue Wait"); (got[0] != "-") != told {
				t.Errorf("stage: %q", got)
			}
			if got := cells(t, ours, "Stage Breakdown", "Other"); (got[0] != "-") != told {
				t.Errorf("other: %q", got)
			}
			if got := cells(t, ours, "Environment", "Server's /info"); got[0] != "-" {
				t.Errorf("info: %q", got)
			}
			if s := r.Points[0].Runs[0].Requests[0].Server; test.name == "milliseconds" && (*s.TotalMS != 5 || *s.InferenceMS != 3 || *s.QueueWaitMS != 0) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Refused and failed requests are counted; the others stand.
func TestServerMisses(t *testing.T) {
	for _, test := range []struct {
		name            string
		status          int
		body            string
		refused, failed int
		words           string
	}{
		{"no room", 429, `{"error":"Model is overloaded"}`, 5, 0, "Model is overloaded"},
		{"an error", 500, "oh | no\nno", 0, 5, "500 Internal Server Error"},
		{"another page", 200, "<html>", 0, 5, "invalid answer"},
		{"nothing", 200, "", 0, 5, "invalid answer"},
		{"null", 200, "null", 0, 5, "found 0 scores, expected 2"},
		{"too few", 200, `[{"index":0,"score":1}]`, 0, 5, "found 1 scores, expected 2"},
		{"one twice", 200, `[{"index":1,"score":1},{"index":1,"score":1}]`, 0, 5, "document 1 has two scores"},
		{"another index", 200, `[{"index":1,"score":1},{"index":2,"score":1}]`, 0, 5, "no valid index"},
		{"no score", 200, `[{"index":1,"score":null},{"index":0,"score":1}]`, 0, 5, "document 1 has no score"},
		{"not finite", 200, `[{"index":1,"score":1e999},{"index":0,"score":1}]`, 0, 5, "invalid answer"},
		{"elsewhere", 307, "", 0, 5, "307"},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, calls := peer(t, func(w http.ResponseWriter, n int64, texts int) {
				if n%2 == 0 {
					write(w, 200, ranking(texts))
					return
				}
				w.Header().Set("Location", "/elsewhere")
				write(w, test.status, test.body)
			})
			o := ofServer(t, address, "tei")
			r := runExperiment(t, open(t, map[string]string{"requests": "10", "batch": "2", "warmup": "0"}), o)
			run := &r.Points[0].Runs[0]
			if run.Refused != test.refused || run.Failed != test.failed || len(run.Requests) != 5 || calls.Load() != 10 {
				t.Errorf("%d refused, %d failed, %d answered of %d calls", run.Refused, run.Failed, len(run.Requests), calls.Load())
			}
			if text := run.Refusal + run.Failure; !strings.Contains(text, test.words) {
				t.Errorf("%q, want %q", text, test.words)
			}
			lines := strings.Join(reporttest.Find(runReport(t, o), "Config 1: batch=2, concurrency=1").Lines, "\n")
			if !strings.Contains(lines, " 5 of 10 requests (") {
				t.Errorf("the report says %q", lines)
			}
		})
	}
}

// A closed loop's sender waits as long as the server asks, within the run.
func TestServerRetryAfter(t *testing.T) {
	address, _ := peer(t, func(w http.ResponseWriter, n int64, texts int) {
		if n == 1 {
			w.Header().Set("Retry-After", "1")
			write(w, 429, "")
			return
		}
		write(w, 200, ranking(texts))
	})
	r := runExperiment(t, open(t, map[string]string{"requests": "3", "batch": "2", "warmup": "0"}), ofServer(t, address, "tei"))
	run := &r.Points[0].Runs[0]
	if run.Refused != 1 || len(run.Requests) != 2 || run.Requests[1].StartMS < 1000 || run.Requests[1].LatencyMS > 900 {
		t.Errorf("%d refused, %+v", run.Refused, run.Requests)
	}
	now := time.Now()
	for value, want := range map[string]time.Duration{
		"": 0, "2": 2 * time.Second, "0.5": time.Second / 2, "-3": 0, "soon": 0, "NaN": 0, "1e300": longestPause, "Inf": longestPause,
		now.Add(-time.Hour).UTC().Format(http.TimeFormat): 0, now.Add(time.Hour).UTC().Format(http.TimeFormat): longestPause,
	} {
		if got := retryAfter(value); got != want {
			t.Errorf("Retry-After %q is %v, want %v", value, got, want)
		}
	}
	l := &load{start: now, settings: experiment.Settings{Duration: experiment.Time(time.Second)}}
	if end := l.pause(time.Minute); !end.Equal(now.Add(time.Second)) {
		t.Errorf("a pause goes on to %v after the start", end.Sub(now))
	}
}

// A server that answers nothing fails the point, with the reason.
func TestServerGone(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	broken, calls := peer(t, func(w http.ResponseWriter, _ int64, _ int) { write(w, 500, "broken") })
	for _, test := range []struct {
		name, address, words string
		flags                map[string]string
	}{
		{"gone", gone.URL, "connection refused", map[string]string{"requests": "5"}},
		{"no such route", serving(t) + "/elsewhere", "404", map[string]string{"requests": "5"}},
		{"broken", broken, "50 requests failed in a row, the last: the server answered 500", map[string]string{"duration": "60s", "warmup": "0"}},
	} {
		_, err := Run(t.Context(), open(t, test.flags), ofServer(t, test.address, "tei"))
		if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v, want %q", test.name, err, test.words)
		}
	}
	if n := calls.Load(); n != 50 {
		t.Errorf("%d calls", n)
	}
	wrong := ofServer(t, serving(t), "tei")
	wrong.Server.key = "another"
	if _, err := Run(t.Context(), open(t, map[string]string{"requests": "5"}), wrong); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a wrong key: %v", err)
	}
}

// An experiment with an engine's settings cannot measure a server.
func TestServerRefuses(t *testing.T) {
	o := ofServer(t, "http://127.0.0.1:1", "tei")
	for words, flags := range map[string]map[string]string{
		"batch_timeout_ms: several": {"batch_timeout_ms": "0,1"},
		"mode: inference":           {"mode": "inference-only"},
	} {
		if _, err := Run(t.Context(), open(t, flags), o); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), words) {
			t.Errorf("%v: %v", flags, err)
		}
	}
	for _, address := range []string{"", "127.0.0.1:8437", "ftp://a", "http://", "http://a/?k=v", "http://a/#x", "http://u:secret@a/?k", "http://u:secret@[::1", "http://a\x00"} {
		if _, err := NewServer(address, "tei", ""); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// Only results of the same server can be resumed, and no results of engines.
func TestServerResume(t *testing.T) {
	answer := func(w http.ResponseWriter, _ int64, texts int) { write(w, 200, ranking(texts)) }
	address, calls := peer(t, answer)
	other, _ := peer(t, answer)
	flags := map[string]string{"requests": "3", "batch": "2", "warmup": "0"}
	o := ofServer(t, address, "tei")
	runExperiment(t, open(t, flags), o)
	o.Resume = true
	runExperiment(t, open(t, flags), o)
	if calls.Load() != 3 {
		t.Errorf("%d calls: measured again", calls.Load())
	}
	elsewhere := ofServer(t, other, "tei")
	elsewhere.Folder, elsewhere.Resume = o.Folder, true
	if _, err := Run(t.Context(), open(t, flags), elsewhere); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), address) {
		t.Errorf("%v", err)
	}
}

// An open loop keeps its schedule, and an interrupt does not wait for the server.
func TestServerOpenAndInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	var slow atomic.Bool
	entered, release := make(chan struct{}, 1), make(chan struct{})
	address, _ := peer(t, func(w http.ResponseWriter, n int64, texts int) {
		if slow.Load() {
			entered <- struct{}{}
			<-release
		}
		if n%4 == 3 {
			w.Header().Set("Retry-After", "30")
			write(w, 429, "")
			return
		}
		write(w, 200, ranking(texts))
	})
	flags := map[string]string{"requests": "40", "rate": "200", "batch": "2", "warmup": "0"}
	start := time.Now()
	r := runExperiment(t, open(t, flags), ofServer(t, address, "tei"))
	if run := &r.Points[0].Runs[0]; run.Refused != 10 || len(run.Requests) != 30 || time.Since(start) > 30*time.Second {
		t.Errorf("%d refused, %d answered in %v", run.Refused, len(run.Requests), time.Since(start))
	}
	slow.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	released := time.AfterFunc(time.Minute, func() { close(release) })
	_, err := Run(ctx, open(t, map[string]string{"requests": "2", "batch": "2"}), ofServer(t, address, "tei"))
	if !released.Stop() {
		t.Error("the run waited for the server's answer")
	} else {
		close(release)
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
