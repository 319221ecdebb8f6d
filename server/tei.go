package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// What text-embeddings-inference takes and gives. It passes over fields that it
// does not know, and so do we.

type teiRerank struct {
	_                   struct{} `additionalProperties:"true"`
	Query               string   `json:"query" doc:"What the texts are ranked for"`
	Texts               teiTexts `json:"texts" nullable:"false" doc:"The texts to rank"`
	Truncate            *bool    `json:"truncate,omitempty" nullable:"true" doc:"Cut pairs that are too long for the model, rather than refuse the request; true by default"`
	TruncationDirection *teiSide `json:"truncation_direction,omitempty" nullable:"true" doc:"Which ends are cut; right by default"`
	RawScores           *bool    `json:"raw_scores,omitempty" nullable:"true" doc:"Answer logits, not scores of 0 to 1"`
	ReturnText          *bool    `json:"return_text,omitempty" nullable:"true" doc:"Answer the texts too"`
}

type teiTexts []string

// atLeastOne is documented by the schema and left to the handler, which answers
// an empty list as text-embeddings-inference does: 400 and not 422.
var atLeastOne = map[string]any{"minItems": 1}

// TransformSchema documents that there is at least one.
func (teiTexts) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions, s.Nullable = atLeastOne, false
	return s
}

// teiSide is what is cut of a pair that is too long.
type teiSide string

// Schema lists them; null is the default.
func (teiSide) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: []any{"left", "Left", "right", "Right", nil}}
	s.PrecomputeMessages()
	return s
}

type teiRank struct {
	Index int     `json:"index" minimum:"0"`
	Score float32 `json:"score"`
	Text  *string `json:"text,omitempty"`
}

type teiRanks struct {
	Stages
	Body []teiRank `nullable:"false"`
}

type teiPredict struct {
	_                   struct{}  `additionalProperties:"true"`
	Inputs              teiInputs `json:"inputs"`
	Truncate            *bool     `json:"truncate,omitempty" nullable:"true" doc:"Cut pairs that are too long for the model, rather than refuse the request; true by default"`
	TruncationDirection *teiSide  `json:"truncation_direction,omitempty" nullable:"true" doc:"Which ends are cut; right by default"`
	RawScores           *bool     `json:"raw_scores,omitempty" nullable:"true" doc:"Answer logits, not scores of 0 to 1"`
}

// teiInputs is one pair or several, as JSON tells them apart.
type teiInputs struct {
	pairs []engine.Pair
	one   bool
}

// Schema is the pair, or the list of them.
func (teiInputs) Schema(huma.Registry) *huma.Schema {
	two := 2
	pair := func() *huma.Schema {
		s := &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}, MinItems: &two, MaxItems: &two}
		s.PrecomputeMessages()
		return s
	}
	return &huma.Schema{
		Description: "A pair of texts, or a list of pairs",
		OneOf:       []*huma.Schema{pair(), {Type: huma.TypeArray, Items: pair(), Extensions: atLeastOne}},
	}
}

// UnmarshalJSON reads either form.
func (in *teiInputs) UnmarshalJSON(data []byte) error {
	var one []string
	if err := unmarshal(data, &one); err == nil && len(one) == 2 {
		in.pairs, in.one = []engine.Pair{{Query: one[0], Document: one[1]}}, true
		return nil
	}
	var list [][]string
	if err := unmarshal(data, &list); err != nil {
		return err
	}
	for i, pair := range list {
		if len(pair) != 2 {
			return fmt.Errorf("input %d has %d texts, expected two", i, len(pair))
		}
		in.pairs = append(in.pairs, engine.Pair{Query: pair[0], Document: pair[1]})
	}
	return nil
}

type teiPrediction struct {
	Score float32 `json:"score"`
	Label string  `json:"label"`
}

// teiPredictions are a list for one pair, else a list of lists.
type teiPredictions struct {
	Stages
	Body teiPredicted
}

type teiPredicted struct {
	list [][]teiPrediction
	one  bool
}

// Schema is the answer for a pair, or for a list of them.
func (teiPredicted) Schema(r huma.Registry) *huma.Schema {
	one := func() *huma.Schema {
		return &huma.Schema{Type: huma.TypeArray, Items: r.Schema(typeOf(teiPrediction{}), true, "")}
	}
	return &huma.Schema{OneOf: []*huma.Schema{one(), {Type: huma.TypeArray, Items: one()}}}
}

// MarshalJSON writes the form that the inputs had.
func (p teiPredicted) MarshalJSON() ([]byte, error) {
	if p.one {
		return json.Marshal(p.list[0])
	}
	return json.Marshal(p.list)
}

func (s *Server) registerTEI(api huma.API) {
	huma.Register(api, s.operation(api, "/rerank", "rerank", "Rank texts, as text-embeddings-inference does", teiError{}), s.teiRerank)
	huma.Register(api, s.operation(api, "/predict", "predict", "Score pairs, as text-embeddings-inference does", teiError{}), s.teiPredict)
}

func (s *Server) teiRerank(ctx context.Context, in *struct{ Body teiRerank }) (*teiRanks, error) {
	b := &in.Body
	if len(b.Texts) == 0 {
		return nil, failf(http.StatusBadRequest, kindEmpty, "texts is empty")
	}
	items, stages, err := s.rank(ctx, b.Query, b.Texts, engine.RerankOptions{ScoreOptions: teiOptions(b.Truncate, b.TruncationDirection)})
	if err != nil {
		return nil, err
	}
	out := &teiRanks{Stages: stages, Body: make([]teiRank, len(items))}
	for i, item := range items {
		out.Body[i] = teiRank{Index: item.Index, Score: teiScore(item.Logit, b.RawScores)}
		if deref(b.ReturnText, false) {
			out.Body[i].Text = &b.Texts[item.Index]
		}
	}
	return out, nil
}

func (s *Server) teiPredict(ctx context.Context, in *struct{ Body teiPredict }) (*teiPredictions, error) {
	b, pairs := &in.Body, in.Body.Inputs.pairs
	if len(pairs) == 0 {
		return nil, failf(http.StatusBadRequest, kindEmpty, "inputs is empty")
	}
	c := callOf(ctx)
	c.documents = len(pairs)
	texts := make([]string, 0, 2*len(pairs))
	for _, p := range pairs {
		texts = append(texts, p.Query, p.Document)
	}
	characters := countCharacters(texts)
	if f := s.Limits.check(len(pairs), characters); f != nil {
		return nil, f
	}
	result, err := s.Engine.ScoreWith(ctx, pairs, teiOptions(b.Truncate, b.TruncationDirection))
	if err != nil {
		return nil, s.failureOf(ctx, err)
	}
	c.result = result
	label := orElse(s.Engine.Info().Label, "LABEL_0")
	out := &teiPredictions{Stages: s.stages(c, characters, result)}
	out.Body.one = b.Inputs.one
	for i, logit := range result.Logits {
		if err := finite(i, logit); err != nil {
			return nil, err
		}
		out.Body.list = append(out.Body.list, []teiPrediction{{teiScore(logit, b.RawScores), label}})
	}
	return out, nil
}

func teiOptions(truncate *bool, side *teiSide) engine.ScoreOptions {
	switch {
	case !deref(truncate, true):
		return engine.ScoreOptions{Truncation: engine.TruncateNot}
	case strings.EqualFold(string(deref(side, "right")), "left"):
		return engine.ScoreOptions{Truncation: engine.TruncateLeft}
	}
	return engine.ScoreOptions{}
}

func teiScore(logit float32, raw *bool) float32 {
	if deref(raw, false) {
		return logit
	}
	return score(logit)
}
