package server

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// A route is a path and how it is answered; makeRoutes lists them all. A path
// that ends with "/" covers all paths below it, and the longest match decides.
type route struct {
	path      string
	shape     shape // of its errors
	access    access
	dashboard bool       // sets its own write deadlines, because its streams have no end
	post, get *operation // nil for a method that is not allowed
}

// access selects the requests that are answered without the key.
type access int

const (
	accessKey   access = iota // none
	accessProbe               // GET and HEAD, also under any host name: health checks
	accessOpen                // all: what pages consist of, but not their data
	accessAdmin               // none; it exists only with Config.Admin, which needs a key
)

// A handler writes an answer, or returns a failure that is yet to be written.
type handler func(a *answer, r *http.Request) outcome

// An operation answers one method of a route. The OpenAPI document describes it
// if it has an id.
type operation struct {
	handle           handler
	id, tag, summary string
	formats          []*format // of a scoring operation's requests and answers
	examples         examples
	request          reflect.Type // of the body of an operation without formats, nil for none
	body             any          // an example of the answer's type, if it is JSON
	media            string       // of an answer that is not described by a type
	errors           []int        // statuses, besides the guard's
}

// makeRoutes fills the table of routes.
func (s *Server) makeRoutes() error {
	tei := newFormat(s, "tei", shapeTEI, func(f fields) bool { return f.has("texts") }, s.teiRerank).marking()
	jina := newFormat(s, "jina", shapeJina, func(f fields) bool { return f.has("documents") && !isVoyages(f) }, s.jinaRerank).marking()
	voyage := newFormat(s, "voyage", shapeJina, isVoyages, s.voyageRerank).marking()
	predict := newFormat(s, "tei-predict", shapeTEI, func(f fields) bool { return f.has("inputs") && !isHFs(f) }, s.teiPredict)
	endpoint := newFormat(s, "huggingface", shapeTEI, isHFs, s.hfAnswer)
	weaviate := newFormat(s, "weaviate", shapeTEI, nil, s.weaviateRerank)
	infinity := newFormat(s, "infinity", shapeOpenAI, nil, s.infinityRerank).marking()
	score := newFormat(s, "vllm-score", shapeOpenAI, nil, s.vllmScore)
	// The paths of inference endpoints; the second is Amazon SageMaker's.
	root := func(id string) *operation {
		return s.scoring(id, "Rank texts or score pairs, as text-embeddings-inference and Hugging Face's inference endpoints do, or rank documents, as Jina's API does",
			endpointExamples, tei, jina, voyage, predict, endpoint)
	}
	asVoyage := func(id string) *operation {
		return s.scoring(id, "Rank documents, as Voyage's API does", voyageExamples, voyage)
	}
	asInfinity := func(id string) *operation {
		return s.scoring(id, "Rank documents, as infinity does", textExamples, infinity)
	}
	health := func(id string) *operation {
		return state(id, "Whether the engine scores", nil, s.getHealth, http.StatusServiceUnavailable)
	}
	docs := page("docs", "This page", "text/html", ownPage(v5emb.NewHandlerWithConfig(swgui.Config{Title: "mlxrank", SwaggerJSON: "/openapi.json", BasePath: "/docs/"})))
	rootHealth := health("health-root")
	rootHealth.handle = s.pageForBrowsers(rootHealth.handle)
	weaviateReady := func(id string) *operation {
		return state(id, "Whether requests are accepted, as Weaviate asks", nil, s.getWeaviateReady, http.StatusServiceUnavailable)
	}
	list := []*route{
		{path: "/", access: accessProbe, get: rootHealth, post: root("rerank-root")},
		{path: "/rerank", post: s.scoring("rerank", "Rank texts, as text-embeddings-inference does, or documents, as Jina's API and vLLM do", rerankExamples, tei, jina, voyage)},
		{path: "/invocations", post: root("rerank-invocations")},
		{path: "/predict", post: s.scoring("predict", "Score pairs, as text-embeddings-inference and Hugging Face's inference endpoints do", predictExamples, predict, endpoint)},
		{path: "/hf-inference/models/", post: s.scoring("", "", nil, predict, endpoint)}, // below it: a model's name and /pipeline/TASK
		{path: "/v1/rerank", shape: shapeJina, post: s.scoring("rerank-v1", "Rank documents, as Jina's API does, or as Voyage's does for a body with top_k or truncation", voyageExamples, jina, voyage)},
		{path: "/v2/rerank", shape: shapeCohere, post: s.scoring("rerank-v2", "Rank documents, as version 2 of Cohere's API does", documentExamples, newFormat(s, "cohere", shapeCohere, nil, s.cohereRerank).marking())},
		{path: "/voyage/rerank", shape: shapeJina, post: asVoyage("rerank-voyage")},
		{path: "/voyage/v1/rerank", shape: shapeJina, post: asVoyage("rerank-voyage-v1")},
		{path: "/infinity/rerank", shape: shapeOpenAI, post: asInfinity("rerank-infinity")},
		{path: "/infinity/v1/rerank", shape: shapeOpenAI, post: asInfinity("rerank-infinity-v1")},
		{path: "/weaviate/rerank", post: s.scoring("rerank-weaviate", "Score documents, as Weaviate's module reranker-transformers asks", textExamples, weaviate)},
		{path: "/weaviate/meta", get: state("weaviate-meta", "The served model, as Weaviate asks", weaviateMeta{}, s.getWeaviateMeta)},
		{path: "/weaviate/.well-known/ready", access: accessProbe, get: weaviateReady("weaviate-ready")},
		{path: "/weaviate/.well-known/live", access: accessProbe, get: weaviateReady("weaviate-live")},
		{path: "/score", shape: shapeOpenAI, post: s.scoring("score", "Score pairs, as vLLM does", scoreExamples, score)},
		{path: "/v1/score", shape: shapeOpenAI, post: s.scoring("score-v1", "Score pairs, as vLLM does", scoreExamples, score)},
		{path: "/v1/models", shape: shapeOpenAI, get: state("models", "The served models, as OpenAI's API lists models", openAIModels{}, s.getModels)},
		{path: "/v1/", shape: shapeJina}, // paths that do not exist
		{path: "/v2/", shape: shapeCohere},
		{path: "/voyage/", shape: shapeJina},
		{path: "/infinity/", shape: shapeOpenAI},
		{path: "/info", get: state("info", "The served models and the limits", modelInfo{}, s.getInfo)},
		{path: "/health", access: accessProbe, get: health("health")},
		{path: "/ping", access: accessProbe, get: health("ping")},
		{path: "/ready", access: accessProbe, get: state("ready", "Whether requests are accepted", readiness{}, s.getReady, http.StatusServiceUnavailable)},
		{path: "/metrics", get: page("metrics", "Metrics for Prometheus", "text/plain", s.metricsHandler())},
		{path: "/openapi.json", access: accessOpen, get: page("openapi", "The description of this API", "application/json", http.HandlerFunc(s.serveOpenAPI))},
		{path: "/docs", access: accessOpen, get: docs},
		{path: "/docs/", access: accessOpen, get: &operation{handle: docs.handle}},
	}
	if s.Dashboard != nil {
		below := &operation{handle: serveWith(s.Dashboard)}
		list = append(list,
			&route{path: "/dashboard", access: accessOpen, dashboard: true, get: page("dashboard", "The live dashboard, a page", "text/html", s.Dashboard)},
			&route{path: "/dashboard/", access: accessOpen, dashboard: true, get: below},
			&route{path: "/dashboard/api/", dashboard: true, get: below},
			&route{path: "/dashboard/api/export.json", dashboard: true, get: page("export", "The dashboard's last ten minutes", "application/json", s.Dashboard)},
		)
	}
	if s.Admin {
		list = append(list, s.adminRoute())
	}
	s.routes = make(map[string]*route, len(list))
	for _, r := range list {
		s.routes[r.path] = r
	}
	var err error
	s.openAPI, err = json.Marshal(s.describe())
	return err
}

// route returns the route of a path, an empty one if there is none.
func (s *Server) route(path string) *route {
	if r := s.routes[path]; r != nil {
		return r
	}
	for end := strings.LastIndexByte(path, '/'); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if r := s.routes[path[:end+1]]; r != nil {
			return r
		}
	}
	return &route{}
}

// methods lists the methods that a route allows.
func (rt *route) methods() []string {
	var list []string
	if rt.post != nil {
		list = append(list, http.MethodPost)
	}
	if rt.get != nil {
		list = append(list, http.MethodGet)
	}
	return list
}

// label names a route in logs and metrics. Paths themselves are the client's
// words.
func (rt *route) label() string {
	if len(rt.methods()) == 0 {
		return "other"
	}
	return rt.path
}

// isProbe reports whether a request only asks if the server is up.
func (rt *route) isProbe(r *http.Request) bool {
	return rt.access == accessProbe && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// handle passes a request through the guard to its operation.
func (s *Server) handle(a *answer, r *http.Request, rt *route) outcome {
	if rt.dashboard {
		setDeadline(http.NewResponseController(a).SetWriteDeadline, noDeadline)
	}
	if f := s.guard(a, r, rt); f != nil || a.status != 0 { // a preflight is answered
		return outcome{failure: f}
	}
	methods := rt.methods()
	switch {
	case len(methods) == 0:
		return outcome{failure: failf(http.StatusNotFound, kindNotFound, "there is no such path; /docs lists the paths")}
	case r.Method == http.MethodPost && rt.post != nil:
		return rt.post.handle(a, r)
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && rt.get != nil:
		return rt.get.handle(a, r)
	}
	a.Header().Set("Allow", strings.Join(methods, ", "))
	return outcome{failure: failf(http.StatusMethodNotAllowed, kindValidation, "%s takes %s", rt.path, strings.Join(methods, " and "))}
}

// plainPath removes doubled slashes and a final one from a request's path, which
// base URLs that end with a slash leave in it. It runs before anything decides by
// the path. The request is copied, so that the caller's stays as it is.
func (s *Server) plainPath(r *http.Request) *http.Request {
	plain := *r
	path := r.URL.Path
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if short := strings.TrimSuffix(path, "/"); s.routes[path] == nil && s.routes[short] != nil {
		path = short
	}
	if path != r.URL.Path {
		u := *r.URL
		u.Path, u.RawPath = path, ""
		plain.URL = &u
	}
	return &plain
}

func serveWith(h http.Handler) handler {
	return func(a *answer, r *http.Request) outcome {
		h.ServeHTTP(a, r)
		return outcome{}
	}
}

func page(id, summary, media string, h http.Handler) *operation {
	return &operation{handle: serveWith(h), id: id, tag: "pages and metrics", summary: summary, media: media}
}

// state makes an operation that answers what get returns, as JSON. A nil body
// makes the answer empty.
func state(id, summary string, body any, get func(context.Context) (any, *failure), errors ...int) *operation {
	return &operation{id: id, tag: "state", summary: summary, body: body, errors: errors, handle: func(a *answer, r *http.Request) outcome {
		v, f := get(r.Context())
		if f == nil && v != nil {
			a.sendJSON(http.StatusOK, encode(v))
		}
		return outcome{failure: f}
	}}
}

// pageForBrowsers redirects a browser to a page; health checks go to next.
func (s *Server) pageForBrowsers(next handler) handler {
	return func(a *answer, r *http.Request) outcome {
		a.Header().Set("Vary", "Accept")
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			return next(a, r)
		}
		page := "/docs"
		if s.Dashboard != nil {
			page = "/dashboard"
		}
		http.Redirect(a, r, page, http.StatusFound)
		return outcome{}
	}
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(s.openAPI); err != nil {
		return // the client is gone
	}
}

// ownPage keeps a page from loading and calling anything of another host.
func ownPage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy",
			"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}
