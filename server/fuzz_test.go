package server

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/engine"
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
		`{"query": "q", "documents": ["a", "b"], "top_k": 1, "truncation": false, "return_documents": true}`, `{"query": "q", "property": "a", "documents": null}`, `{"query": "q", "documents": [], "property": ""}`,
		`{"inputs": {"source_sentence": "q", "sentences": ["a", "b"]}}`, `{"inputs": {"sentences": [["q", "a"], ["q", "b"]]}, "parameters": {"function_to_apply": "none"}}`, `{"inputs": [{"text": "q", "text_pair": "a"}]}`,
		`{"inputs": {"text": "q", "text_pair": "a"}}`, `{"inputs": {"query": "q", "texts": ["a"], "return_documents": true}}`, `{"inputs": {"sentences": [["q"]]}}`, `{"inputs": {}}`, `{"query": "q", "documents": ["a"], "max_tokens_per_doc": 3, "truncation_side": "left"}`,
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
			asked := a
			if isOtherFormat(a, body) {
				asked.error = "detail"
			}
			if fields, err := errorFields(asked, w.Body.Bytes()); err != nil || fields[asked.error] == "" {
				t.Errorf("not the API's error: %s", w.Body)
			}
			return
		}
		a, ok := answeredAs(a, body)
		if !ok || a.path == "/predict" && strings.HasPrefix(w.Body.String(), "[{") {
			return // one pair, or a list of scores alone
		}
		raw := strings.Contains(string(body), "raw") || strings.Contains(string(body), "activation")
		checkFuzzed(t, a, answers(t, a.path, w), int(executed), raw)
	})
}

// isOtherFormat reports whether a body for TEI's paths is in Jina's or Voyage's format.
func isOtherFormat(a api, body []byte) bool {
	f := parseBody(body).fields()
	return (a.path == "/rerank" || a.path == "/") && !f.has("texts") && (f.has("documents") || isVoyages(f))
}

// answeredAs returns the API in whose format a body is answered. ok is false if no API of
// the tests has it.
func answeredAs(a api, body []byte) (_ api, ok bool) {
	f := parseBody(body).fields()
	inputs, _ := f["inputs"].(map[string]any)
	switch a.path {
	case "/":
		switch {
		case f.has("texts"):
			return apis[0], true
		case isVoyages(f):
			return apis[5], true
		case f.has("documents"):
			return apis[1], true
		}
		return a, inputs != nil && fields(inputs).has("texts")
	case "/predict":
		return a, !isHFs(f)
	case "/rerank", "/v1/rerank":
		switch {
		case f.has("texts") && a.path == "/rerank":
		case isVoyages(f):
			return apis[5], true
		case f.has("documents"):
			return apis[1], true
		}
	case "/weaviate/rerank":
		return a, f["documents"] != nil
	}
	return a, true
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

func FuzzScore(f *testing.F)       { fuzzBodies(f, apis[4]) }
func FuzzVoyage(f *testing.F)      { fuzzBodies(f, apis[5]) }
func FuzzInfinity(f *testing.F)    { fuzzBodies(f, apis[6]) }
func FuzzWeaviate(f *testing.F)    { fuzzBodies(f, apis[7]) }
func FuzzHuggingFace(f *testing.F) { fuzzBodies(f, apis[8]) }

// FuzzAdmin sends arbitrary changes of the models. Each is answered with all models or with
// an error, and the default model answers after it.
func FuzzAdmin(f *testing.F) {
	for _, seed := range []string{
		exampleLoad, exampleAlias, `{"action": "unload", "model": "a"}`, `{"action": "remove", "model": "b"}`, `{"action": "default", "model": "c"}`,
		`{"action": "alias", "alias": "a", "model": "a"}`, `{"action": "load", "model": "\u0000"}`, `{"action": "load"}`, `{}`, `[]`, `null`, ``, `{"action": 1, "model": null, "alias": {}}`,
	} {
		f.Add([]byte(seed))
	}
	m := newModels(f, newShelf(f), ModelsConfig{Names: []string{"a", "b"}, Aliases: map[string]string{"x": "b"}})
	s := newServer(f, Config{Models: m, Key: "secret", Admin: true})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(s, "/admin/models", string(body), "Authorization", "Bearer secret")
		var answer struct {
			Models []ServedModel
			Error  string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || !utf8.Valid(w.Body.Bytes()) {
			t.Fatalf("%v: %q", err, w.Body)
		}
		if !slices.Contains([]int{200, 400, 404, 413, 422}, w.Code) || (w.Code == 200) == (answer.Error != "") {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		list := m.List()
		if len(list) > mostModels || !list[0].Default || w.Code == 200 && len(answer.Models) != len(list) {
			t.Errorf("%d models, of which the answer has %d", len(list), len(answer.Models))
		}
		if w := post(s, "/rerank", smallRequest, "Authorization", "Bearer secret"); w.Code != 200 {
			t.Errorf("after %q the default model answers %d: %s", body, w.Code, w.Body)
		}
	})
}

// FuzzDeadlines sends arbitrary deadlines and priorities in the headers and in the body.
// What is refused executes nothing, and the engine gets the options that it knows.
func FuzzDeadlines(f *testing.F) {
	f.Add("200", "batch", `"deadline_ms": 100, "on_deadline": "partial"`)
	f.Add("2147483647", "interactive", `"deadline_ms": 2147483647.0, "on_deadline": null`)
	f.Add("-1", "", `"on_deadline": "fail", "deadline_ms": null`)
	f.Add("1e3", "Batch", `"deadline_ms": 1e300`)
	f.Add("\x00", " batch", `"deadline_ms": {}`)
	e := &fakeEngine{}
	s := newServer(f, Config{Engine: e})
	f.Fuzz(func(t *testing.T, deadline, priority, fields string) {
		for _, a := range apis {
			before := e.executed.Load()
			w := post(s, a.path, withField(a.body("q", "d"), fields), headerDeadline, deadline, headerPriority, priority)
			executed := e.executed.Load() > before
			if !json.Valid(w.Body.Bytes()) || w.Code == 200 && !executed || w.Code != 200 && w.Code != 504 && executed {
				t.Errorf("%s: status %d, executed: %t: %q", a.path, w.Code, executed, w.Body)
			}
			if opts := e.options.Load(); executed && (opts.Priority != engine.Priority(priority) || opts.Partial && a.keepsOrder()) {
				t.Errorf("%s: priority %q, partial %t", a.path, opts.Priority, opts.Partial)
			}
		}
	})
}

// FuzzEncodings sends arbitrary bytes as a compressed body. Not more of it is decoded than
// the limit allows.
func FuzzEncodings(f *testing.F) {
	for _, encoding := range []string{"gzip", "zstd", "gzip, zstd", "identity", "br", ""} {
		f.Add(encoding, []byte(smallRequest))
		f.Add(encoding, []byte(gzipped(f, smallRequest)))
		f.Add(encoding, []byte(zstandard(f, smallRequest)))
		f.Add(encoding, []byte(gzipped(f, strings.Repeat(" ", 5000)+smallRequest)))
	}
	e := &fakeEngine{}
	s := newServer(f, Config{Engine: e, Limits: Limits{BodyBytes: 4096}})
	f.Fuzz(func(t *testing.T, encoding string, body []byte) {
		before := e.executed.Load()
		w := post(s, "/rerank", string(body), "Content-Encoding", encoding)
		if executed := e.executed.Load() > before; !json.Valid(w.Body.Bytes()) || executed != (w.Code == 200) || w.Code >= 500 {
			t.Errorf("status %d, executed: %t: %q", w.Code, executed, w.Body)
		}
		if held := s.bodies.taken.Load(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
}

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
