package server

import (
	"context"
	"math"
	"net/http"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

func typeOf(v any) reflect.Type { return reflect.TypeOf(v) }

// Stages are the headers that say where a call's time went: those of
// text-embeddings-inference in milliseconds, and the same in microseconds.
type Stages struct {
	ComputeType       string `header:"X-Compute-Type" doc:"The device that scored: cpu or gpu"`
	ComputeTime       int64  `header:"X-Compute-Time" doc:"Milliseconds from the accepted request to its scores"`
	ComputeCharacters int    `header:"X-Compute-Characters" doc:"Characters of the query and the documents"`
	ComputeTokens     int    `header:"X-Compute-Tokens" doc:"Tokens of all pairs, without padding"`
	TotalTime         int64  `header:"X-Total-Time" doc:"Milliseconds"`
	TokenizationTime  int64  `header:"X-Tokenization-Time" doc:"Milliseconds"`
	QueueTime         int64  `header:"X-Queue-Time" doc:"Milliseconds"`
	InferenceTime     int64  `header:"X-Inference-Time" doc:"Milliseconds"`

	TotalMicroseconds        int64 `header:"X-Total-Time-Us" doc:"Microseconds"`
	TokenizationMicroseconds int64 `header:"X-Tokenization-Time-Us" doc:"Microseconds"`
	QueueMicroseconds        int64 `header:"X-Queue-Time-Us" doc:"Microseconds"`
	InferenceMicroseconds    int64 `header:"X-Inference-Time-Us" doc:"Microseconds"`
}

// exposedHeaders are those that scripts of allowed origins may read.
func exposedHeaders() []string {
	names := []string{"Retry-After"}
	for t, i := reflect.TypeFor[Stages](), 0; i < t.NumField(); i++ {
		names = append(names, t.Field(i).Tag.Get("header"))
	}
	return names
}

func (s *Server) stages(c *call, characters int, r *engine.Result) Stages {
	total, t := time.Since(c.start), r.Timings
	return Stages{
		ComputeType: s.Engine.Info().Device, ComputeTime: total.Milliseconds(),
		ComputeCharacters: characters, ComputeTokens: r.Tokens,
		TotalTime: total.Milliseconds(), TokenizationTime: t.Tokenization.Milliseconds(),
		QueueTime: t.QueueWait.Milliseconds(), InferenceTime: t.Inference.Milliseconds(),
		TotalMicroseconds: total.Microseconds(), TokenizationMicroseconds: t.Tokenization.Microseconds(),
		QueueMicroseconds: t.QueueWait.Microseconds(), InferenceMicroseconds: t.Inference.Microseconds(),
	}
}

// rank ranks documents, best first, those of equal logits in the order given.
func (s *Server) rank(ctx context.Context, query string, documents []string, opts engine.RerankOptions) ([]engine.Ranked, Stages, error) {
	c := callOf(ctx)
	c.documents, c.empty = len(documents), countEmpty(documents)
	characters := countCharacters(documents) + utf8.RuneCountInString(query)
	if f := s.Limits.check(len(documents), characters); f != nil {
		return nil, Stages{}, f
	}
	ranking, err := s.Engine.Rerank(ctx, query, documents, opts)
	if err != nil {
		return nil, Stages{}, s.failureOf(ctx, err)
	}
	c.result = &ranking.Result
	for _, item := range ranking.Items {
		if err := finite(item.Index, item.Logit); err != nil {
			return nil, Stages{}, err
		}
	}
	return ranking.Items, s.stages(c, characters, &ranking.Result), nil
}

// scorePairs scores pairs in the order given.
func (s *Server) scorePairs(ctx context.Context, pairs []engine.Pair, long *longDocuments, opts engine.ScoreOptions) (*engine.Result, Stages, error) {
	c := callOf(ctx)
	c.documents = len(pairs)
	documents, characters := make([]string, len(pairs)), 0
	for i, p := range pairs {
		documents[i] = p.Document
		characters += utf8.RuneCountInString(p.Query) + utf8.RuneCountInString(p.Document)
	}
	c.empty = countEmpty(documents)
	if f := s.Limits.check(len(pairs), characters); f != nil {
		return nil, Stages{}, f
	}
	score := s.Engine.ScoreWith
	if long.choice() == engine.Window {
		score = s.Engine.ScoreWindows
	}
	result, err := score(ctx, pairs, opts)
	if err != nil {
		return nil, Stages{}, s.failureOf(ctx, err)
	}
	c.result = result
	for i, logit := range result.Logits {
		if err := finite(i, logit); err != nil {
			return nil, Stages{}, err
		}
	}
	return result, s.stages(c, characters, result), nil
}

// longDocuments is what a call asks for documents that do not fit.
type longDocuments string

// Schema lists the choices; null is the default.
func (longDocuments) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: []any{string(engine.Truncate), string(engine.Window), nil}}
	s.PrecomputeMessages()
	return s
}

func (l *longDocuments) choice() engine.Long { return engine.Long(deref(l, "")) }

// finite is the last place where a score that is no number stops.
func finite(document int, logit float32) error {
	if f := float64(logit); math.IsNaN(f) || math.IsInf(f, 0) {
		return failf(http.StatusInternalServerError, kindBackend, "document %d has no finite score", document)
	}
	return nil
}

func countEmpty(documents []string) int {
	n := 0
	for _, d := range documents {
		if engine.IsEmpty(d) {
			n++
		}
	}
	return n
}

func countCharacters(texts []string) int {
	n := 0
	for _, text := range texts {
		n += utf8.RuneCountInString(text)
	}
	return n
}

// byLabel chooses what the logits of several labels are, so that scoreOf makes
// of them what clients expect: log-odds, whose sigmoid is the softmax over the
// labels, or the classifier's logits for a call that asks for these.
func (s *Server) byLabel(opts engine.ScoreOptions, raw *bool) engine.ScoreOptions {
	if len(s.Engine.Info().Labels) < 2 {
		return opts
	}
	opts.Activation = "softmax"
	if deref(raw, false) {
		opts.Activation = "raw"
	}
	return opts
}

// scoreOf is a logit as every API's clients expect it: 0 to 1, whatever the
// engine's activation is, unless the call asks for logits. It is computed in
// float64, in which scores keep the order of the logits up to 36; in float32 they
// are all 1 from 17 on.
func scoreOf(logit float32, raw *bool) float64 {
	if deref(raw, false) {
		return float64(logit)
	}
	return 1 / (1 + math.Exp(-float64(logit)))
}

// A count is an integer of 0 or more, a positive one of 1 or more. JSON has 5.0
// for 5, which int does not read.
type (
	count    int
	positive int
)

// Schema is of a count that may be null.
func (count) Schema(huma.Registry) *huma.Schema { return integerSchema(0) }

// Schema is of a positive integer that may be null.
func (positive) Schema(huma.Registry) *huma.Schema { return integerSchema(1) }

func integerSchema(least float64) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Nullable: true}
	s.PrecomputeMessages()
	return s
}

// UnmarshalJSON reads a number that the schema has let through.
func (c *count) UnmarshalJSON(data []byte) (err error) {
	*c, err = parseInteger[count](data)
	return err
}

// UnmarshalJSON reads a number that the schema has let through.
func (p *positive) UnmarshalJSON(data []byte) (err error) {
	*p, err = parseInteger[positive](data)
	return err
}

func parseInteger[T ~int](data []byte) (T, error) {
	var f float64
	err := unmarshal(data, &f)
	return T(min(f, math.MaxInt32)), err
}

func deref[T any](p *T, other T) T {
	if p == nil {
		return other
	}
	return *p
}
