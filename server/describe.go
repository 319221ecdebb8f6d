package server

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// What of the OpenAPI document the types of the routes do not say: examples,
// both formats of the routes that take two, and what is not JSON.

const (
	exampleTEI       = `{"query": "resize photos", "texts": ["A mail reader.", "An image editor."]}`
	exampleDocuments = `{"query": "resize photos", "documents": ["A mail reader.", "An image editor."], "top_n": 1}`
	examplePredict   = `{"inputs": [["resize photos", "A mail reader."], ["resize photos", "An image editor."]]}`
	exampleScore     = `{"text_1": "resize photos", "text_2": ["A mail reader.", "An image editor."]}`
	exampleFields    = `{"query": "resize photos", "rank_fields": ["name", "about"], "documents": [{"name": "mutt", "about": "A mail reader."}, {"name": "gimp", "about": "An image editor."}]}`
)

func example(summary, body string) *huma.Example {
	return &huma.Example{Summary: summary, Value: jsonValue(body)}
}

func jsonValue(text string) any {
	var v any
	if err := unmarshal([]byte(text), &v); err != nil {
		panic(err) // an example of ours
	}
	return v
}

func (s *Server) describe(h huma.API) {
	api := h.OpenAPI()
	documents := map[string]*huma.Example{"texts": example("Texts", exampleDocuments), "fields": example("Objects with fields to rank", exampleFields)}
	setExamples(api, "/predict", map[string]*huma.Example{"pairs": example("Pairs", examplePredict), "pair": example("One pair", `{"inputs": ["resize photos", "An image editor."]}`)})
	setExamples(api, "/v1/rerank", documents)
	setExamples(api, "/v2/rerank", documents)
	for _, path := range scorePaths {
		setExamples(api, path, map[string]*huma.Example{"one": example("One query", exampleScore)})
	}
	for _, path := range rerankPaths {
		setExamples(api, path, map[string]*huma.Example{"tei": example("As text-embeddings-inference", exampleTEI), "jina": example("As Jina, vLLM and infinity", exampleDocuments)})
		addJinas(api.Paths[path].Post, api.Paths["/v1/rerank"].Post)
	}
	api.Paths["/"].Get.Responses["302"] = &huma.Response{Description: "A browser is sent to the dashboard"}
	s.describePage(h, "/metrics", "metrics", "Metrics for Prometheus", "text/plain", s.Key != "")
	s.describePage(h, "/docs", "docs", "This page", "text/html", false)
	s.describePage(h, "/openapi.json", "openapi", "The description of this API", "application/json", false)
	api.Info.Description += " Each route has examples to try. The [metrics](/metrics) are for Prometheus."
	if s.Dashboard != nil {
		api.Info.Description += " The [dashboard](/dashboard) shows the server live."
		s.describePage(h, "/dashboard", "dashboard", "The live dashboard, a page", "text/html", false)
		s.describePage(h, "/dashboard/api/export.json", "export", "The dashboard's last ten minutes", "application/json", s.Key != "")
	}
}

func setExamples(api *huma.OpenAPI, path string, examples map[string]*huma.Example) {
	api.Paths[path].Post.RequestBody.Content["application/json"].Examples = examples
}

// addJinas documents that a route takes Jina's format too, and answers in it.
// What huma validates is what was registered, not this.
func addJinas(op, jina *huma.Operation) {
	both := func(a, b map[string]*huma.MediaType) {
		a["application/json"].Schema = &huma.Schema{AnyOf: []*huma.Schema{a["application/json"].Schema, b["application/json"].Schema}}
	}
	both(op.RequestBody.Content, jina.RequestBody.Content)
	for status, response := range op.Responses {
		both(response.Content, jina.Responses[status].Content)
	}
}

func (s *Server) describePage(h huma.API, path, id, summary, media string, keyed bool) {
	op := &huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"pages and metrics"},
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{media: {}}}},
	}
	statuses := []int{http.StatusForbidden}
	if keyed {
		op.Security = []map[string][]string{{"key": {}}}
		statuses = append(statuses, http.StatusUnauthorized)
	}
	s.describeErrors(h, op, errorOf(path), statuses)
	h.OpenAPI().AddOperation(op)
}
