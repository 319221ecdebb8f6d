package server

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

// A scored is one result of any API's answer.
type scored struct {
	index    int
	score    float64
	text     string
	unscored bool
}

// answers parses an API's answer of status 200.
func answers(t testing.TB, path string, w *httptest.ResponseRecorder) []scored {
	t.Helper()
	if w.Code != 200 {
		t.Fatalf("%s: status %d: %s", path, w.Code, w.Body)
	}
	list, err := parseAnswer(path, w.Body.Bytes())
	if err != nil {
		t.Fatalf("%s: %v: %.300s", path, err, w.Body)
	}
	return list
}

func parseAnswer(path string, body []byte) ([]scored, error) {
	var list []scored
	switch path {
	case "/rerank":
		var tei []struct {
			Index    int
			Score    float64
			Text     string
			Unscored bool
		}
		if err := json.Unmarshal(body, &tei); err != nil {
			return nil, err
		}
		for _, r := range tei {
			list = append(list, scored{r.Index, r.Score, r.Text, r.Unscored})
		}
	case "/predict":
		var tei [][]struct{ Score float64 }
		if err := json.Unmarshal(body, &tei); err != nil {
			return nil, err
		}
		for i, r := range tei {
			list = append(list, scored{index: i, score: r[0].Score})
		}
	case "/score":
		var scores struct {
			Data []struct {
				Index int
				Score float64
			}
		}
		if err := json.Unmarshal(body, &scores); err != nil {
			return nil, err
		}
		for _, r := range scores.Data {
			list = append(list, scored{index: r.Index, score: r.Score})
		}
	case "/voyage/v1/rerank":
		var voyage struct {
			Data []struct {
				Index    int
				Score    float64 `json:"relevance_score"`
				Document string
				Unscored bool
			}
		}
		if err := json.Unmarshal(body, &voyage); err != nil {
			return nil, err
		}
		for _, r := range voyage.Data {
			list = append(list, scored{r.Index, r.Score, r.Document, r.Unscored})
		}
	case "/infinity/rerank":
		var infinity struct{ Results json.RawMessage }
		if err := json.Unmarshal(body, &infinity); err != nil {
			return nil, err
		}
		return parseAnswer("/voyage/v1/rerank", []byte(`{"data": `+string(infinity.Results)+`}`))
	case "/weaviate/rerank":
		var weaviate struct {
			Scores []struct {
				Document string
				Score    float64
			}
		}
		if err := json.Unmarshal(body, &weaviate); err != nil {
			return nil, err
		}
		for i, r := range weaviate.Scores {
			list = append(list, scored{index: i, score: r.Score, text: r.Document})
		}
	case similarityAnswer:
		var scores []float64
		if err := json.Unmarshal(body, &scores); err != nil {
			return nil, err
		}
		for i, score := range scores {
			list = append(list, scored{index: i, score: score})
		}
	case "/":
		var endpoint struct{ Scores json.RawMessage }
		if err := json.Unmarshal(body, &endpoint); err != nil {
			return nil, err
		}
		return parseAnswer("/rerank", endpoint.Scores)
	default:
		var both struct {
			Results []struct {
				Index    int
				Score    float64 `json:"relevance_score"`
				Document struct{ Text string }
				Unscored bool
			}
		}
		if err := json.Unmarshal(body, &both); err != nil {
			return nil, err
		}
		for _, r := range both.Results {
			list = append(list, scored{r.Index, r.Score, r.Document.Text, r.Unscored})
		}
	}
	return list, nil
}

// similarityAnswer stands for the path of Hugging Face's task sentence-similarity.
const similarityAnswer = "similarity"

// keepsOrder reports whether a route answers in the order of the request.
func (a api) keepsOrder() bool {
	return slices.Contains([]string{"/predict", "/score", "/weaviate/rerank", similarityAnswer}, a.path)
}

// marks reports whether an answer can mark results as unscored: not where clients match
// scores by position, as in some of Hugging Face's tasks.
func (a api) marks() bool { return !a.keepsOrder() && a.path != "/" }

// Every route answers the sigmoid of the logit, whatever the engine's activation,
// best first; the lower index comes first among equals.
func TestScoresAndOrder(t *testing.T) {
	t.Parallel()
	logits := map[string]float32{"a": -2, "b": 5, "c": 0, "d": 5, "e": 5, "f": 40, "g": 41}
	e := &fakeEngine{logit: func(p engine.Pair) float32 { return logits[p.Document] }}
	s := newServer(t, Config{Engine: e})
	documents := []string{"a", "b", "c", "d", "e", "f", "g"}
	for _, a := range apis {
		got := answers(t, a.path, post(s, a.path, a.body("q", documents...)))
		order := []int{6, 5, 1, 3, 4, 2, 0} // f and g round to the same score: the logit decides
		if a.keepsOrder() {
			order = []int{0, 1, 2, 3, 4, 5, 6}
		}
		for i, item := range got {
			want := 1 / (1 + math.Exp(-float64(logits[documents[order[i]]])))
			if item.index != order[i] || math.Abs(item.score-want) > 1e-15 {
				t.Errorf("%s: place %d has %+v, want document %d with %v", a.path, i, item, order[i], want)
			}
		}
		if len(got) != len(order) {
			t.Errorf("%s: %d results", a.path, len(got))
		}
	}
	raw := answers(t, "/rerank", post(s, "/rerank", `{"query": "q", "texts": ["a", "b"], "raw_scores": true}`))
	if raw[0].score != 5 || raw[1].score != -2 {
		t.Errorf("raw scores %+v", raw)
	}
	if w := post(s, "/predict", `{"inputs": ["q", "a"], "raw_scores": true}`); strings.TrimSpace(w.Body.String()) != `[{"score":-2,"label":"LABEL_0"}]` {
		t.Errorf("one pair: %s", w.Body)
	}
}

func TestWhatCallsCanAskFor(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{}
	s := newServer(t, Config{Engine: e})
	for _, test := range []struct {
		path, body, want string
		options          engine.ScoreOptions
	}{
		{"/rerank", `{"query": "q", "texts": ["d"]}`, `[{"index":0,"score":`, engine.ScoreOptions{}},
		{"/rerank", `{"query": "q", "texts": ["d"], "return_text": true, "top_n": 5, "other": 7}`, `"text":"d"}]`, engine.ScoreOptions{}},
		{"/rerank", `{"query": "q", "texts": ["<&>\u2028"], "return_text": true}`, `"text":"<&>\u2028"`, engine.ScoreOptions{}},
		{"/rerank", `{"query": "q", "texts": ["d"], "truncate": null, "truncation_direction": null, "raw_scores": null, "return_text": null}`, `[`, engine.ScoreOptions{}},
		{"/rerank", `{"query": "q", "texts": ["d"], "truncate": false}`, `[`, engine.ScoreOptions{Truncation: engine.TruncateNot}},
		{"/rerank", `{"query": "q", "texts": ["d"], "truncate": true, "truncation_direction": "Left"}`, `[`, engine.ScoreOptions{Truncation: engine.TruncateLeft}},
		{"/rerank", `{"query": "q", "texts": ["d"], "truncation_direction": "right"}`, `[`, engine.ScoreOptions{Truncation: engine.TruncateRight}},
		{"/predict", `{"inputs": [["q", "d"]], "truncation_direction": "left"}`, `[[{"score":`, engine.ScoreOptions{Truncation: engine.TruncateLeft}},
		{"/predict", `{"inputs": [["q", "d"]], "truncate": false}`, `[[{"score":`, engine.ScoreOptions{Truncation: engine.TruncateNot}},
		{"/v1/rerank", `{"model": "fake", "query": "q", "documents": ["d", {"text": "e", "id": 1}]}`, `"document":{"text":"e","id":1}`, engine.ScoreOptions{}},
		{"/v1/rerank", `{"model": null, "query": "q", "documents": ["d"], "return_documents": false, "top_n": null}`, `"results":[{"index":0,"relevance_score":0.`, engine.ScoreOptions{}},
		{"/v1/rerank", `{"query": "q", "documents": ["d"]}`, `"model":"fake","object":"list","usage":{"total_tokens":5,"prompt_tokens":5}`, engine.ScoreOptions{}},
		{"/v2/rerank", `{"model": "fake", "query": "q", "documents": ["d"]}`, `"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}`, engine.ScoreOptions{DocumentTokens: 4096}},
		{"/v2/rerank", `{"query": "q", "documents": ["d"], "max_tokens_per_doc": 7.0, "priority": 1}`, `{"id":"`, engine.ScoreOptions{DocumentTokens: 7}},
	} {
		w := post(s, test.path, test.body)
		if w.Code != 200 || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s %s: %d %s, want %s", test.path, test.body, w.Code, w.Body, test.want)
		}
		if got := *e.options.Load(); !reflect.DeepEqual(got, test.options) {
			t.Errorf("%s %s: %+v, want %+v", test.path, test.body, got, test.options)
		}
	}
	for _, path := range []string{"/v1/rerank", "/v2/rerank"} {
		for _, n := range []string{"0", "1", "2.0", "7", "1e300"} {
			got := answers(t, path, post(s, path, `{"query": "q", "documents": ["a", "b", "c"], "top_n": `+n+`}`))
			if want := map[string]int{"1": 1, "2.0": 2}[n]; len(got) != cmp.Or(want, 3) {
				t.Errorf("%s: top_n %s gives %d", path, n, len(got))
			}
		}
		for _, n := range []string{"-1", "1.5", `"2"`} {
			if w := post(s, path, `{"query": "q", "documents": ["a"], "top_n": `+n+`}`); w.Code != 422 {
				t.Errorf("%s: top_n %s: %d", path, n, w.Code)
			}
		}
	}
}

func TestStageHeaders(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for _, a := range apis {
		w := post(s, a.path, a.body("q é", "a document"))
		header := func(name string) int64 {
			n, err := strconv.ParseInt(w.Header().Get(name), 10, 64)
			if err != nil {
				t.Errorf("%s: %s: %v", a.path, name, err)
			}
			return n
		}
		if w.Header().Get("x-compute-type") != "cpu" || header("x-compute-tokens") != 7 || header("x-compute-characters") != 13 {
			t.Errorf("%s: %v", a.path, w.Header())
		}
		if header("x-inference-time") != 3 || header("x-tokenization-time") != 0 || header("x-queue-time") != 0 {
			t.Errorf("%s: %v", a.path, w.Header())
		}
		if header("x-inference-time-us") != 3000 || header("x-tokenization-time-us") != 700 || header("x-queue-time-us") != 200 {
			t.Errorf("%s: %v", a.path, w.Header())
		}
		if total := header("x-total-time-us"); total < 0 || header("x-total-time") != total/1000 || header("x-compute-time") != total/1000 {
			t.Errorf("%s: %v", a.path, w.Header())
		}
	}
}

// A thousand documents fit into one request.
func TestAThousandDocuments(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	documents := make([]string, 1000)
	for i := range documents {
		documents[i] = strings.Repeat("d", i)
	}
	for _, a := range apis {
		if got := answers(t, a.path, post(s, a.path, a.body("q", documents...))); len(got) != 1000 {
			t.Errorf("%s: %d results", a.path, len(got))
		}
		checkFailure(t, s, a, row{status: 422, kind: kindValidation, message: "documents: 1001 (limit 1000)"}, a.body("q", append(documents, "one more")...))
	}
}
