package server

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	send(t, w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func zstandard(t testing.TB, text string, options ...zstd.EOption) string {
	t.Helper()
	w, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

// Compressed bodies get the same answers as plain ones; other codings are rejected
// with a list of the accepted ones.
func TestContentEncodings(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{BodyBytes: 100_000}})
	for _, a := range apis {
		body := a.body("q", "a document", strings.Repeat("another ", 1000))
		want := askScores(t, v, a.path, body)
		half := len(body) / 2
		for _, test := range []struct {
			coding, body string
			status       int
			message      string
		}{
			{"gzip", gzipped(t, body), 200, ""},
			{"GZip", gzipped(t, body), 200, ""},
			{"x-gzip", gzipped(t, body), 200, ""},
			{"gzip, identity", gzipped(t, body), 200, ""},
			{"gzip", gzipped(t, body[:half]) + gzipped(t, body[half:]), 200, ""},
			{"zstd", zstandard(t, body), 200, ""},
			{"zstd", zstandard(t, body, zstd.WithSingleSegment(true)), 200, ""},
			{"zstd", zstandard(t, body[:half]) + zstandard(t, body[half:]), 200, ""},
			{"identity", body, 200, ""},
			{"", body, 200, ""},
			{"gzip", gzipped(t, "\ufeff"+body), 200, ""},
			{"br", body, 415, "send gzip, zstd or none"},
			{"deflate", body, 415, "send gzip, zstd or none"},
			{"gzip, gzip", gzipped(t, gzipped(t, body)), 415, "send gzip, zstd or none"},
			{"gzip", body, 400, "the body is not gzip"},
			{"gzip", gzipped(t, body)[:50], 400, "the body is not gzip"},
			{"gzip", gzipped(t, body) + "x", 400, "the body is not gzip"},
			{"zstd", body, 400, "the body is not zstd"},
			{"zstd", zstandard(t, body)[:30], 400, "the body is not zstd"},
			{"gzip", "", 400, "the body is not gzip"},
			{"", gzipped(t, body), 400, "validation failed"},
		} {
			status, got, header := v.ask(t, a.path, test.body, "Content-Encoding", test.coding)
			if status != test.status || !strings.Contains(got, test.message) {
				t.Errorf("%s %q: %d %.300s, want %d %s", a.path, test.coding, status, got, test.status, test.message)
			}
			if accepted := header.Get("Accept-Encoding"); (accepted == "gzip, zstd") != (test.status == 415) {
				t.Errorf("%s %q: Accept-Encoding %q", a.path, test.coding, accepted)
			}
			if test.status == 200 && withoutID(got) != want {
				t.Errorf("%s %q: %s, want %s", a.path, test.coding, got, want)
			}
		}
	}
	if status, _, header := v.ask(t, "/rerank", smallRequest, "Content-Type", "text/plain"); status != 415 || header.Get("Accept-Encoding") != "" {
		t.Errorf("another content type: %d, Accept-Encoding %q", status, header.Get("Accept-Encoding"))
	}
	waitFor(t, "an empty budget", func() bool { return v.bodies.taken.Load() == 0 })
}

func askScores(t *testing.T, v *served, path, body string) string {
	t.Helper()
	status, got, _ := v.ask(t, path, body)
	if status != 200 {
		t.Fatalf("%s: %d %s", path, status, got)
	}
	return withoutID(got)
}

func withoutID(answer string) string {
	for _, list := range []string{`"results"`, `"data"`} {
		if _, rest, ok := strings.Cut(answer, list); ok {
			return rest
		}
	}
	return answer
}

// Decoded bytes count against the limits, and decoding stops there, so that a bomb
// costs neither its memory nor its time.
func TestCompressionBombs(t *testing.T) {
	v := serveOn(t, Config{Limits: Limits{BodyBytes: 1 << 20}})
	checkBombs(t, v)
	v.overHTTP2(t)
	checkBombs(t, v)
}

func checkBombs(t *testing.T, v *served) {
	t.Helper()
	zeros := strings.Repeat("\x00", 64<<20)
	var before, after runtime.MemStats
	for coding, part := range map[string]string{"gzip": gzipped(t, zeros), "zstd": zstandard(t, zeros)} {
		bomb := strings.Repeat(part, 8) // both codings may be concatenated
		if len(bomb) > 1<<20 {
			t.Fatalf("a %s bomb of %d bytes is refused for these", coding, len(bomb))
		}
		runtime.ReadMemStats(&before)
		status, body, _ := v.ask(t, "/rerank", bomb, "Content-Encoding", coding)
		runtime.ReadMemStats(&after)
		if status != 413 || !strings.Contains(body, "exceeds 1048576 bytes") {
			t.Errorf("%s: %d %s", coding, status, body)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
			t.Errorf("%s: %d bytes allocated", coding, took)
		}
	}
	// A window that only a hostile encoder asks for.
	noise := make([]byte, 1<<19)
	r := rand.NewChaCha8([32]byte{})
	if _, err := r.Read(noise); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	send(t, w, `{"query": "`)
	if err := w.Flush(); err != nil { // so that the frame declares the window and no size
		t.Fatal(err)
	}
	send(t, w, string(noise))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := v.ask(t, "/rerank", out.String(), "Content-Encoding", "zstd"); status != 400 || !strings.Contains(body, "window") {
		t.Errorf("a window of 64 MiB: %d %s", status, body)
	}
	waitFor(t, "an empty budget", func() bool { return v.bodies.taken.Load() == 0 })
}

// Decoded bytes count against the budget of all requests.
func TestDecodedBytesAreBudgeted(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{BodyBytes: 1 << 20, BodyBytesAtOnce: 100_000}})
	body := apis[0].body("q", strings.Repeat("d", 200_000))
	for _, sent := range []string{gzipped(t, body), zstandard(t, body)} {
		coding := map[bool]string{true: "gzip", false: "zstd"}[sent[0] == 0x1f]
		if status, got, header := v.ask(t, "/rerank", sent, "Content-Encoding", coding); status != 429 || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", coding, status, got)
		}
	}
	waitFor(t, "an empty budget", func() bool { return v.bodies.taken.Load() == 0 })
}
