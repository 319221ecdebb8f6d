package server

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

// A productRequest is a request as the source of a product sends it, and how that source
// reads the answer. The pages of docs/user/recipes link the products.
type productRequest struct {
	product string // with its version
	source  string // the file that builds the request
	path    string
	headers []string // besides the content type, and a key that the product has
	body    string
	read    func(body []byte) ([]float64, error) // scores in the order of the documents
}

const bearer = "Bearer secret"

// productRequests rank "one" and "two", whose scores are 0.5 and 0.75.
var productRequests = []productRequest{
	{
		product: "Open WebUI 0.12.4", source: "open_webui/retrieval/models/external.py", path: "/v1/rerank",
		headers: []string{"Authorization", bearer, "Accept-Encoding", "gzip, deflate", "X-OpenWebUI-User-Name", "A%20User", "X-OpenWebUI-User-Role", "user"},
		body:    `{"model": "m", "query": "q", "documents": ["one", "two"], "top_n": 2}`, read: readResults,
	},
	{
		product: "LightRAG 1.5.7, binding cohere", source: "lightrag/rerank.py", path: "/v2/rerank", headers: []string{"Authorization", bearer},
		body: `{"model": "m", "query": "q", "documents": ["one", "two"], "top_n": 2}`, read: readResults,
	},
	{
		product: "LightRAG 1.5.7, binding jina", source: "lightrag/rerank.py", path: "/v1/rerank", headers: []string{"Authorization", bearer},
		body: `{"model": "m", "query": "q", "documents": ["one", "two"], "return_documents": false}`, read: readResults,
	},
	{
		product: "Dify, openai_api_compatible 0.0.63", source: "models/rerank/rerank.py", path: "/v1/rerank", headers: []string{"Authorization", bearer},
		body: `{"model": "m", "query": "q", "documents": ["one", "two"], "top_n": 3}`, read: readResults,
	},
	{
		product: "Dify, huggingface_tei 0.1.10", source: "models/helper.py", path: "/rerank", headers: []string{"Authorization", bearer},
		body: `{"query": "q", "texts": ["one", "two"], "return_text": true}`, read: readTexts,
	},
	{
		product: "Dify, jina 0.0.23", source: "models/rerank/rerank.py", path: "/v1/rerank", headers: []string{"Authorization", bearer},
		body: `{"model": "m", "query": "q", "documents": ["one", "two"], "top_n": null, "return_documents": false}`, read: readResults,
	},
	{
		product: "Dify, jina 0.0.23, a multimodal model", source: "models/shared/input.py", path: "/v1/rerank", headers: []string{"Authorization", bearer},
		body: `{"model": "jina-reranker-m0", "query": "q", "documents": [{"text": "one"}, {"text": "two"}], "top_n": 2, "return_documents": false}`, read: readResults,
	},
	{
		product: "Dify, cohere 0.0.17, and RAGFlow 0.27.0, VLLM and Cohere", source: "the SDK cohere, version 1 of the API", path: "/v1/rerank",
		headers: []string{"Authorization", bearer, "Accept", "*/*", "X-Fern-Language", "Python"},
		body:    `{"model": "m", "query": "q", "documents": ["one", "two"], "top_n": 2, "return_documents": true}`, read: readDocuments,
	},
	{
		product: "RAGFlow 0.27.0, OpenAI-API-Compatible", source: "rag/llm/rerank_model.py", path: "/v1/rerank", headers: []string{"Authorization", bearer},
		body: `{"model": "m", "query": "q", "documents": ["one", "two"], "top_n": 2}`, read: readResults,
	},
	{
		product: "RAGFlow 0.27.0, LocalAI", source: "rag/llm/rerank_model.py", path: "/rerank", headers: []string{"Authorization", bearer},
		body: `{"model": "m", "query": "q", "documents": ["one", "two"], "top_n": 2}`, read: readResults,
	},
	{
		product: "RAGFlow 0.27.0, HuggingFace, which sends no key", source: "rag/llm/rerank_model.py", path: "/rerank",
		body: `{"query": "q", "texts": ["one", "two"], "raw_scores": false, "truncate": true}`, read: readList,
	},
	{
		product: "Continue 1.3.40, provider huggingface-tei", source: "core/llm/llms/HuggingFaceTEI.ts", path: "/rerank", headers: []string{"Authorization", bearer},
		body: `{"query":"q","return_text":false,"raw_scores":false,"texts":["one","two"],"truncation_direction":"Right","truncate":true}`, read: readList,
	},
	{
		product: "Continue 1.3.40, provider cohere", source: "core/llm/llms/Cohere.ts", path: "/v2/rerank", headers: []string{"Authorization", bearer},
		body: `{"model":"m","query":"q","documents":["one","two"]}`, read: readResults,
	},
	{
		product: "Continue 1.3.40, provider vllm", source: "core/llm/llms/Vllm.ts", path: "/v1/rerank",
		headers: []string{"Authorization", bearer, "Accept", "application/json", "X-Api-Key", "secret"},
		body:    `{"model":"m","query":"q","documents":["one","two"]}`, read: readResults,
	},
	{
		product: "Weaviate 1.40.0-dev, reranker-cohere", source: "modules/reranker-cohere/clients/ranker.go", path: "/v2/rerank",
		headers: []string{"Authorization", bearer, "Request-Source", "unspecified:weaviate"},
		body:    `{"documents":["one","two"],"query":"q","model":"rerank-v3.5","return_documents":false}`, read: readResults,
	},
	{
		product: "Milvus at 02bb2cc, provider cohere", source: "internal/util/function/models/cohere/cohere_client.go", path: "/v2/rerank",
		headers: []string{"Authorization", "bearer secret", "Accept", "application/json"},
		body:    `{"documents":["one","two"],"model":"m","query":"q"}`, read: readResults,
	},
	{
		product: "Elasticsearch at f41bfb9, service hugging_face", source: "services/huggingface/request/rerank/HuggingFaceRerankRequestEntity.java", path: "/rerank",
		headers: []string{"Authorization", bearer}, body: `{"texts":["one","two"],"query":"q","return_text":true,"top_n":2}`, read: readElasticsearch,
	},
	{
		product: "Elasticsearch at f41bfb9, service hugging_face, a text without content", source: "services/huggingface/response/HuggingFaceRerankResponseEntity.java", path: "/rerank",
		headers: []string{"Authorization", bearer}, body: `{"texts":["one","two"," "],"query":"q"}`, read: readElasticsearch,
	},
	{
		product: "Elasticsearch at 7df8348, service custom, with the recipe's request", source: "services/custom/request/CustomRequest.java", path: "/v2/rerank",
		headers: []string{"Authorization", bearer, "Content-Type", "application/json; charset=UTF-8"},
		body:    `{"model": "m", "query": "q", "documents": ["one","two"]}`, read: readResults,
	},
	{
		product: "OpenSearch 3.9.0-SNAPSHOT, connector.pre_process.cohere.rerank", source: "common/connector/functions/preprocess/CohereRerankPreProcessFunction.java", path: "/v1/rerank",
		headers: []string{"Authorization", bearer},
		body:    `{ "documents": ["one","two"], "query": "q", "model": "m", "top_n": 2 }`, read: readOpenSearch,
	},
}

type readResult struct {
	Index    int      `json:"index"`
	Score    *float64 `json:"score"`
	Relevant *float64 `json:"relevance_score"`
	Text     *string  `json:"text"`
	Document *struct {
		Text string `json:"text"`
	} `json:"document"`
}

// inOrder returns the scores by index, and refuses missing ones.
func inOrder(results []readResult, score func(readResult) *float64) ([]float64, error) {
	scores := make([]float64, len(results))
	for _, r := range results {
		if score(r) == nil {
			return nil, fmt.Errorf("result %d has no score", r.Index)
		}
		scores[r.Index] = *score(r)
	}
	return scores, nil
}

// readResults reads results[].index and relevance_score.
func readResults(body []byte) ([]float64, error) {
	var answer struct {
		Results []readResult `json:"results"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	return inOrder(answer.Results, func(r readResult) *float64 { return r.Relevant })
}

// readDocuments also reads results[].document.text.
func readDocuments(body []byte) ([]float64, error) {
	var answer struct {
		Results []readResult `json:"results"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	for _, r := range answer.Results {
		if r.Document == nil || r.Document.Text != []string{"one", "two"}[r.Index] {
			return nil, fmt.Errorf("result %d has another document", r.Index)
		}
	}
	return readResults(body)
}

// readList reads [].index and score.
func readList(body []byte) ([]float64, error) {
	var list []readResult
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	return inOrder(list, func(r readResult) *float64 { return r.Score })
}

// readTexts also reads [].text.
func readTexts(body []byte) ([]float64, error) {
	var list []readResult
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	for _, r := range list {
		if r.Text == nil || *r.Text != []string{"one", "two"}[r.Index] {
			return nil, fmt.Errorf("result %d has another text", r.Index)
		}
	}
	return readList(body)
}

// readElasticsearch refuses unknown fields of a result, as Elasticsearch does.
func readElasticsearch(body []byte) ([]float64, error) {
	var list []map[string]any
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	for _, object := range list {
		for name := range object {
			if !slices.Contains([]string{"index", "score", "relevance_score", "text", "document"}, name) {
				return nil, fmt.Errorf("unknown field [%s]", name)
			}
		}
	}
	return readList(body)
}

// readOpenSearch casts as OpenSearch does: an index must be an integer, and a score must
// not look like one.
func readOpenSearch(body []byte) ([]float64, error) {
	var answer struct {
		Results []struct {
			Index json.Number `json:"index"`
			Score json.Number `json:"relevance_score"`
		} `json:"results"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	for _, r := range answer.Results {
		if strings.ContainsAny(r.Index.String(), ".eE") || !strings.ContainsAny(r.Score.String(), ".eE") {
			return nil, fmt.Errorf("index %s with score %s", r.Index, r.Score)
		}
	}
	return readResults(body)
}

func productServer(t *testing.T) *Server {
	t.Helper()
	e := &fakeEngine{logit: func(p engine.Pair) float32 {
		if p.Query != "q" {
			t.Errorf("query %q", p.Query)
		}
		return map[string]float32{"one": 0, "two": float32(math.Log(3)), " ": -float32(math.Log(3))}[p.Document]
	}}
	return newServer(t, Config{Engine: e, AnyModel: true, Key: "secret"})
}

// Requests of products are answered so that their sources read the right scores.
func TestProductRequests(t *testing.T) {
	t.Parallel()
	s := productServer(t)
	open := productServer(t)
	open.Key = ""
	for _, p := range productRequests {
		asked := s
		if !slices.Contains(p.headers, "Authorization") {
			asked = open
		}
		w := post(asked, p.path, p.body, p.headers...)
		got, err := p.read(w.Body.Bytes())
		want := []float64{0.5, 0.75, 0.25}[:max(len(got), 2)]
		if w.Code != http.StatusOK || err != nil || !reflect.DeepEqual(roundedScores(got), want) {
			t.Errorf("%s (%s): %d %s, read %v (%v), want %v", p.product, p.source, w.Code, w.Body, got, err, want)
		}
	}
}

func roundedScores(scores []float64) []float64 {
	out := make([]float64, len(scores))
	for i, score := range scores {
		out[i] = math.Round(score*1e6) / 1e6
	}
	return out
}

// A request without the key is refused with a status that each product takes for an error.
func TestProductRequestsNeedTheKey(t *testing.T) {
	t.Parallel()
	s := productServer(t)
	for _, p := range productRequests {
		headers := slices.Clone(p.headers)
		if i := slices.Index(headers, "Authorization"); i >= 0 {
			headers[i+1] = "Bearer wrong"
		}
		if w := post(s, p.path, p.body, headers...); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s, want 401", p.product, w.Code, w.Body)
		}
	}
}

// Dify and Continue ask for /info first, Dify with the key: it takes the server for a
// reranker by the one name in model_type.
func TestProductsReadInfo(t *testing.T) {
	t.Parallel()
	s := productServer(t)
	w := do(s, http.MethodGet, "/info", "Authorization", bearer)
	var info struct {
		ModelID   string                     `json:"model_id"`
		ModelType map[string]json.RawMessage `json:"model_type"`
		MaxInput  int                        `json:"max_input_length"`
		MaxBatch  int                        `json:"max_client_batch_size"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &info); err != nil {
		t.Fatal(err)
	}
	if _, ok := info.ModelType["reranker"]; !ok || len(info.ModelType) != 1 || info.ModelID == "" || info.MaxInput <= 0 || info.MaxBatch <= 0 {
		t.Errorf("info: %s", w.Body)
	}
}

// A container reaches the server by these names; others are refused with the flag to add.
func TestProductsInContainers(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for host, status := range map[string]int{"host.docker.internal:8437": 200, "host.containers.internal:8437": 200, "172.17.0.1:8437": 200, "mlxrank:8437": 403} {
		var w *httptest.ResponseRecorder
		if w = post(s, "/v1/rerank", `{"query": "q", "documents": ["d"]}`, "Host", host); w.Code != status {
			t.Errorf("%s: %d %s, want %d", host, w.Code, w.Body, status)
		}
		if status == 403 && !strings.Contains(w.Body.String(), "--allowed-host mlxrank") {
			t.Errorf("%s: %s", host, w.Body)
		}
	}
}
