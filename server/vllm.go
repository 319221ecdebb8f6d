package server

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/mlxrank/mlxrank/engine"
)

// vLLM's score API, and OpenAI's list of models.

type vllmScore struct {
	_ struct{} `additionalProperties:"true"`
	ModelOption
	Text1     *textOrSet `json:"text_1,omitempty" doc:"The query, or one for each of text_2"`
	Text2     *textOrSet `json:"text_2,omitempty" doc:"The texts to score"`
	Queries   *textOrSet `json:"queries,omitempty" doc:"Another name of text_1"`
	Documents *textOrSet `json:"documents,omitempty" doc:"Another name of text_2"`
	Items     *textOrSet `json:"items,omitempty" doc:"Another name of text_2"`
	Data1     *textOrSet `json:"data_1,omitempty" doc:"Another name of text_1"`
	Data2     *textOrSet `json:"data_2,omitempty" doc:"Another name of text_2"`
	LongOptions
	DeadlineOptions
	LogitOptions
	CutOptions
}

// CutOptions are vLLM's for cutting texts, on its paths. It is exported as LongOptions is.
type CutOptions struct {
	MaxTokensPerDoc *integer `json:"max_tokens_per_doc,omitempty" nullable:"true" minimum:"0" doc:"Tokens to which each document is cut before the pair is; 0, the default, cuts only the pair"`
	TruncationSide  *teiSide `json:"truncation_side,omitempty" nullable:"true" doc:"Side on which texts are cut; the default is the model's own, usually right"`
}

func (c *CutOptions) options() (engine.ScoreOptions, *failure) {
	opts := teiOptions(nil, c.TruncationSide)
	opts.DocumentTokens = int(deref(c.MaxTokensPerDoc, 0))
	if opts.DocumentTokens > 0 && opts.Truncation == engine.TruncateLeft {
		return opts, failf(http.StatusUnprocessableEntity, kindValidation, "max_tokens_per_doc %d and truncation_side left exclude each other; send one of them", opts.DocumentTokens)
	}
	return opts, nil
}

// A textOrSet is a text, or a list of texts.
type textOrSet []string

// Schema describes a text, a list of texts, or null.
func (textOrSet) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}}, {Enum: []any{nil}}}}
}

// UnmarshalJSON reads a text or a list.
func (t *textOrSet) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return unmarshal(data, (*[]string)(t))
	}
	*t = make([]string, 1)
	return unmarshal(data, &(*t)[0])
}

// pairs combines queries and documents: 1 with 1, 1 with N or N with N.
func (b *vllmScore) pairs() ([]engine.Pair, *failure) {
	first, second := cmp.Or(b.Text1, b.Queries, b.Data1), cmp.Or(b.Text2, b.Documents, b.Items, b.Data2)
	if first == nil || second == nil {
		return nil, failf(http.StatusUnprocessableEntity, kindValidation, "expected text_1 and text_2, or queries and documents")
	}
	queries, documents := *first, *second
	if len(queries) != 1 && len(queries) != len(documents) || len(documents) == 0 {
		return nil, failf(http.StatusUnprocessableEntity, kindValidation, "%d queries and %d documents do not form pairs; expected 1 and 1, 1 and N, or N and N", len(queries), len(documents))
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
	ID      string       `json:"id"`
	Object  string       `json:"object" enum:"list"`
	Created int64        `json:"created" doc:"Unix time in seconds"`
	Model   string       `json:"model"`
	Data    []vllmScored `json:"data" nullable:"false"`
	Usage   jinaUsage    `json:"usage"`
}

type openAIModel struct {
	ID      string `json:"id"`
	Object  string `json:"object" enum:"model"`
	Created int64  `json:"created" doc:"Unix time of the server's start in seconds"`
	OwnedBy string `json:"owned_by"`

	// Fields of vLLM.
	Root        string `json:"root" doc:"The model that an alias names, or the model itself"`
	MaxModelLen int    `json:"max_model_len,omitempty" doc:"Tokens of a pair; absent until the model is first loaded"`
}

type openAIModels struct {
	Object string        `json:"object" enum:"list"`
	Data   []openAIModel `json:"data" nullable:"false"`
}

func (s *Server) vllmScore(ctx context.Context, b *vllmScore) (*vllmScores, outcome) {
	pairs, f := b.pairs()
	if f != nil {
		return nil, outcome{failure: f}
	}
	opts, f := b.options()
	if f != nil {
		return nil, outcome{failure: f}
	}
	result, o := s.scorePairs(ctx, b.ModelOption, pairs, b.choice(), opts, b.raw())
	if o.failure != nil {
		return nil, o
	}
	out := &vllmScores{ID: uuid.NewString(), Object: "list", Created: time.Now().Unix(), Model: o.model.name, Usage: o.usage()}
	for i, logit := range result.Logits {
		out.Data = append(out.Data, vllmScored{Index: i, Object: "score", Score: o.model.toScore(logit, b.raw()), Empty: engine.IsEmpty(pairs[i].Document)})
	}
	return out, o
}

// getModels lists every model and alias as a model of its own, as vLLM does with the names
// that it serves.
func (s *Server) getModels(context.Context) (any, *failure) {
	answer := openAIModels{Object: "list"}
	for _, served := range s.Models.List() {
		for _, id := range append([]string{served.ID}, served.Aliases...) {
			answer.Data = append(answer.Data, openAIModel{
				ID: id, Object: "model", Created: s.started.Unix(), OwnedBy: "mlxrank", Root: served.ID, MaxModelLen: served.MaxInputLength,
			})
		}
	}
	return answer, nil
}
