package server

import (
	"encoding/json"
	"net/http"
	"reflect"
	"sort"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

var (
	rerankPaths = []string{"/rerank", "/", "/invocations"}
	scorePaths  = []string{"/score", "/v1/score"}
)

// checkRanks fails unless the answer has the format of the path.
func checkRanks(t *testing.T, v *served, path, body string) {
	t.Helper()
	status, answer, _ := v.ask(t, path, body)
	if status != 200 {
		t.Fatalf("%s %s: %d %s", path, body, status, answer)
	}
	shape := path
	if strings.HasPrefix(strings.TrimSpace(answer), "{") && path == "/rerank" {
		shape = "/v1/rerank"
	}
	if _, err := parseAnswer(shape, []byte(answer)); err != nil {
		t.Fatal(err)
	}
}

// TEI's paths accept TEI's format and the one of Jina, vLLM and infinity, and answer
// each in its own.
func TestBothFormatsOfRerank(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{})
	for _, path := range rerankPaths {
		for _, test := range []struct {
			body   string
			status int
			want   string
		}{
			{`{"query": "q", "texts": ["d", "e"]}`, 200, `[{"index":`},
			{`{"query": "q", "texts": ["d"], "documents": ["e", "f"], "return_text": true}`, 200, `"text":"d"}]`},
			{`{"documents": ["e", "f"], "query": "q", "texts": ["d"], "return_text": true}`, 200, `"text":"d"}]`},
			{`{"model": "fake", "query": "q", "documents": ["d", "e"]}`, 200, `"results":[{"index":`},
			{`{"documents": ["d", {"text": "e"}], "query": "q", "top_n": 0}`, 200, `"document":{"text":"e"}`},
			{`{"query": "q", "documents": ["d"], "return_documents": false, "raw_scores": true}`, 200, `"relevance_score":-`},
			{`{"query": "q", "documents": []}`, 422, `{"detail":`},
			{`{"query": "q", "documents": ["d"], "top_n": -1}`, 422, `{"detail":`},
			{`{"query": "q", "documents": ["d"], "top_n": 1, "top_n": 2}`, 400, `{"detail":`},
			{`{"query": "q", "texts": 1}`, 422, `{"error":`},
			{`{"query": "q"}`, 422, `{"error":`},
			{`["documents"]`, 422, `{"error":`},
			{`{"query": {"documents": 1}, "x": "documents"}`, 422, `{"error":`},
			{`{"documents"`, 400, `{"detail":`},
			{`{"texts"`, 400, `{"error":`},
		} {
			if status, body, _ := v.ask(t, path, test.body); status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("%s %s: %d %s, want %d %s", path, test.body, status, body, test.status, test.want)
			}
		}
	}
}

// Base URLs and paths may end with a slash.
func TestSlashes(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Dashboard: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := w.Write([]byte(r.URL.Path)); err != nil {
			t.Error(err)
		}
	})})
	for _, a := range apis {
		for _, path := range []string{a.path + "/", "/" + a.path, "//" + a.path + "//", strings.ReplaceAll(a.path, "/", "//"), "/%2f" + a.path[1:]} {
			if status, body, _ := v.ask(t, path, a.body("q", "d")); status != 200 {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
	}
	for path, want := range map[string]string{"/dashboard": "/dashboard", "//dashboard": "/dashboard", "/dashboard/": "/dashboard/", "/dashboard//x": "/dashboard/x"} {
		if status, body, _ := v.do(t, http.MethodGet, path, ""); status != 200 || body != want {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	for path, want := range map[string]int{"/health/": 200, "//health": 200, "/docs/": 200, "/rerank/x": 404, "/v1/": 404, "/rerankx": 404} {
		if status, body, _ := v.do(t, http.MethodGet, path, ""); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
}

// A health check of / gets the health, a browser a page.
func TestRoot(t *testing.T) {
	t.Parallel()
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	bare, board := serveOn(t, Config{Key: "secret"}), serveOn(t, Config{Key: "secret", Dashboard: http.NotFoundHandler()})
	for accept, want := range map[string]string{browser: "/dashboard", "": "", "*/*": "", "application/json": ""} {
		for v, page := range map[*served]string{bare: strings.Replace(want, "/dashboard", "/docs", 1), board: want} {
			status, body, h := v.do(t, http.MethodGet, "/", "", "Accept", accept)
			expected := 200
			if page != "" {
				expected = 302
			}
			if status != expected || h.Get("Location") != page || page == "" && body != "" || h.Get("Vary") != "Accept" {
				t.Errorf("Accept %q: %d to %q, want %d to %q: %s", accept, status, h.Get("Location"), expected, page, body)
			}
		}
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Key: "secret"})
	status, body, _ := v.do(t, http.MethodGet, "/v1/models", "", "Authorization", "Bearer secret")
	var list struct {
		Object string
		Data   []struct {
			ID, Object string
			Created    int64
			OwnedBy    string `json:"owned_by"`
		}
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != 200 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if list.Object != "list" || len(list.Data) != 1 || list.Data[0].ID != "fake" || list.Data[0].Object != "model" || list.Data[0].OwnedBy == "" || list.Data[0].Created < 1e9 {
		t.Errorf("%+v", list)
	}
	if status, body, _ := v.do(t, http.MethodGet, "/v1/models", ""); status != 401 || !strings.Contains(body, `{"error":{"message":"`) {
		t.Errorf("without the key: %d %s", status, body)
	}
}

// echoEngine returns an engine and the pairs that it scores.
func echoEngine() (*fakeEngine, *atomic.Pointer[[]engine.Pair]) {
	var seen atomic.Pointer[[]engine.Pair]
	e := &fakeEngine{}
	e.logit = func(p engine.Pair) float32 {
		list := []engine.Pair{p}
		if before := seen.Load(); before != nil {
			list = append(append([]engine.Pair{}, *before...), p)
		}
		seen.Store(&list)
		return fakeLogit(p)
	}
	return e, &seen
}

// Objects are ranked by the fields in rank_fields, in its order, as lines of YAML; a
// single field is ranked by its value; the default is text.
func TestRankFields(t *testing.T) {
	t.Parallel()
	e, seen := echoEngine()
	v := serveOn(t, Config{Engine: e})
	const documents = `"documents": [{"title": "T", "text": "X", "year": 1999, "tags": ["a", "b"], "draft": false}, {"text": "Y: y\nz", "title": null}, "plain"]`
	for _, test := range []struct {
		fields string
		want   []string
	}{
		{``, []string{"X", "Y: y\nz", "plain"}},
		{`, "rank_fields": null`, []string{"X", "Y: y\nz", "plain"}},
		{`, "rank_fields": []`, []string{"X", "Y: y\nz", "plain"}},
		{`, "rank_fields": ["text"]`, []string{"X", "Y: y\nz", "plain"}},
		{`, "rank_fields": ["title", "text"]`, []string{"title: T\ntext: X", "text: Y: y\nz", "plain"}},
		{`, "rank_fields": ["text", "title"]`, []string{"text: X\ntitle: T", "text: Y: y\nz", "plain"}},
		{`, "rank_fields": ["year", "tags", "draft", "text"]`, []string{"year: 1999\ntags: [\"a\", \"b\"]\ndraft: false\ntext: X", "text: Y: y\nz", "plain"}},
	} {
		for _, path := range []string{"/v1/rerank", "/v2/rerank", "/rerank"} {
			seen.Store(nil)
			checkRanks(t, v, path, `{"query": "q", `+documents+test.fields+`}`)
			var got []string
			for _, p := range *seen.Load() {
				got = append(got, p.Document)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s %s: %q, want %q", path, test.fields, got, test.want)
			}
		}
	}
	// Other fields may have any value; values other than strings are ranked as JSON.
	for fields, want := range map[string]string{`["title"]`: "An image editor.", `["text"]`: "5", `["text", "title"]`: "text: 5\ntitle: An image editor."} {
		for _, path := range []string{"/v1/rerank", "/v2/rerank", "/rerank"} {
			seen.Store(nil)
			checkRanks(t, v, path, `{"query": "q", "documents": [{"title": "An image editor.", "text": 5}], "return_documents": false, "rank_fields": `+fields+`}`)
			if got := (*seen.Load())[0].Document; got != want {
				t.Errorf("%s by %s: %q is ranked, want %q", path, fields, got, want)
			}
		}
	}
	for _, test := range []struct{ body, want string }{
		{`{"query": "q", "documents": ["a", {"title": "b"}]}`, `document 1 has no field \"text\"`},
		{`{"query": "q", "documents": ["a", {"text": "b"}, {"title": "c"}], "rank_fields": ["text", "Title"]}`, `document 2 has none of the fields of rank_fields: text, Title`},
		{`{"query": "q", "documents": [{"text": null, "title": null}], "rank_fields": ["title"]}`, `0`},
		{`{"query": "q", "documents": [{"image": "x"}]}`, `document 0 has no field \"text\"`},
		{`{"query": "q", "documents": ["a", {"text": 5, "title": "b"}]}`, `document 1: field \"text\" is a number, expected a string`},
		{`{"query": "q", "documents": [{"text": null}], "rank_fields": []}`, `document 0: field \"text\" is null, expected a string`},
		{`{"query": "q", "documents": [{"text": ["a"]}], "rank_fields": null}`, `document 0: field \"text\" is an array, expected a string`},
		{`{"query": "q", "documents": [5]}`, `documents[0]: expected one of the forms in /docs, found a number`},
		{`{"query": "q", "documents": ["a"], "rank_fields": "text"}`, `rank_fields: expected array, found a string`},
		{`{"query": "q", "documents": ["a"], "rank_fields": [1]}`, `rank_fields[0]: expected string, found a number`},
		{`{"query": "q", "documents": ["a"], "long_documents": "cut"}`, `long_documents: expected one of truncate, passages, window, null`},
	} {
		before := e.executed.Load()
		for _, path := range []string{"/v1/rerank", "/v2/rerank"} {
			if status, body, _ := v.ask(t, path, test.body); status != 422 || !strings.Contains(body, test.want) || e.executed.Load() != before {
				t.Errorf("%s %s: %d %s, want %s", path, test.body, status, body, test.want)
			}
		}
	}
}

// Documents are returned unchanged, with all fields, if the request asks for them or
// the API returns them by default.
func TestReturnedDocuments(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{})
	const call = `{"query": "q", "rank_fields": ["title"], "documents": [{"title": "<T>", "id": 7.50, "text": "x"}]`
	for _, test := range []struct{ path, more, want string }{
		{"/v1/rerank", ``, `"document":{"title":"<T>","id":7.50,"text":"x"}`},
		{"/v1/rerank", `, "return_documents": true`, `"document":{"title":"<T>","id":7.50,"text":"x"}`},
		{"/v1/rerank", `, "return_documents": false`, ``},
		{"/v2/rerank", ``, ``},
		{"/v2/rerank", `, "return_documents": true`, `"document":{"title":"<T>","id":7.50,"text":"x"}`},
		{"/v2/rerank", `, "return_documents": false`, ``},
		{"/rerank", ``, `"document":{"title":"<T>","id":7.50,"text":"x"}`},
	} {
		status, body, _ := v.ask(t, test.path, call+test.more+"}")
		if status != 200 || !strings.Contains(body, test.want) || strings.Contains(body, `"document"`) != (test.want != "") {
			t.Errorf("%s%s: %d %s, want %s", test.path, test.more, status, body, test.want)
		}
	}
	if _, body, _ := v.ask(t, "/v2/rerank", `{"query": "q", "documents": ["<&>"], "return_documents": true}`); !strings.Contains(body, `"document":{"text":"<&>"}`) {
		t.Errorf("a text: %s", body)
	}
}

// A document without text is scored and marked as empty, except where Elasticsearch reads
// the answer.
func TestEmptyDocuments(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{})
	for _, a := range apis {
		_, body, _ := v.ask(t, a.path, a.body("q", "d", "", " \n\t", "e"))
		marks := 2
		if a.path == "/rerank" || a.path == "/" {
			marks = 0
		}
		if n := strings.Count(body, `"empty"`); n != marks || strings.Contains(body, `"empty":false`) {
			t.Errorf("%s: %s, want %d marks", a.path, body, marks)
		}
		var list []scored
		var err error
		if list, err = parseAnswer(a.path, []byte(body)); err != nil || len(list) != 4 {
			t.Errorf("%s: %+v %v", a.path, list, err)
		}
	}
	_, body, _ := v.ask(t, "/v1/rerank", `{"query": "q", "documents": [{"text": "", "id": 1}]}`)
	if !strings.Contains(body, `"empty":true`) {
		t.Errorf("an object: %s", body)
	}
}

func TestVLLMScore(t *testing.T) {
	t.Parallel()
	e, seen := echoEngine()
	v := serveOn(t, Config{Engine: e})
	p := func(q, d string) engine.Pair { return engine.Pair{Query: q, Document: d} }
	for _, path := range scorePaths {
		for body, want := range map[string][]engine.Pair{
			`{"model": "fake", "text_1": "q", "text_2": "d"}`:                   {p("q", "d")},
			`{"text_1": "q", "text_2": ["d", "e"]}`:                             {p("q", "d"), p("q", "e")},
			`{"text_1": ["q"], "text_2": ["d", "e"]}`:                           {p("q", "d"), p("q", "e")},
			`{"text_1": ["q", "r"], "text_2": ["d", "e"]}`:                      {p("q", "d"), p("r", "e")},
			`{"queries": "q", "documents": ["d", "e"], "use_activation": null}`: {p("q", "d"), p("q", "e")},
		} {
			seen.Store(nil)
			status, answer, _ := v.ask(t, path, body)
			if status != 200 || !strings.Contains(answer, `"object":"list"`) || !strings.Contains(answer, `{"index":0,"object":"score","score":0.`) || !reflect.DeepEqual(*seen.Load(), want) {
				t.Errorf("%s %s: %d %s of %v, want %v", path, body, status, answer, seen.Load(), want)
			}
		}
		if _, answer, _ := v.ask(t, path, `{"text_1": "q", "text_2": "d", "use_activation": false}`); !strings.Contains(answer, `"score":-`) {
			t.Errorf("logits: %s", answer)
		}
		for _, body := range []string{
			`{"text_1": ["q", "r"], "text_2": ["d"]}`, `{"text_1": [], "text_2": ["d"]}`, `{"text_1": "q", "text_2": []}`, `{"text_1": "q"}`, `{"text_2": "q"}`,
			`{"text_1": 1, "text_2": "d"}`, `{"text_1": null, "text_2": "d"}`,
		} {
			if status, answer, _ := v.ask(t, path, body); status != 422 || !strings.Contains(answer, `{"error":{"message":"`) {
				t.Errorf("%s %s: %d %s", path, body, status, answer)
			}
		}
	}
}

// Scores keep the order of close logits, which are all 1 in float32.
func TestSaturatedScores(t *testing.T) {
	t.Parallel()
	logits := map[string]float32{"a": 18, "b": 18.001, "c": 25, "d": 17.5, "e": 30}
	v := serveOn(t, Config{Engine: &fakeEngine{logit: func(p engine.Pair) float32 { return logits[p.Document] }}})
	for _, a := range apis {
		_, body, _ := v.ask(t, a.path, a.body("q", "a", "b", "c", "d", "e"))
		list, err := parseAnswer(a.path, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		sort.SliceStable(list, func(i, j int) bool { return list[i].score > list[j].score })
		for i, want := range []int{4, 2, 1, 0, 3} {
			if list[i].index != want {
				t.Errorf("%s: rank %d has %+v, want document %d: %s", a.path, i, list[i], want, body)
			}
		}
	}
}

// Every example and path of the OpenAPI document works, and every route is in it.
func TestExamplesAreAnswered(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Dashboard: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	_, body, _ := v.do(t, http.MethodGet, "/openapi.json", "")
	var document struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct {
					Examples map[string]struct{ Value json.RawMessage }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range document.Paths {
		for method, operation := range methods {
			if method == "get" {
				if status, body, _ := v.do(t, http.MethodGet, path, ""); status != 200 {
					t.Errorf("%s: %d %s", path, status, body)
				}
				continue
			}
			examples := operation.RequestBody.Content["application/json"].Examples
			if len(examples) == 0 {
				t.Errorf("%s has no example", path)
			}
			for name, example := range examples {
				if status, body, _ := v.ask(t, path, string(example.Value)); status != 200 {
					t.Errorf("%s, example %s: %d %s", path, name, status, body)
				}
			}
		}
	}
	for _, rt := range v.routes {
		for _, method := range rt.methods() {
			_, ok := document.Paths[rt.path][strings.ToLower(method)]
			if !ok && !strings.HasSuffix(rt.path, "/") && !rt.dashboard {
				t.Errorf("%s %s is not documented", method, rt.path)
			}
		}
	}
}
