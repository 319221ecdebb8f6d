package server

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// The OpenAPI document is generated from the table of routes and the Go types of
// requests and answers. huma makes the schemas, which validate requests too.

type examples = map[string]*huma.Example

const (
	exampleTEI       = `{"query": "resize photos", "texts": ["A mail reader.", "An image editor."]}`
	exampleDocuments = `{"query": "resize photos", "documents": ["A mail reader.", "An image editor."], "top_n": 1}`
	examplePredict   = `{"inputs": [["resize photos", "A mail reader."], ["resize photos", "An image editor."]]}`
	examplePair      = `{"inputs": ["resize photos", "An image editor."]}`
	exampleTexts     = `{"query": "resize photos", "documents": ["A mail reader.", "An image editor."]}`
	exampleVoyage    = `{"query": "resize photos", "documents": ["A mail reader.", "An image editor."], "top_k": 1, "truncation": true}`
	exampleRanking   = `{"inputs": {"query": "resize photos", "texts": ["A mail reader.", "An image editor."]}}`
	exampleSimilar   = `{"inputs": {"source_sentence": "resize photos", "sentences": ["A mail reader.", "An image editor."]}}`
	exampleClassify  = `{"inputs": [{"text": "resize photos", "text_pair": "A mail reader."}, {"text": "resize photos", "text_pair": "An image editor."}]}`
	exampleScore     = `{"text_1": "resize photos", "text_2": ["A mail reader.", "An image editor."]}`
	exampleFields    = `{"query": "resize photos", "rank_fields": ["name", "about"], "documents": [{"name": "mutt", "about": "A mail reader."}, {"name": "gimp", "about": "An image editor."}]}`
)

var (
	rerankExamples   = examples{"tei": example("As text-embeddings-inference", exampleTEI), "jina": example("As Jina and vLLM", exampleDocuments)}
	voyageExamples   = examples{"voyage": example("As Voyage", exampleVoyage), "texts": example("Texts", exampleTexts)}
	textExamples     = examples{"texts": example("Texts", exampleTexts)}
	endpointExamples = examples{
		"tei": example("As text-embeddings-inference", exampleTEI), "jina": example("As Jina", exampleDocuments), "pairs": example("Pairs", examplePredict),
		"ranking": example("As sentence-ranking", exampleRanking), "similarity": example("As sentence-similarity", exampleSimilar),
	}
	documentExamples = examples{"texts": example("Texts", exampleDocuments), "fields": example("Objects with fields to rank", exampleFields)}
	predictExamples  = examples{
		"pairs": example("Pairs", examplePredict), "pair": example("One pair", examplePair), "classification": example("As text-classification", exampleClassify),
		"ranking": example("As sentence-ranking", exampleRanking), "similarity": example("As sentence-similarity", exampleSimilar),
	}
	scoreExamples = examples{"one": example("One query", exampleScore)}
)

func example(summary, body string) *huma.Example {
	var v any
	if err := unmarshal([]byte(body), &v); err != nil {
		panic(err) // the examples above are valid
	}
	return &huma.Example{Summary: summary, Value: v}
}

// scoringErrors are the statuses of failed scoring requests, besides the guard's.
var scoringErrors = []int{
	http.StatusBadRequest, http.StatusNotFound, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
	http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests, statusClientClosed,
	http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

func newSchemas() huma.Registry {
	return huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
}

// describe makes the OpenAPI document.
func (s *Server) describe() *huma.OpenAPI {
	api := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "mlxrank", Version: s.Version,
			Description: "Reranks passages with a cross-encoder, in the formats of text-embeddings-inference, Jina, Cohere, Voyage, vLLM, infinity, Weaviate and Hugging Face's inference endpoints." +
				" Each route has examples to try. The [metrics](/metrics) are for Prometheus.",
		},
		Components: &huma.Components{Schemas: s.schemas},
	}
	if s.Dashboard != nil {
		api.Info.Description += " The [dashboard](/dashboard) shows the server live."
	}
	if s.isKeyed() {
		api.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer"}}
	}
	for _, rt := range s.routes {
		if rt.post != nil && rt.post.id != "" {
			api.AddOperation(s.describeOperation(rt, http.MethodPost, rt.post))
		}
		if rt.get != nil && rt.get.id != "" {
			api.AddOperation(s.describeOperation(rt, http.MethodGet, rt.get))
		}
	}
	api.Paths["/"].Get.Responses["302"] = &huma.Response{Description: "A browser is redirected to the dashboard, or to /docs without one"}
	return api
}

func (s *Server) describeOperation(rt *route, method string, o *operation) *huma.Operation {
	ok := &huma.Response{Description: "OK"}
	op := &huma.Operation{
		OperationID: o.id, Method: method, Path: rt.path, Summary: o.summary, Tags: []string{o.tag},
		Responses: map[string]*huma.Response{"200": ok},
	}
	shapes, in, out := []reflect.Type{reflect.TypeOf((&failure{}).body(rt.shape))}, []reflect.Type{}, []reflect.Type{}
	for i, f := range o.formats {
		in, out = append(in, f.in), append(out, f.out)
		if i > 0 {
			shapes = append(shapes, reflect.TypeOf((&failure{}).body(f.shape)))
		}
	}
	if o.request != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: s.jsonContent([]reflect.Type{o.request})}
		op.RequestBody.Content["application/json"].Examples = o.examples
	}
	switch {
	case o.formats != nil:
		op.RequestBody = &huma.RequestBody{Required: true, Content: s.jsonContent(in)}
		op.RequestBody.Content["application/json"].Examples = o.examples
		ok.Content = s.jsonContent(out)
		ok.Headers = make(map[string]*huma.Header)
		for _, h := range stageHeaders("", &outcome{result: &engine.Result{}}) {
			schema := &huma.Schema{Type: huma.TypeInteger, Format: "int64", Description: h.doc}
			if h.value == "" { // the device
				schema = &huma.Schema{Type: huma.TypeString, Description: h.doc}
			}
			ok.Headers[h.name] = &huma.Header{Schema: schema}
		}
		ok.Headers[headerUnscored] = &huma.Header{Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.), Description: "Results without a score; absent if all have one"}}
		ok.Headers[headerRequestID] = &huma.Header{Schema: &huma.Schema{Type: huma.TypeString, Description: "The request's X-Request-Id, or one that the server makes; every answer of every route has it"}}
		for _, h := range requestHeaders {
			op.Parameters = append(op.Parameters, &huma.Param{Name: h.name, In: "header", Description: h.doc, Schema: &h.schema})
		}
		ok.Headers[cacheHeader] = &huma.Header{Schema: &huma.Schema{Type: huma.TypeString, Description: "Distinct pairs that were in the cache and that were not: hits=18, misses=2. Absent without a cache"}}
	case o.body != nil:
		ok.Content = s.jsonContent([]reflect.Type{reflect.TypeOf(o.body)})
	case o.media != "":
		ok.Content = map[string]*huma.MediaType{o.media: {}}
	}
	statuses := append([]int{http.StatusForbidden}, o.errors...)
	if s.isKeyed() && (rt.access == accessKey || rt.access == accessAdmin || method == http.MethodPost) {
		op.Security = []map[string][]string{{"key": {}}}
		statuses = append(statuses, http.StatusUnauthorized)
	}
	for _, status := range statuses {
		text := http.StatusText(status)
		if status == statusClientClosed {
			text = "Client Closed Request"
		}
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: text, Content: s.jsonContent(shapes)}
	}
	return op
}

// jsonContent describes a JSON value of any of the types.
func (s *Server) jsonContent(types []reflect.Type) map[string]*huma.MediaType {
	var schemas []*huma.Schema
	for _, t := range types {
		schemas = append(schemas, s.schemas.Schema(t, true, ""))
	}
	schema := schemas[0]
	if len(schemas) > 1 {
		schema = &huma.Schema{AnyOf: schemas}
	}
	return map[string]*huma.MediaType{"application/json": {Schema: schema}}
}
