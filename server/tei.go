package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// The API of text-embeddings-inference (TEI). It ignores unknown fields, and so
// does the server.

type teiRerank struct {
	_                   struct{} `additionalProperties:"true"`
	Query               string   `json:"query" doc:"The query to rank the texts by"`
	Texts               teiTexts `json:"texts" nullable:"false" doc:"The texts to rank"`
	Truncate            *bool    `json:"truncate,omitempty" nullable:"true" doc:"Cut pairs that exceed the model's maximum length; false rejects the request instead; true by default"`
	TruncationDirection *teiSide `json:"truncation_direction,omitempty" nullable:"true" doc:"Side on which texts are cut; the default is the model's own, usually right"`
	ModelOption
	LongOptions
	DeadlineOptions
	LogitOptions
	ReturnText *bool `json:"return_text,omitempty" nullable:"true" doc:"Return the texts"`
}

type teiTexts []string

// atLeastOne documents a minimum that the schema does not check: the handler
// answers an empty list with 400, as TEI does, and validation would with 422.
var atLeastOne = map[string]any{"minItems": 1}

// TransformSchema documents the minimum.
func (teiTexts) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions, s.Nullable = atLeastOne, false
	return s
}

// teiSide is the side on which texts are cut.
type teiSide string

// Schema lists the sides; null is the default.
func (teiSide) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: []any{"left", "Left", "right", "Right", nil}}
}

// teiRank has no fields but TEI's unless the request asks for one: Elasticsearch refuses
// others.
type teiRank struct {
	Index    int      `json:"index" minimum:"0"`
	Score    *float64 `json:"score,omitempty" doc:"Absent if the result is unscored"`
	Text     *string  `json:"text,omitempty"`
	Unscored bool     `json:"unscored,omitempty" doc:"The deadline came first; only with on_deadline partial"`
}

type teiRanks []teiRank

// TransformSchema documents that the list is there.
func (teiRanks) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Nullable = false
	return s
}

type teiPredict struct {
	_                   struct{}  `additionalProperties:"true"`
	Inputs              teiInputs `json:"inputs"`
	Truncate            *bool     `json:"truncate,omitempty" nullable:"true" doc:"Cut pairs that exceed the model's maximum length; false rejects the request instead; true by default"`
	TruncationDirection *teiSide  `json:"truncation_direction,omitempty" nullable:"true" doc:"Side on which texts are cut; the default is the model's own, usually right"`
	ModelOption
	LongOptions
	DeadlineOptions
	LogitOptions
}

// teiInputs is one pair, or a list of pairs.
type teiInputs struct {
	pairs []engine.Pair
	one   bool
}

// Schema describes a pair, or a list of pairs.
func (teiInputs) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Description: "A pair of texts, or a list of pairs",
		OneOf:       []*huma.Schema{pairSchema(), {Type: huma.TypeArray, Items: pairSchema(), Extensions: atLeastOne}},
	}
}

func pairSchema() *huma.Schema {
	two := 2
	return &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}, MinItems: &two, MaxItems: &two}
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
	Score float64 `json:"score"`
	Label string  `json:"label"`
	Empty bool    `json:"empty,omitempty" doc:"The second text of the pair is empty"`
}

// teiPredictions is a list of labels for one pair, or a list of such lists.
type teiPredictions struct {
	list [][]teiPrediction
	one  bool
}

// Schema describes the answer for a pair, or for a list of pairs.
func (teiPredictions) Schema(r huma.Registry) *huma.Schema {
	one := func() *huma.Schema {
		return &huma.Schema{Type: huma.TypeArray, Items: r.Schema(reflect.TypeFor[teiPrediction](), true, "")}
	}
	return &huma.Schema{OneOf: []*huma.Schema{one(), {Type: huma.TypeArray, Items: one()}}}
}

// MarshalJSON writes the form that the inputs had.
func (p teiPredictions) MarshalJSON() ([]byte, error) {
	if p.one {
		return json.Marshal(p.list[0])
	}
	return json.Marshal(p.list)
}

func (s *Server) teiRerank(ctx context.Context, b *teiRerank) (teiRanks, outcome) {
	if len(b.Texts) == 0 {
		return nil, outcome{failure: failf(http.StatusBadRequest, kindEmpty, "texts is empty")}
	}
	items, o := s.rank(ctx, b.ModelOption, b.Query, b.Texts, engine.RerankOptions{Long: b.choice(), ScoreOptions: teiOptions(b.Truncate, b.TruncationDirection)}, b.raw())
	out := make(teiRanks, len(items))
	for i, item := range items {
		out[i] = teiRank{Index: item.Index, Score: o.model.itemScore(item, b.raw()), Unscored: item.Unscored}
		if deref(b.ReturnText, false) {
			out[i].Text = &b.Texts[item.Index]
		}
	}
	return out, o
}

func (s *Server) teiPredict(ctx context.Context, b *teiPredict) (*teiPredictions, outcome) {
	pairs := b.Inputs.pairs
	if len(pairs) == 0 {
		return nil, outcome{failure: failf(http.StatusBadRequest, kindEmpty, "inputs is empty")}
	}
	opts := teiOptions(b.Truncate, b.TruncationDirection)
	opts.AllLabels = true
	result, o := s.scorePairs(ctx, b.ModelOption, pairs, b.choice(), opts, b.raw())
	if o.failure != nil {
		return nil, o
	}
	out := &teiPredictions{one: b.Inputs.one}
	for i, logit := range result.Logits {
		empty := engine.IsEmpty(pairs[i].Document)
		list := []teiPrediction{{o.model.toScore(logit, b.raw()), "LABEL_0", empty}}
		if len(o.model.info.Labels) > 1 {
			list = o.model.teiLabels(result.ByLabel[i], b.raw(), empty)
		}
		out.list = append(out.list, list)
	}
	return out, o
}

// teiLabels lists a pair's scores by label, the best first.
func (m *loadedModel) teiLabels(scores []engine.LabelScore, raw *bool, empty bool) []teiPrediction {
	list := make([]teiPrediction, len(scores))
	for i, name := range m.info.Labels {
		list[i] = teiPrediction{m.toScore(scores[i].Logit, raw), name, empty}
	}
	slices.SortStableFunc(list, func(a, b teiPrediction) int { return cmp.Compare(b.Score, a.Score) })
	return list
}

func teiOptions(truncate *bool, side *teiSide) engine.ScoreOptions {
	switch {
	case !deref(truncate, true):
		return engine.ScoreOptions{Truncation: engine.TruncateNot}
	case side == nil: // the model's own
		return engine.ScoreOptions{}
	case strings.EqualFold(string(*side), "left"):
		return engine.ScoreOptions{Truncation: engine.TruncateLeft}
	}
	return engine.ScoreOptions{Truncation: engine.TruncateRight}
}
