package server

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

// ask posts a body to a listening server with net/http.
func (v *served) ask(t *testing.T, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	return v.do(t, http.MethodPost, path, body, append([]string{"Content-Type", "application/json"}, headers...)...)
}

func (v *served) do(t *testing.T, method, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+v.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	w, err := v.transport.RoundTrip(r) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Body.Close(); err != nil {
			t.Error(err)
		}
	}()
	data, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(data), w.Header
}

// A body means one thing: validation and the route read the same names and values,
// and anything ambiguous is rejected with its position.
func TestBodiesAreDecodedOnce(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{})
	long := strings.Repeat("x", 300)
	for _, test := range []struct {
		path, body string
		status     int
		want       string
	}{
		// Names match exactly; others are unknown fields.
		{"/v1/rerank", `{"query": "q", "documents": ["a"], "Documents": []}`, 200, `"index":0`},
		{"/v1/rerank", `{"query": "q", "Documents": [], "documents": ["a"]}`, 200, `"index":0`},
		{"/v2/rerank", `{"query": "q", "documents": ["a"], "MAX_TOKENS_PER_DOC": "x", "max_tokens_per_doc": 5}`, 200, `"index":0`},
		{"/v2/rerank", `{"query": "q", "documents": ["a"], "Max_Tokens_Per_Doc": {}}`, 200, `"index":0`},
		{"/v1/rerank", `{"QUERY": "q", "DOCUMENTS": ["a"]}`, 422, "expected required property query"},
		{"/v2/rerank", `{"Query": "q", "documents": ["a"]}`, 422, "expected required property query"},
		{"/rerank", `{"query": "q", "Texts": ["a"]}`, 422, "expected required property texts"},
		{"/predict", `{"Inputs": [["q", "a"]]}`, 422, "expected required property inputs"},
		{"/v1/rerank", `{"query": "q", "documents": [{"Text": "a"}]}`, 422, `document 0 has no field \"text\"`},
		{"/v1/rerank", `{"query": "q", "documents": [{"text": "a", "Text": "b"}]}`, 200, `"text":"a"`},
		// A name occurs once, at every depth.
		{"/predict", `{"inputs": [["q", "a"]], "inputs": [["q", "b"], ["q", "c"]]}`, 400, `byte 25: name \"inputs\" occurs twice`},
		{"/rerank", `{"query": "q", "texts": ["a"], "query": "r"}`, 400, `name \"query\" occurs twice`},
		{"/v2/rerank", `{"query": "q", "documents": ["a"], "top_n": 1, "top_n": 2}`, 400, `name \"top_n\" occurs twice`},
		{"/v1/rerank", `{"query": "q", "documents": [{"text": "a", "text": "b"}]}`, 400, `name \"text\" occurs twice`},
		{"/v1/rerank", `{"query": "q", "documents": ["a"], "other": {"x": 1, "x": 2}}`, 400, `name \"x\" occurs twice`},
		{"/v1/rerank", `{"query": "q", "documents": ["a"], "\u0071uery": "r"}`, 400, `name \"query\" occurs twice`},
		// Text is UTF-8; the position is that of the first invalid byte.
		{"/rerank", "{\"query\": \"caf\xe9\", \"texts\": [\"a\"]}", 400, "byte 14: 0xe9 is not UTF-8"},
		{"/v1/rerank", "{\"query\": \"" + long + "\", \"documents\": [\"\xff\"]}", 400, "byte 329: 0xff is not UTF-8"},
		{"/v2/rerank", "{\"query\": \"q\", \"documents\": [\"\xed\xa0\x80\"]}", 400, "byte 30: 0xed is not UTF-8"},
		{"/predict", "{\"x\xc0\": 1, \"inputs\": [[\"q\", \"a\"]]}", 400, "byte 3: 0xc0 is not UTF-8"},
		{"/rerank", "\xff\xfe{\x00}\x00", 400, "byte 0: 0xff is not UTF-8"},
		{"/rerank", `{"query": "\ud800", "texts": ["a"]}`, 400, "surrogate"},
		{"/rerank", `{"query": "\udc00\ud800", "texts": ["a"]}`, 400, "surrogate"},
		{"/rerank", `{"query": "q", "texts": ["\ud83d\ude00"], "return_text": true}`, 200, "\U0001f600"},
		// NUL is an ordinary character; a byte order mark is ignored.
		{"/rerank", `{"query": "q", "texts": ["a\u0000b"], "return_text": true}`, 200, `a\u0000b`},
		{"/v2/rerank", "\ufeff" + `{"query": "q", "documents": ["a"]}`, 200, `"index":0`},
		// One value and nothing after it.
		{"/rerank", `{"query": "q", "texts": ["a"]} {}`, 400, "after top-level value"},
		{"/rerank", `{"query": "q", "texts": ["a"],}`, 400, "byte 29"},
		{"/rerank", `{"query": "q", "texts": ["a"]`, 400, "unexpected EOF"},
		{"/rerank", `{"query": NaN, "texts": ["a"]}`, 400, "byte 10"},
		{"/v1/rerank", `{"query": "q", "documents": ["a"], "other": ` + strings.Repeat("[", 127) + strings.Repeat("]", 127) + "}", 200, `"index":0`},
		{"/v1/rerank", `{"query": "q", "documents": ["a"], "other": ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", 400, "5001 levels"},
	} {
		if status, body, _ := v.ask(t, test.path, test.body); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s %.200q: %d %s, want %d %s", test.path, test.body, status, body, test.status, test.want)
		}
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{})
	for contentType, want := range map[string]int{
		"application/json": 200, "APPLICATION/JSON": 200, "Application/Json; Charset=UTF-8": 200, "application/json;charset=utf8": 200,
		"application/json; charset=us-ascii": 200, "application/json; foo=bar": 200,
		"application/json; charset=utf-16": 415, "application/json; charset=iso-8859-1": 415, "text/plain": 415, "": 415,
		"application/x-www-form-urlencoded": 415, "text/json": 415, "application/jsonp": 415, "application/json, text/plain": 415,
	} {
		for _, a := range apis {
			if status, body, _ := v.ask(t, a.path, a.body("q", "d"), "Content-Type", contentType); status != want {
				t.Errorf("%s %q: %d %s, want %d", a.path, contentType, status, body, want)
			}
		}
	}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][2]int{
		``: {1, 0}, `1`: {1, 0}, `"a,[{b"`: {1, 0}, `"\\",{"`: {3, 1}, `"\",{"`: {1, 0}, `{"a": [1, 2, {"b": "c"}]}`: {6, 3},
		`[[],[]]`: {5, 2}, `"`: {1, 0}, `"\`: {1, 0}, `]]][`: {2, 0},
	} {
		if values, depth := measure([]byte(body)); values != want[0] || depth != want[1] {
			t.Errorf("%s has %d values at depth %d, want %v", body, values, depth, want)
		}
	}
}

// A text with NUL scores as the engine scores it, as if NUL were U+FFFD.
func TestNUL(t *testing.T) {
	e := openTiny(t, engine.Config{})
	v := serveOn(t, Config{Engine: e})
	score := func(document string) []byte {
		status, body, _ := v.ask(t, "/rerank", `{"query": "city", "texts": ["`+document+`"]}`)
		if status != 200 {
			t.Fatalf("%q: %d %s", document, status, body)
		}
		return []byte(body)
	}
	if nul, replaced := score(`water\u0000city`), score(`water\ufffdcity`); !bytes.Equal(nul, replaced) {
		t.Errorf("NUL scores %s, U+FFFD %s", nul, replaced)
	}
	if nul, without := score(`water\u0000city`), score(`water city river`); bytes.Equal(nul, without) {
		t.Errorf("all texts score %s", nul)
	}
}
