package server

import (
	"encoding/json"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

// sentRequests are the requests that the sources of clients send that no test can run:
// Weaviate's module reranker-transformers (clients/ranker.go), Milvus' rankers
// (internal/util/function/rerank) and vLLM's own example clients.
var sentRequests = []struct {
	client, path, body string
	want               string // the answer, with the scores of "one" and "two" as 0.5 and 0.75
	options            engine.ScoreOptions
}{
	{"Weaviate, a chunk", "/weaviate/rerank", `{"query":"q","documents":["one","two","one"],"property":""}`,
		`{"query":"q","scores":[{"document":"one","score":0.5},{"document":"two","score":0.75},{"document":"one","score":0.5}],"property":null,"score":null}`, engine.ScoreOptions{}},
	{"Weaviate, a property", "/weaviate/rerank", `{"query":"q","documents":null,"property":"two"}`,
		`{"query":"q","scores":null,"property":"two","score":0.75}`, engine.ScoreOptions{}},
	{"Milvus, TEI", "/rerank", `{"query":"q","texts":["one","two"],"truncate":true,"truncation_direction":"Right"}`,
		`[{"index":1,"score":0.75},{"index":0,"score":0.5}]`, engine.ScoreOptions{Truncation: engine.TruncateRight}},
	{"Milvus, vLLM", "/rerank", `{"query":"q","documents":["one","two"],"truncate_prompt_tokens":512}`,
		`{"id":"ID","model":"fake","object":"list","usage":{"total_tokens":10,"prompt_tokens":10},"results":[{"index":1,"relevance_score":0.75,"document":{"text":"two"}},{"index":0,"relevance_score":0.5,"document":{"text":"one"}}]}`, engine.ScoreOptions{}},
	{"Milvus, Voyage", "/v1/rerank", `{"model":"rerank-2","query":"q","documents":["one","two"],"truncation":true}`,
		`{"object":"list","data":[{"relevance_score":0.75,"index":1},{"relevance_score":0.5,"index":0}],"model":"fake","usage":{"total_tokens":10}}`, engine.ScoreOptions{}},
	{"Milvus, Hugging Face", "/hf-inference/models/org/name/pipeline/sentence-similarity", `{"inputs":{"source_sentence":"q","sentences":["one","two"]}}`,
		`[0.5,0.75]`, engine.ScoreOptions{}},
	{"a text-classification endpoint", "/", `{"inputs":[{"text":"q","text_pair":"one"},{"text":"q","text_pair":"two"}],"parameters":{"top_k":1}}`,
		`[[{"score":0.5,"label":"LABEL_0"}],[{"score":0.75,"label":"LABEL_0"}]]`, engine.ScoreOptions{}},
	{"a text-classification endpoint, one", "/predict", `{"inputs":{"text":"q","text_pair":"two"}}`,
		`[[{"score":0.75,"label":"LABEL_0"}]]`, engine.ScoreOptions{}},
	{"a sentence-ranking endpoint", "/", `{"inputs":{"query":"q","texts":["one","two"]},"parameters":{"return_documents":true}}`,
		`{"scores":[{"index":1,"score":0.75,"text":"two"},{"index":0,"score":0.5,"text":"one"}]}`, engine.ScoreOptions{}},
	{"a sentence-ranking endpoint, pairs", "/predict", `{"inputs":{"sentences":[["q","one"],["q","two"]]}}`,
		`{"scores":[0.5,0.75]}`, engine.ScoreOptions{}},
	{"SageMaker, pairs", "/invocations", `{"inputs":[["q","one"],["q","two"]]}`,
		`[[{"score":0.5,"label":"LABEL_0"}],[{"score":0.75,"label":"LABEL_0"}]]`, engine.ScoreOptions{}},
	{"infinity's client", "/infinity/rerank", `{"query":"q","documents":["one","two"],"return_documents":true,"raw_scores":false,"model":"default/not-specified","top_n":1}`,
		`{"id":"ID","object":"rerank","results":[{"relevance_score":0.75,"index":1,"document":"two"}],"model":"fake","usage":{"total_tokens":10,"prompt_tokens":10},"created":0}`, engine.ScoreOptions{}},
	{"LiteLLM, hosted_vllm", "/rerank", `{"model":"m","query":"q","documents":["one","two"],"top_n":1,"return_documents":false,"max_tokens_per_doc":7,"truncation_side":"right"}`,
		`{"id":"ID","model":"fake","object":"list","usage":{"total_tokens":10,"prompt_tokens":10},"results":[{"index":1,"relevance_score":0.75}]}`, engine.ScoreOptions{DocumentTokens: 7, Truncation: engine.TruncateRight}},
	{"LiteLLM, huggingface", "/rerank", `{"raw_scores":false,"truncate":false,"truncation_direction":"Right","query":"q","texts":["one","two"],"return_text":true,"top_n":1}`,
		`[{"index":1,"score":0.75,"text":"two"},{"index":0,"score":0.5,"text":"one"}]`, engine.ScoreOptions{Truncation: engine.TruncateNot}},
	{"LiteLLM, voyage", "/voyage/v1/rerank", `{"model":"rerank-2","query":"q","documents":["one",{"text":"two"}],"return_documents":true}`,
		`{"object":"list","data":[{"relevance_score":0.75,"index":1,"document":"two"},{"relevance_score":0.5,"index":0,"document":"one"}],"model":"fake","usage":{"total_tokens":10}}`, engine.ScoreOptions{}},
	{"vLLM, score of items", "/v1/score", `{"queries":"q","items":["one","two"],"max_tokens_per_doc":0}`,
		`{"id":"ID","object":"list","created":0,"model":"fake","data":[{"index":0,"object":"score","score":0.5},{"index":1,"object":"score","score":0.75}],"usage":{"total_tokens":10,"prompt_tokens":10}}`, engine.ScoreOptions{}},
	{"vLLM, score of data", "/score", `{"data_1":["q"],"data_2":["one"],"truncation_side":"left"}`,
		`{"id":"ID","object":"list","created":0,"model":"fake","data":[{"index":0,"object":"score","score":0.5}],"usage":{"total_tokens":5,"prompt_tokens":5}}`, engine.ScoreOptions{Truncation: engine.TruncateLeft}},
}

// plainAnswer returns an answer's JSON with its ids and times replaced, and with seven
// digits of its numbers.
func plainAnswer(t *testing.T, body string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if object, ok := v.(map[string]any); ok {
		if object["id"] != nil {
			object["id"] = "ID"
		}
		if object["created"] != nil {
			object["created"] = 0.0
		}
	}
	return roundedNumbers(v)
}

func roundedNumbers(v any) any {
	switch v := v.(type) {
	case float64:
		return math.Round(v*1e7) / 1e7
	case []any:
		for i := range v {
			v[i] = roundedNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = roundedNumbers(v[name])
		}
	}
	return v
}

// Requests of other programs get the answers that these programs read.
func TestSentRequests(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{logit: func(p engine.Pair) float32 {
		if p.Query != "q" {
			t.Errorf("query %q", p.Query)
		}
		return map[string]float32{"one": 0, "two": float32(math.Log(3))}[p.Document]
	}}
	s := newServer(t, Config{Engine: e, AnyModel: true})
	for _, test := range sentRequests {
		w := post(s, test.path, test.body)
		if want := plainAnswer(t, test.want); w.Code != 200 || !reflect.DeepEqual(plainAnswer(t, w.Body.String()), want) {
			t.Errorf("%s: %d %s, want %s", test.client, w.Code, w.Body, test.want)
		}
		if got := *e.options.Load(); !reflect.DeepEqual(got, test.options) {
			t.Errorf("%s: %+v, want %+v", test.client, got, test.options)
		}
	}
}

// A body on a path of several formats is answered in the format of its fields.
func TestVoyageIsToldApart(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for body, want := range map[string]string{
		`"top_k": 1`: `"data":`, `"truncation": null`: `"data":`, `"top_k": null, "truncation": true, "return_documents": true`: `"data":`,
		`"top_n": 1`: `"results":`, `"top_n": 1, "truncation": true`: `"results":`, `"top_k": 1, "rank_fields": ["text"]`: `"results":`, `"return_documents": true`: `"results":`,
	} {
		for _, path := range []string{"/v1/rerank", "/rerank", "/"} {
			if w := post(s, path, `{"query": "q", "documents": ["d"], `+body+`}`); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s with %s: %d %s, want %s", path, body, w.Code, w.Body, want)
			}
		}
	}
}

// Every API answers logits on request, under both names of the choice.
func TestLogitsOnRequest(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Engine: &fakeEngine{logit: func(engine.Pair) float32 { return -3 }}})
	for _, a := range apis {
		for field, want := range map[string]float64{`"raw_scores":true`: -3, `"use_activation":false`: -3, `"raw_scores":false,"use_activation":true`: 1 / (1 + math.Exp(3)), `"raw_scores":null`: 1 / (1 + math.Exp(3))} {
			got := answers(t, a.path, post(s, a.path, strings.TrimSuffix(a.body("q", "d"), "}")+","+field+"}"))
			if math.Abs(got[0].score-want) > 1e-15 {
				t.Errorf("%s with %s: %v, want %v", a.path, field, got[0].score, want)
			}
		}
	}
	if w := post(s, "/", `{"inputs": {"source_sentence": "q", "sentences": ["d"]}, "parameters": {"function_to_apply": "none"}}`); strings.TrimSpace(w.Body.String()) != "[-3]" {
		t.Errorf("function_to_apply: %s", w.Body)
	}
}

// TestRefusedForms checks that requests that a format's schema or handler refuses
// execute nothing.
func TestRefusedForms(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{}
	s := newServer(t, Config{Engine: e})
	for _, test := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/voyage/v1/rerank", `{"query": "q", "documents": ["d"], "top_k": -1}`, 422, `{"detail":"validation failed: body.top_k`},
		{"/voyage/v1/rerank", `{"query": "q", "documents": [{"title": "d"}]}`, 422, `{"detail":"validation failed: body.documents[0]: expected one of the forms in /docs, found an object`},
		{"/voyage/x", `{}`, 404, `{"detail":`},
		{"/infinity/rerank", `{"query": "q", "documents": [{"text": "d"}]}`, 422, `{"error":{"message":"validation failed: body.documents[0]: expected string, found an object`},
		{"/infinity/x", `{}`, 404, `{"error":{"message":`},
		{"/weaviate/rerank", `{"query": "q", "documents": [], "property": "p"}`, 400, `{"error":"documents is empty; send documents, or a property"`},
		{"/weaviate/rerank", `{"query": "q"}`, 400, `{"error":"documents is empty`},
		{"/", `{"inputs": {"query": "q"}}`, 422, `{"error":"validation failed: body.inputs: expected one of the forms in /docs, found an object"`},
		{"/", `{"inputs": {"sentences": [["q"]]}}`, 422, `{"error":`},
		{"/", `{"inputs": {"sentences": []}}`, 400, `{"error":"inputs is empty"`},
		{"/", `{"inputs": {"source_sentence": "q", "sentences": []}}`, 400, `{"error":"inputs is empty"`},
		{"/", `{"inputs": [{"text": "q"}]}`, 422, `{"error":`},
		{"/", `{"inputs": {"query": "q", "texts": ["d"]}, "parameters": {"function_to_apply": 1}}`, 422, `{"error":"validation failed: body.parameters: expected one of the forms`},
		{"/hf-inference/models/org/name/pipeline/feature-extraction", `{"inputs": ["a"]}`, 422, `{"error":`},
		{"/rerank", `{"query": "q", "documents": ["d"], "max_tokens_per_doc": 5, "truncation_side": "left"}`, 422, `{"detail":"max_tokens_per_doc 5 and truncation_side left exclude each other`},
		{"/score", `{"queries": "q", "items": "d", "max_tokens_per_doc": 5, "truncation_side": "left"}`, 422, `{"error":{"message":"max_tokens_per_doc 5`},
	} {
		if w := post(s, test.path, test.body); w.Code != test.status || !strings.HasPrefix(w.Body.String(), test.want) {
			t.Errorf("%s %s: %d %s, want %d %s", test.path, test.body, w.Code, w.Body, test.status, test.want)
		}
	}
	if n := e.executed.Load(); n != 0 {
		t.Errorf("%d pairs were executed", n)
	}
}

// Weaviate asks for these paths when it starts.
func TestWeaviateStarts(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	if w := do(s, http.MethodGet, "/weaviate/.well-known/ready"); w.Code > 299 || w.Body.Len() > 0 {
		t.Errorf("ready: %d %s", w.Code, w.Body)
	}
	var meta map[string]any
	if w := do(s, http.MethodGet, "/weaviate/meta"); w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &meta) != nil || meta["model"] != "fake" {
		t.Errorf("meta: %d %s", w.Code, w.Body)
	}
	s.drain()
	if w := do(s, http.MethodGet, "/weaviate/.well-known/ready"); w.Code != 503 {
		t.Errorf("ready of a server that is stopping: %d", w.Code)
	}
}
