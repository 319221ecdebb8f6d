package server

import (
	"cmp"
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// A fakeEngine scores at once, by a function of the texts, or fails as a test wants.
// It counts the pairs that it executes.
type fakeEngine struct {
	before    func(ctx context.Context) error // runs first in every scoring
	logit     func(p engine.Pair) float32
	unhealthy atomic.Pointer[error]
	heals     bool         // a probe ends unhealthy
	executed  atomic.Int64 // pairs
	closed    atomic.Int64 // calls of Close
	options   atomic.Pointer[engine.ScoreOptions]
	left      atomic.Int64             // nanoseconds until the deadline of the last call
	late      func(p engine.Pair) bool // pairs without a score, if the call is partial
}

func (f *fakeEngine) ScoreWith(ctx context.Context, pairs []engine.Pair, opts engine.ScoreOptions) (*engine.Result, error) {
	f.options.Store(&opts)
	if deadline, ok := ctx.Deadline(); ok {
		f.left.Store(int64(time.Until(deadline)))
	}
	if f.before != nil {
		if err := f.before(ctx); err != nil {
			return nil, err
		}
	}
	f.executed.Add(int64(len(pairs)))
	r := &engine.Result{Distinct: len(pairs), Batches: 1}
	r.Timings = engine.Timings{Latency: 4 * time.Millisecond, Inference: 3 * time.Millisecond, Tokenization: 700 * time.Microsecond, QueueWait: 200 * time.Microsecond, Other: 100 * time.Microsecond}
	for i, p := range pairs {
		logit := fakeLogit(p)
		switch {
		case opts.Partial && f.late != nil && f.late(p):
			logit = float32(math.NaN())
			r.Unscored = append(r.Unscored, i)
		case f.logit != nil:
			logit = f.logit(p)
		}
		r.Logits = append(r.Logits, logit)
		r.Scores = append(r.Scores, logit) // as with activation raw, which clients do not expect
		r.Tokens += 3 + len(strings.Fields(p.Query)) + len(strings.Fields(p.Document))
	}
	r.ComputedTokens = r.Tokens
	return r, nil
}

// ScorePassages behaves as if every document fitted.
func (f *fakeEngine) ScorePassages(ctx context.Context, pairs []engine.Pair, opts engine.ScoreOptions) (*engine.Result, error) {
	return f.ScoreWith(ctx, pairs, opts)
}

func (f *fakeEngine) Rerank(ctx context.Context, query string, documents []string, opts engine.RerankOptions) (*engine.Ranking, error) {
	pairs := make([]engine.Pair, len(documents))
	for i, d := range documents {
		pairs[i] = engine.Pair{Query: query, Document: d}
	}
	r, err := f.ScoreWith(ctx, pairs, opts.ScoreOptions)
	if err != nil {
		return nil, err
	}
	ranking := &engine.Ranking{Result: *r, Pairs: len(pairs)}
	for i, logit := range r.Logits {
		ranking.Items = append(ranking.Items, engine.Ranked{Index: i, Logit: logit, Score: logit, Unscored: math.IsNaN(float64(logit)) && opts.Partial})
	}
	slices.SortStableFunc(ranking.Items, func(a, b engine.Ranked) int { return cmp.Compare(b.Logit, a.Logit) })
	if opts.TopN > 0 {
		ranking.Items = ranking.Items[:min(opts.TopN, len(ranking.Items))]
	}
	return ranking, nil
}

func (f *fakeEngine) Healthy(context.Context) error {
	if f.heals {
		f.unhealthy.Store(nil)
	}
	return f.health()
}

func (f *fakeEngine) health() error {
	if err := f.unhealthy.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *fakeEngine) Stats() engine.Stats {
	return engine.Stats{Unhealthy: f.health(), Pairs: f.executed.Load()}
}

func (f *fakeEngine) Info() engine.Info {
	return engine.Info{Model: "fake", Device: "cpu", DeviceName: "none", DType: "float32", MaxLength: 512, Activation: "raw", QueueTokens: 1 << 20}
}

func (f *fakeEngine) Memory() (engine.Memory, error) {
	return engine.Memory{Active: 1, Cache: 2, Peak: 3}, nil
}

func (f *fakeEngine) Trim() error { return nil }

func (f *fakeEngine) Close() error {
	f.closed.Add(1)
	return nil
}

// fakeLogit maps pairs to logits with many ties.
func fakeLogit(p engine.Pair) float32 {
	sum := 0
	for _, b := range []byte(p.Query + "|" + p.Document) {
		sum = (sum*31 + int(b)) % 97
	}
	return float32(sum-48) / 8
}

func newServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.Engine == nil && cfg.Models == nil {
		cfg.Engine = &fakeEngine{}
	}
	cfg.Version = "test"
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// post serves a body without a connection.
func post(s *Server, path, body string, headers ...string) *httptest.ResponseRecorder {
	return serve(s, request(path, body, headers...))
}

func do(s *Server, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := request(path, "", headers...)
	r.Method = method
	return serve(s, r)
}

var words = strings.Fields("city water data river london page music image editor mail reader photo resize the a of")

func randomText(r *rand.Rand, n int) string {
	picked := make([]string, 1+r.IntN(n))
	for i := range picked {
		picked[i] = words[r.IntN(len(words))]
	}
	return strings.Join(picked, " ")
}

func request(path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, io.NopCloser(strings.NewReader(body)))
	r.Host = "127.0.0.1:8437"
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	return r
}

func serve(s *Server, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}
