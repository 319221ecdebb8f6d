package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// routes finds the handler of a path, and says which methods the path has.
type routes struct {
	mux     *http.ServeMux
	methods map[string][]string // by path; one that ends with / has all below it
}

func (rs *routes) handle(method, path string, h http.Handler) {
	pattern := path
	if path == "/" {
		pattern = "/{$}" // and not all below it
	}
	rs.mux.Handle(method+" "+pattern, h)
	rs.methods[path] = append(rs.methods[path], method)
}

// route is the path that a request's path belongs to, "" if none.
func (rs *routes) route(path string) string {
	if _, ok := rs.methods[path]; ok {
		return path
	}
	for route := range rs.methods {
		if route != "/" && strings.HasSuffix(route, "/") && strings.HasPrefix(path, route) {
			return route
		}
	}
	return ""
}

// withPlainPath takes doubled slashes and a final one out of a path, which base
// URLs that end with a slash leave in it. It comes before whatever decides by
// the path, so that all do by the same.
func (s *Server) withPlainPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		for strings.Contains(path, "//") {
			path = strings.ReplaceAll(path, "//", "/")
		}
		if short := strings.TrimSuffix(path, "/"); s.routes.methods[path] == nil && s.routes.methods[short] != nil {
			path = short
		}
		if path != r.URL.Path {
			u := *r.URL
			u.Path, u.RawPath = path, ""
			plain := *r
			plain.URL = &u
			r = &plain
		}
		next.ServeHTTP(w, r)
	})
}

func (rs *routes) serve(w http.ResponseWriter, r *http.Request) {
	route := rs.route(r.URL.Path)
	if route == "" {
		fail(w, r, failf(http.StatusNotFound, kindNotFound, "there is no such path; /docs lists those that there are"))
		return
	}
	methods := rs.methods[route]
	if !slices.Contains(methods, r.Method) && (r.Method != http.MethodHead || !slices.Contains(methods, http.MethodGet)) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		fail(w, r, failf(http.StatusMethodNotAllowed, kindValidation, "%s takes %s", route, strings.Join(methods, " and ")))
		return
	}
	rs.mux.ServeHTTP(w, r)
}

var jsonFormat = huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}

// makeRoutes registers everything that is answered.
func (s *Server) makeRoutes() error {
	s.routes = routes{mux: http.NewServeMux(), methods: make(map[string][]string)}
	api := humago.New(registrar{s}, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "mlxrank", Version: s.Version,
				Description: "Reranks passages with a cross-encoder, in the formats of text-embeddings-inference, Jina, Cohere and vLLM.",
			},
		},
		// "json" is what is left of application/problem+json, which huma has for errors.
		Formats:       map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{transform},
	})
	if s.Key != "" {
		api.OpenAPI().Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer"}}
	}
	s.registerTEI(api)
	s.registerJina(api)
	s.registerCohere(api)
	s.registerVLLM(api)
	s.registerState(api)
	s.describe(api)
	var err error
	if s.openAPI, err = json.Marshal(api.OpenAPI()); err != nil {
		return err
	}
	s.routes.handle(http.MethodGet, "/openapi.json", http.HandlerFunc(s.serveOpenAPI))
	s.routes.handle(http.MethodGet, "/metrics", s.metricsHandler())
	docs := v5emb.NewHandlerWithConfig(swgui.Config{Title: "mlxrank", SwaggerJSON: "/openapi.json", BasePath: "/docs/"})
	s.routes.handle(http.MethodGet, "/docs", ownPage(docs))
	s.routes.handle(http.MethodGet, "/docs/", ownPage(docs))
	if s.Dashboard != nil {
		s.routes.handle(http.MethodGet, "/dashboard", s.Dashboard)
		s.routes.handle(http.MethodGet, "/dashboard/", s.Dashboard)
	}
	return nil
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(s.openAPI); err != nil {
		return // the client is gone
	}
}

// ownPage keeps a page from loading, and from calling, anything of another
// host.
func ownPage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy",
			"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// A registrar has huma's routes among the server's.
type registrar struct{ *Server }

func (g registrar) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	method, path, _ := strings.Cut(pattern, " ")
	var h http.Handler = http.HandlerFunc(handler)
	switch {
	case path == "/v1/rerank":
		g.jina = h
		h = g.admitted(func([]byte) http.Handler { return g.jina })
	case slices.Contains(rerankPaths, path) && method == http.MethodPost:
		tei := h
		h = g.admitted(func(body []byte) http.Handler {
			if isJinas(body) {
				return g.jina
			}
			return tei
		})
	case method == http.MethodPost:
		next := h
		h = g.admitted(func([]byte) http.Handler { return next })
	case path == "/":
		h = g.pageForBrowsers(h)
	}
	g.routes.handle(method, path, h)
}

// pageForBrowsers sends a browser to the page there is; probers get the health.
func (s *Server) pageForBrowsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			next.ServeHTTP(w, r)
			return
		}
		page := "/docs"
		if s.Dashboard != nil {
			page = "/dashboard"
		}
		http.Redirect(w, r, page, http.StatusFound)
	})
}

func (g registrar) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.routes.mux.ServeHTTP(w, r) }

// admitted reads a scoring call's body, has the handler for it chosen, and
// bounds its time.
func (s *Server) admitted(choose func(body []byte) http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if f := s.arrive(); f != nil {
			w.Header().Set("Connection", "close")
			fail(w, r, f)
			return
		}
		defer s.depart()
		if !isJSON(r) {
			fail(w, r, failf(http.StatusUnsupportedMediaType, kindValidation, "the content type must be application/json"))
			return
		}
		body, f := s.readJSON(w, r)
		callOf(r.Context()).bytesIn = len(body)
		s.received.Add(int64(len(body)))
		if f == nil {
			f = s.Limits.checkBody(body)
		}
		if f != nil {
			s.bodies.give(int64(len(body)))
			w.Header().Set("Connection", "close") // what is left of the body is not waited for
			fail(w, r, f)
			return
		}
		// A slow sender takes no place among those at work.
		if f := s.enter(); f != nil {
			s.bodies.give(int64(len(body)))
			fail(w, r, f)
			return
		}
		// Nor does a client that is slow to take its answer.
		s.send(w, r, s.execute(choose(body), r, body))
	}
}

// execute runs a call that has entered, and gives back what it holds.
func (s *Server) execute(next http.Handler, r *http.Request, body []byte) *heldAnswer {
	defer s.leave()
	defer s.bodies.give(int64(len(body)))
	ctx, cancel := context.WithDeadlineCause(r.Context(), callOf(r.Context()).start.Add(s.Limits.RequestTimeout), errTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(body))
	held := &heldAnswer{header: make(http.Header), status: http.StatusOK}
	next.ServeHTTP(held, r)
	return held
}

// A heldAnswer is written when the call is over.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header                  { return h.header }
func (h *heldAnswer) WriteHeader(status int)               { h.status = status }
func (h *heldAnswer) Write(data []byte) (n int, err error) { return h.body.Write(data) }

// shortAnswer is the size, in bytes, up to which an answer is always sent.
const shortAnswer = 64 << 10

// send writes an answer. Long ones share a budget, since clients that take none
// would fill the memory with them.
func (s *Server) send(w http.ResponseWriter, r *http.Request, held *heldAnswer) {
	if n := int64(held.body.Len()); n > shortAnswer {
		if !s.answers.take(n) {
			fail(w, r, failOverloaded("answers that their clients have not read yet hold %d bytes (limit %d); try again later", s.answers.taken.Load(), s.answers.limit))
			return
		}
		defer s.answers.give(n)
	}
	maps.Copy(w.Header(), held.header)
	w.Header().Set("Content-Length", strconv.Itoa(held.body.Len()))
	w.WriteHeader(held.status)
	if _, err := w.Write(held.body.Bytes()); err != nil {
		return // the client is gone
	}
}

// operation describes a scoring route to huma, with the errors it can answer.
func (s *Server) operation(api huma.API, path, id, summary string, shape any) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Tags: []string{"scoring"},
		// The body has been read within the limits.
		MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	s.describeErrors(api, &op, shape, []int{
		http.StatusBadRequest, http.StatusForbidden, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests, statusClientClosed,
		http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	})
	if s.Key != "" {
		op.Security = []map[string][]string{{"key": {}}}
		s.describeErrors(api, &op, shape, []int{http.StatusUnauthorized})
	}
	return op
}

func (s *Server) describeErrors(api huma.API, op *huma.Operation, shape any, statuses []int) {
	if op.Responses == nil {
		op.Responses = make(map[string]*huma.Response)
	}
	schema := api.OpenAPI().Components.Schemas.Schema(typeOf(shape), true, "")
	for _, status := range statuses {
		text := http.StatusText(status)
		if status == statusClientClosed {
			text = "Client Closed Request"
		}
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: text,
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	}
}
