package diagnosis

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/lab"
)

func open(t testing.TB, cfg engine.Config) *engine.Engine {
	t.Helper()
	cfg.Device = "cpu"
	e, err := engine.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// A fakeServer is a server with a fault. Its parts are made without the code that
// finds faults: they change texts, ids and scores.
type fakeServer struct {
	logits func(query string, documents []string) ([]float64, error)
	scores func(logits []float64) []float64                 // nil for the sigmoid
	attach func(documents []string, scores []float64) []hit // nil for sorted results
	format string                                           // "" for tei
}

// A hit is a result of the fake server.
type hit struct {
	index int
	score float64
}

func sortedHits(_ []string, scores []float64) []hit {
	hits := make([]hit, len(scores))
	for i, x := range scores {
		hits[i] = hit{i, x}
	}
	slices.SortStableFunc(hits, func(a, b hit) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return 0
	})
	return hits
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Query     *string
		Texts     []string
		Documents []string
		Text1     *string  `json:"text_1"`
		Text2     []string `json:"text_2"`
		TopK      *int     `json:"top_k"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	query, documents, path := body.Query, body.Documents, "/v1/rerank"
	switch f.format {
	case "", "tei":
		documents, path = body.Texts, "/rerank"
	case "cohere":
		path = "/v2/rerank"
	case "vllm":
		query, documents, path = body.Text1, body.Text2, "/score"
	case "voyage":
		if body.TopK == nil {
			query = nil
		}
	}
	if r.URL.Path != path {
		http.NotFound(w, r)
		return
	}
	if query == nil || len(documents) == 0 {
		http.Error(w, `{"error":"query or documents are missing"}`, http.StatusUnprocessableEntity)
		return
	}
	logits, err := f.logits(*query, documents)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		reply(w, map[string]string{"error": err.Error()})
		return
	}
	scores := f.score(logits)
	attach := f.attach
	if attach == nil {
		attach = sortedHits
	}
	f.write(w, attach(documents, scores))
}

func (f *fakeServer) score(logits []float64) []float64 {
	if f.scores != nil {
		return f.scores(logits)
	}
	out := make([]float64, len(logits))
	for i, x := range logits {
		out[i] = 1 / (1 + math.Exp(-x))
	}
	return out
}

func (f *fakeServer) write(w http.ResponseWriter, hits []hit) {
	name := "relevance_score"
	if f.format == "" || f.format == "tei" || f.format == "vllm" {
		name = "score"
	}
	results := []map[string]any{}
	for _, h := range hits {
		results = append(results, map[string]any{"index": h.index, name: float32(h.score)})
	}
	switch f.format {
	case "jina", "cohere":
		reply(w, map[string]any{"results": results})
	case "vllm", "voyage":
		reply(w, map[string]any{"object": "list", "data": results})
	default:
		reply(w, results)
	}
}

func reply(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// compare runs the comparison with a server. Comparisons share what l has computed.
func compare(t *testing.T, l *local, h http.Handler, api string) *Report {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	r, err := l.compare(t.Context(), Server{URL: s.URL, API: api, Fallback: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// names lists the faults of a report.
func names(r *Report) []string {
	list := []string{}
	for _, f := range r.Faults {
		list = append(list, f.Name)
	}
	return list
}

// A source makes the logits of a server's documents.
type source func(query string, documents []string) ([]float64, error)

// kept remembers the logits of a source.
func kept(s source) source {
	type request struct{ query, documents string }
	known := map[request][]float64{}
	return func(query string, documents []string) ([]float64, error) {
		key := request{query, strings.Join(documents, "\x00")}
		if logits, ok := known[key]; ok {
			return logits, nil
		}
		logits, err := s(query, documents)
		if err == nil {
			known[key] = logits
		}
		return logits, err
	}
}

func pairsOf(query string, documents []string) []engine.Pair {
	pairs := make([]engine.Pair, len(documents))
	for i, d := range documents {
		pairs[i] = engine.Pair{Query: query, Document: d}
	}
	return pairs
}

func float64s(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, x := range values {
		out[i] = float64(x)
	}
	return out
}

// asIs scores the texts with an engine.
func asIs(e *engine.Engine, opts engine.ScoreOptions) source {
	return withTexts(e, opts, func(q, d string) (string, string) { return q, d })
}

// withTexts scores changed texts.
func withTexts(e *engine.Engine, opts engine.ScoreOptions, change func(query, document string) (string, string)) source {
	return func(query string, documents []string) ([]float64, error) {
		pairs := pairsOf(query, documents)
		for i := range pairs {
			pairs[i].Query, pairs[i].Document = change(pairs[i].Query, pairs[i].Document)
		}
		result, err := e.ScoreWith(context.Background(), pairs, opts)
		if err != nil {
			return nil, err
		}
		return float64s(result.Logits), nil
	}
}

// withIDs scores changed ids.
func withIDs(e *engine.Engine, change func(engine.Tokens) engine.Tokens) source {
	return func(query string, documents []string) ([]float64, error) {
		tokens, err := e.Tokenize(context.Background(), pairsOf(query, documents))
		if err != nil {
			return nil, err
		}
		for i := range tokens {
			tokens[i] = change(tokens[i])
		}
		result, err := e.ScoreRaw(context.Background(), lab.Key{}, tokens)
		if err != nil {
			return nil, err
		}
		return float64s(result.Logits), nil
	}
}

// withParts scores pairs that are joined from the ids of both texts. No error of join
// is a fault of the server.
func withParts(e *engine.Engine, join func(query, document []int32) ([]int32, []int32, error)) source {
	return func(query string, documents []string) ([]float64, error) {
		parts, err := e.TextTokens(lab.Key{}, append([]string{query}, documents...), lab.Spelling{})
		if err != nil {
			return nil, err
		}
		tokens := make([]engine.Tokens, len(documents))
		for i := range tokens {
			if tokens[i].IDs, tokens[i].TypeIDs, err = join(parts[0], parts[i+1]); err != nil {
				return nil, err
			}
		}
		result, err := e.ScoreRaw(context.Background(), lab.Key{}, tokens)
		if err != nil {
			return nil, err
		}
		return float64s(result.Logits), nil
	}
}

var errTooLong = errors.New("the query is too long")
