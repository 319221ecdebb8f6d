package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/mlxrank/mlxrank/engine"
)

// What vLLM's score API takes and gives, and OpenAI's list of models.

type vllmScore struct {
	_             struct{}       `additionalProperties:"true"`
	Model         *string        `json:"model,omitempty" nullable:"true" doc:"Any name: the server has one model"`
	Text1         *textOrSet     `json:"text_1,omitempty" doc:"The query, or one for each of text_2"`
	Text2         *textOrSet     `json:"text_2,omitempty" doc:"The texts to score"`
	Queries       *textOrSet     `json:"queries,omitempty" doc:"Another name of text_1"`
	Documents     *textOrSet     `json:"documents,omitempty" doc:"Another name of text_2"`
	Long          *longDocuments `json:"long,omitempty" nullable:"true" doc:"What to do with documents that do not fit: truncate, the default, or window: score overlapping parts, of which the best counts; an extension of mlxrank"`
	UseActivation *bool          `json:"use_activation,omitempty" nullable:"true" doc:"Answer scores of 0 to 1, not logits; true by default"`
}

// A textOrSet is a text, or a list of texts.
type textOrSet []string

// Schema is either, or null for one that is left out.
func (textOrSet) Schema(huma.Registry) *huma.Schema {
	null := &huma.Schema{Enum: []any{nil}}
	null.PrecomputeMessages()
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}}, null}}
}

// UnmarshalJSON reads either.
func (t *textOrSet) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return unmarshal(data, (*[]string)(t))
	}
	*t = make([]string, 1)
	return unmarshal(data, &(*t)[0])
}

// pairs puts the lists together: 1 with 1, 1 with N or N with N.
func (b *vllmScore) pairs() ([]engine.Pair, *failure) {
	first, second := orElse(b.Text1, b.Queries), orElse(b.Text2, b.Documents)
	if first == nil || second == nil {
		return nil, failf(http.StatusUnprocessableEntity, kindValidation, "expected text_1 and text_2, or queries and documents")
	}
	queries, documents := *first, *second
	if len(queries) != 1 && len(queries) != len(documents) || len(documents) == 0 {
		return nil, failf(http.StatusUnprocessableEntity, kindValidation, "%d and %d texts make no pairs; expected 1 and 1, 1 and N, or N and N", len(queries), len(documents))
	}
	pairs := make([]engine.Pair, len(documents))
	for i, d := range documents {
		pairs[i] = engine.Pair{Query: queries[min(i, len(queries)-1)], Document: d}
	}
	return pairs, nil
}

type vllmScored struct {
	Index  int     `json:"index" minimum:"0"`
	Object string  `json:"object" enum:"score"`
	Score  float64 `json:"score"`
	Empty  bool    `json:"empty,omitempty" doc:"The second text of the pair is empty"`
}

type vllmScores struct {
	Stages
	Body struct {
		ID      string       `json:"id"`
		Object  string       `json:"object" enum:"list"`
		Created int64        `json:"created" doc:"Unix time in seconds"`
		Model   string       `json:"model"`
		Data    []vllmScored `json:"data" nullable:"false"`
		Usage   jinaUsage    `json:"usage"`
	}
}

type openAIModel struct {
	ID      string `json:"id"`
	Object  string `json:"object" enum:"model"`
	Created int64  `json:"created" doc:"Unix time of the server's start in seconds"`
	OwnedBy string `json:"owned_by"`
}

type openAIModels struct {
	Body struct {
		Object string        `json:"object" enum:"list"`
		Data   []openAIModel `json:"data" nullable:"false"`
	}
}

var scorePaths = []string{"/score", "/v1/score"}

func (s *Server) registerVLLM(api huma.API) {
	for i, path := range scorePaths {
		huma.Register(api, s.operation(api, path, []string{"score", "score-v1"}[i], "Score pairs, as vLLM does", openAIError{}), s.vllmScore)
	}
}

func (s *Server) vllmScore(ctx context.Context, in *struct{ Body vllmScore }) (*vllmScores, error) {
	pairs, f := in.Body.pairs()
	if f != nil {
		return nil, f
	}
	raw := !deref(in.Body.UseActivation, true)
	result, stages, err := s.scorePairs(ctx, pairs, in.Body.Long, s.byLabel(engine.ScoreOptions{}, &raw))
	if err != nil {
		return nil, err
	}
	out := &vllmScores{Stages: stages}
	out.Body.ID, out.Body.Object, out.Body.Created, out.Body.Model = uuid.NewString(), "list", time.Now().Unix(), s.Engine.Info().Model
	out.Body.Usage = jinaUsage{stages.ComputeTokens, stages.ComputeTokens}
	for i, logit := range result.Logits {
		out.Body.Data = append(out.Body.Data, vllmScored{Index: i, Object: "score", Score: scoreOf(logit, &raw), Empty: engine.IsEmpty(pairs[i].Document)})
	}
	return out, nil
}

func (s *Server) getModels(context.Context, *noBody) (*openAIModels, error) {
	out := &openAIModels{}
	out.Body.Object = "list"
	out.Body.Data = []openAIModel{{
		ID: s.Engine.Info().Model, Object: "model", Created: s.started.Unix(), OwnedBy: "mlxrank",
	}}
	return out, nil
}
