package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// What text-embeddings-inference takes and gives. It passes over fields that it
// does not know, and so do we.

type teiRerank struct {
	_                   struct{}       `additionalProperties:"true"`
	Query               string         `json:"query" doc:"What the texts are ranked for"`
	Texts               teiTexts       `json:"texts" nullable:"false" doc:"The texts to rank"`
	Truncate            *bool          `json:"truncate,omitempty" nullable:"true" doc:"Cut pairs that are too long for the model, rather than refuse the request; true by default"`
	TruncationDirection *teiSide       `json:"truncation_direction,omitempty" nullable:"true" doc:"Which ends are cut; by default those that the model's files name, most often right"`
	Long                *longDocuments `json:"long,omitempty" nullable:"true" doc:"What to do with documents that do not fit: truncate, the default, or window: score overlapping parts, of which the best counts; an extension of mlxrank"`
	RawScores           *bool          `json:"raw_scores,omitempty" nullable:"true" doc:"Answer logits, not scores of 0 to 1"`
	ReturnText          *bool          `json:"return_text,omitempty" nullable:"true" doc:"Answer the texts too"`
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
	Score float64 `json:"score"`
	Text  *string `json:"text,omitempty"`
	Empty bool    `json:"empty,omitempty" doc:"The text is empty"`
}

type teiRanks struct {
	Stages
	Body []teiRank `nullable:"false"`
}

type teiPredict struct {
	_                   struct{}       `additionalProperties:"true"`
	Inputs              teiInputs      `json:"inputs"`
	Truncate            *bool          `json:"truncate,omitempty" nullable:"true" doc:"Cut pairs that are too long for the model, rather than refuse the request; true by default"`
	TruncationDirection *teiSide       `json:"truncation_direction,omitempty" nullable:"true" doc:"Which ends are cut; by default those that the model's files name, most often right"`
	Long                *longDocuments `json:"long,omitempty" nullable:"true" doc:"What to do with documents that do not fit: truncate, the default, or window: score overlapping parts, of which the best counts; an extension of mlxrank"`
	RawScores           *bool          `json:"raw_scores,omitempty" nullable:"true" doc:"Answer logits, not scores of 0 to 1"`
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
	Score float64 `json:"score"`
	Label string  `json:"label"`
	Empty bool    `json:"empty,omitempty" doc:"The second text of the pair is empty"`
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

// rerankPaths are where text-embeddings-inference ranks; the last is Amazon
// SageMaker's. vLLM and infinity rank at /rerank too, in Jina's format.
var rerankPaths = []string{"/rerank", "/", "/invocations"}

func (s *Server) registerTEI(api huma.API) {
	for i, path := range rerankPaths {
		id := []string{"rerank", "rerank-root", "rerank-invocations"}[i]
		huma.Register(api, s.operation(api, path, id, "Rank texts, as text-embeddings-inference does, or documents, as Jina's API does", teiError{}), s.teiRerank)
	}
	huma.Register(api, s.operation(api, "/predict", "predict", "Score pairs, as text-embeddings-inference does", teiError{}), s.teiPredict)
}

func (s *Server) teiRerank(ctx context.Context, in *struct{ Body teiRerank }) (*teiRanks, error) {
	b := &in.Body
	if len(b.Texts) == 0 {
		return nil, failf(http.StatusBadRequest, kindEmpty, "texts is empty")
	}
	items, stages, err := s.rank(ctx, b.Query, b.Texts, engine.RerankOptions{Long: b.Long.choice(), ScoreOptions: s.byLabel(teiOptions(b.Truncate, b.TruncationDirection), b.RawScores)})
	if err != nil {
		return nil, err
	}
	out := &teiRanks{Stages: stages, Body: make([]teiRank, len(items))}
	for i, item := range items {
		out.Body[i] = teiRank{Index: item.Index, Score: scoreOf(item.Logit, b.RawScores), Empty: engine.IsEmpty(b.Texts[item.Index])}
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
	labels := s.Engine.Info().Labels
	opts := s.byLabel(teiOptions(b.Truncate, b.TruncationDirection), b.RawScores)
	opts.AllLabels = len(labels) > 1
	result, stages, err := s.scorePairs(ctx, pairs, b.Long, opts)
	if err != nil {
		return nil, err
	}
	out := &teiPredictions{Stages: stages}
	out.Body.one = b.Inputs.one
	for i, logit := range result.Logits {
		empty := engine.IsEmpty(pairs[i].Document)
		list := []teiPrediction{{scoreOf(logit, b.RawScores), "LABEL_0", empty}}
		if opts.AllLabels {
			list = teiLabels(labels, result.ByLabel[i], b.RawScores, empty)
		}
		out.Body.list = append(out.Body.list, list)
	}
	return out, nil
}

// teiLabels lists a pair's score by every label, the best first.
func teiLabels(names []string, scores []engine.LabelScore, raw *bool, empty bool) []teiPrediction {
	list := make([]teiPrediction, len(names))
	for i, name := range names {
		list[i] = teiPrediction{scoreOf(scores[i].Logit, raw), name, empty}
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
