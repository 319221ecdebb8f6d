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
	c.documents = len(documents)
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

// finite is the last place where a score that is no number stops.
func finite(document int, logit float32) error {
	if f := float64(logit); math.IsNaN(f) || math.IsInf(f, 0) {
		return failf(http.StatusInternalServerError, kindBackend, "document %d has no finite score", document)
	}
	return nil
}

func countCharacters(texts []string) int {
	n := 0
	for _, text := range texts {
		n += utf8.RuneCountInString(text)
	}
	return n
}

// score is a logit as every API's clients expect it: 0 to 1, whatever the
// engine's activation is.
func score(logit float32) float32 { return engine.Sigmoid(logit) }

// A count is a positive integer. JSON has 5.0 for 5, which int does not read.
type count int

// Schema is of a count that may be null.
func (count) Schema(huma.Registry) *huma.Schema {
	least := 1.0
	s := &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Nullable: true}
	s.PrecomputeMessages()
	return s
}

// UnmarshalJSON reads a number that the schema has let through.
func (c *count) UnmarshalJSON(data []byte) error {
	var f float64
	err := unmarshal(data, &f)
	*c = count(min(f, math.MaxInt32))
	return err
}

func deref[T any](p *T, other T) T {
	if p == nil {
		return other
	}
	return *p
}
