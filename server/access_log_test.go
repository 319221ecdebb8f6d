package server

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// Every answer has the id of its request, the client's if it can be printed as it is.
func TestRequestID(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newServer(t, Config{Logger: zerolog.New(&log).Level(zerolog.DebugLevel)})
	long := strings.Repeat("x", maxRequestID)
	for _, id := range []string{"a", "0191-A.b_c:d=e@f+g/h", "Root=1-67891233-abcdef012345678912345678", long} {
		log.Reset()
		if got := post(s, "/rerank", "{}", headerRequestID, id).Header().Get(headerRequestID); got != id {
			t.Errorf("%q became %q", id, got)
		}
		if want := `"request_id":"` + id + `"`; !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log.String())
		}
	}
	made := map[string]bool{}
	for _, id := range []string{"", " ", "a b", "a\nb", `a"b`, "a\\b", "\x1b[31m", "straße", long + "x"} {
		for _, path := range []string{"/rerank", "/health", "/nowhere"} {
			got := do(s, "GET", path, headerRequestID, id).Header().Get(headerRequestID)
			if _, err := uuid.Parse(got); err != nil || made[got] {
				t.Errorf("%q became %q", id, got)
			}
			made[got] = true
		}
	}
}

// lines decodes the lines of an access log.
func lines(t *testing.T, log *bytes.Buffer) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, fields)
	}
	return all
}

// The access log has a line for each request, whatever becomes of it.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	var log, access bytes.Buffer
	s := newServer(t, Config{Engine: openTiny(t, engine.Config{Cache: openCache(t)}), Logger: zerolog.New(&log).Level(zerolog.InfoLevel), AccessLog: &access, Key: "secret"})
	body := `{"query": "the city", "documents": ["water", "london is a city"]}`
	for range 2 {
		post(s, "/v2/rerank", body, "Authorization", "Bearer secret", headerRequestID, "r-1", headerPriority, "batch", headerDeadline, "9000")
	}
	post(s, "/v1/rerank", body, "Authorization", "Bearer wrong")
	do(s, "GET", "/secrettext?secrettext", "Authorization", "Bearer secret")
	got := lines(t, &access)
	if len(got) != 4 || log.Len() > 0 {
		t.Fatalf("%v; the log has %s", got, log.String())
	}
	first := got[0]
	for name, want := range map[string]any{
		"request_id": "r-1", "method": "POST", "route": "/v2/rerank", "status": 200., "bytes_in": float64(len(body)), "format": "cohere",
		"priority": "batch", "deadline_ms": 9000., "pairs": 2., "cache_hits": 0., "cache_misses": 2., "client": "192.0.2.1",
	} {
		if first[name] != want {
			t.Errorf("%s is %v, want %v", name, first[name], want)
		}
	}
	if at, err := time.Parse(time.RFC3339, first["time"].(string)); err != nil || time.Since(at) > time.Hour {
		t.Errorf("the time: %v, %v", first["time"], err)
	}
	sum := 0.
	for _, stage := range []string{"inference_ms", "tokenization_ms", "queue_wait_ms", "other_ms"} {
		sum += first[stage].(float64)
	}
	if whole := first["latency_ms"].(float64); sum < whole-1e-6 || sum > whole+1e-6 || whole > first["http_ms"].(float64) {
		t.Errorf("the stages add up to %v, the latency is %v: %v", sum, whole, first)
	}
	if second := got[1]; second["cache_hits"] != 2. || second["cache_misses"] != 0. {
		t.Errorf("the second request: %v", second)
	}
	if refused := got[2]; refused["status"] != 401. || refused["error_type"] != kindUnauthorized || refused["model"] != nil {
		t.Errorf("the refused request: %v", refused)
	}
	if unknown := got[3]; unknown["route"] != "other" || unknown["status"] != 404. {
		t.Errorf("the unknown path: %v", unknown)
	}
	if text := access.String(); strings.Contains(text, "secret") || strings.Contains(text, "london") {
		t.Errorf("texts, paths or keys: %s", text)
	}
}
