package server

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// fuzzBodies sends arbitrary bytes as a body. The answer must be a valid result, or
// an error in the API's shape without any execution.
func fuzzBodies(f *testing.F, a api) {
	for _, seed := range []string{
		a.body("query", "a", "b", "a"), a.body("", ""), a.body("q"), `{}`, `[]`, `null`, `"q"`, ``, `{"query": "q"`, `{"query": "q", "texts": null}`,
		`{"query": "q", "texts": ["a"], "truncate": false, "truncation_direction": "Left", "raw_scores": true, "return_text": true}`,
		`{"query": "q", "documents": ["a", {"text": "b"}], "top_n": 1.0, "return_documents": false, "max_tokens_per_doc": 1e9}`,
		`{"inputs": ["a", "b"]}`, `{"inputs": [["a", "b"], ["c", "d"]]}`, `{"inputs": [[]]}`, `{"text_1": "q", "text_2": ["a", "b"], "use_activation": false}`, `{"queries": ["q", "r"], "documents": ["a", "b"]}`,
		`{"query": "q", "documents": [{"title": "a", "text": 1}, "b", {"title": null}], "rank_fields": ["title", "text"]}`, `{"inputs": "a"}`, `{"query": "\ud800", "texts": ["\u0000"]}`,
		`{"query": "q", "query": "r", "texts": ["a"], "Texts": ["b"], "documents": ["c"]}`, strings.Repeat(`[`, 200),
	} {
		f.Add([]byte(seed))
	}
	e := &fakeEngine{}
	s := newServer(f, Config{Engine: e})
	f.Fuzz(func(t *testing.T, body []byte) {
		before := e.executed.Load()
		w := post(s, a.path, string(body))
		executed := e.executed.Load() - before
		if !utf8.Valid(w.Body.Bytes()) || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("not JSON: %q", w.Body)
		}
		if w.Code != 200 {
			if !slices.Contains([]int{400, 413, 422}, w.Code) || executed != 0 {
				t.Errorf("status %d, %d pairs executed: %s", w.Code, executed, w.Body)
			}
			if fields, err := errorFields(a, w.Body.Bytes()); (err != nil || fields[a.error] == "") && !isJinas(body) {
				t.Errorf("not the API's error: %s", w.Body)
			}
			return
		}
		if a.path == "/predict" && strings.HasPrefix(w.Body.String(), "[{") {
			return // one pair
		}
		if a.path == "/rerank" && isJinas(body) {
			a = apis[1]
		}
		raw := strings.Contains(string(body), "raw") || strings.Contains(string(body), "activation")
		checkFuzzed(t, a, answers(t, a.path, w), int(executed), raw)
	})
}

func checkFuzzed(t *testing.T, a api, got []scored, executed int, raw bool) {
	t.Helper()
	if len(got) == 0 || len(got) > executed {
		t.Errorf("%d results of %d documents", len(got), executed)
	}
	seen := make(map[int]bool)
	for i, item := range got {
		if item.index < 0 || item.index >= executed || seen[item.index] || !raw && (item.score < 0 || item.score > 1) {
			t.Errorf("%+v among %d documents", item, executed)
		}
		seen[item.index] = true
		if i == 0 || a.keepsOrder() {
			continue
		}
		if before := got[i-1]; before.score < item.score || before.score == item.score && before.index > item.index {
			t.Errorf("%+v comes before %+v", before, item)
		}
	}
}

func FuzzRerankTEI(f *testing.F)    { fuzzBodies(f, apis[0]) }
func FuzzRerankJina(f *testing.F)   { fuzzBodies(f, apis[1]) }
func FuzzRerankCohere(f *testing.F) { fuzzBodies(f, apis[2]) }
func FuzzPredict(f *testing.F)      { fuzzBodies(f, apis[3]) }

func FuzzScore(f *testing.F) { fuzzBodies(f, apis[4]) }

// FuzzHeaders sends arbitrary hosts, origins, content types and keys.
func FuzzHeaders(f *testing.F) {
	f.Add("127.0.0.1", "", "application/json", "Bearer secret")
	f.Add("evil.example.org", "https://evil.example.org", "text/plain", "secret")
	f.Add("[::1]:1", "null", "application/json; charset=utf-8", "Bearer  x")
	f.Add("localhost:\x00", "http://", "a/b;c", "")
	e := &fakeEngine{}
	s := newServer(f, Config{Engine: e, Key: "secret", CORSOrigins: []string{"https://app.example.org"}})
	f.Fuzz(func(t *testing.T, host, origin, contentType, authorization string) {
		before := e.executed.Load()
		w := post(s, "/rerank", `{"query": "q", "texts": ["d"]}`, "Host", host, "Origin", origin, "Content-Type", contentType, "Authorization", authorization)
		scheme, token, _ := strings.Cut(authorization, " ")
		keyed := strings.EqualFold(scheme, "bearer") && strings.TrimSpace(token) == "secret"
		if executed := e.executed.Load() > before; executed != (w.Code == 200) || executed && !keyed {
			t.Errorf("status %d with key %q, executed: %v", w.Code, authorization, executed)
		}
		if w.Code != 200 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("not JSON: %q", w.Body)
		}
	})
}
