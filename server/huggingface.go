package server

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mlxrank/mlxrank/engine"
)

// The APIs of Hugging Face's inference endpoints, which all have inputs: sentence
// ranking, sentence similarity, and text classification of pairs. Lists of pairs are
// TEI's. Errors have TEI's shape.

type hfRequest struct {
	_          struct{}      `additionalProperties:"true"`
	Inputs     hfInputs      `json:"inputs"`
	Parameters *hfParameters `json:"parameters,omitempty"`
	LongOptions
	LogitOptions
	DeadlineOptions
	ModelOption
}

// hfParameters are the parameters of any task.
type hfParameters struct {
	FunctionToApply *string `json:"function_to_apply"`
	RawScores       *bool   `json:"raw_scores"`
	ReturnDocuments *bool   `json:"return_documents"`
}

// Schema describes an object or null.
func (hfParameters) Schema(huma.Registry) *huma.Schema {
	object := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Properties: map[string]*huma.Schema{
		"function_to_apply": {Type: huma.TypeString, Nullable: true, Description: "none returns logits; scores are 0 to 1 otherwise"},
		"raw_scores":        {Type: huma.TypeBoolean, Nullable: true, Description: "Return logits instead of scores of 0 to 1"},
		"return_documents":  {Type: huma.TypeBoolean, Nullable: true, Description: "Return the texts of a ranking"},
	}}
	return &huma.Schema{OneOf: []*huma.Schema{object, {Enum: []any{nil}}}}
}

// raw reports whether the request asks for logits.
func (b *hfRequest) raw() *bool {
	p := deref(b.Parameters, hfParameters{})
	raw := *b.LogitOptions.raw() || deref(p.RawScores, false) || deref(p.FunctionToApply, "") == "none"
	return &raw
}

// isHFs reports whether inputs are in a form that TEI does not have: an object, or a
// list of objects.
func isHFs(f fields) bool {
	inputs := f["inputs"]
	if list, ok := inputs.([]any); ok && len(list) > 0 {
		inputs = list[0]
	}
	_, ok := inputs.(map[string]any)
	return ok
}

// An hfTask is what inputs ask for.
type hfTask int

const (
	hfRank     hfTask = iota // a query and texts
	hfSimilar                // a source sentence and sentences
	hfScore                  // sentences that are pairs
	hfClassify               // pairs of text and text_pair
)

type hfRankInput struct {
	_               struct{} `additionalProperties:"true"`
	Query           string   `json:"query" doc:"The query to rank the texts by"`
	Texts           teiTexts `json:"texts" nullable:"false" doc:"The texts to rank"`
	ReturnDocuments *bool    `json:"return_documents,omitempty" nullable:"true" doc:"Return the texts"`
}

type hfSimilarInput struct {
	_              struct{} `additionalProperties:"true"`
	SourceSentence string   `json:"source_sentence" doc:"The query"`
	Sentences      teiTexts `json:"sentences" nullable:"false" doc:"The texts to score"`
}

type hfScoreInput struct {
	_         struct{} `additionalProperties:"true"`
	Sentences hfPairs  `json:"sentences" nullable:"false" doc:"Pairs of texts to score"`
}

// hfPairs is a list of pairs as teiInputs has it.
type hfPairs struct{ teiInputs }

// Schema describes a list of pairs.
func (hfPairs) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: pairSchema(), Extensions: atLeastOne}
}

type hfPair struct {
	_        struct{} `additionalProperties:"true"`
	Text     string   `json:"text" doc:"The query"`
	TextPair string   `json:"text_pair" doc:"The text to score"`
}

// hfInputs is one of the tasks' inputs.
type hfInputs struct {
	task  hfTask
	rank  hfRankInput   // of hfRank
	pairs []engine.Pair // of the other tasks
}

// Schema describes the inputs of each task.
func (hfInputs) Schema(r huma.Registry) *huma.Schema {
	of := func(t reflect.Type) *huma.Schema { return r.Schema(t, true, "") }
	return &huma.Schema{AnyOf: []*huma.Schema{
		of(reflect.TypeFor[hfRankInput]()), of(reflect.TypeFor[hfSimilarInput]()), of(reflect.TypeFor[hfScoreInput]()), of(reflect.TypeFor[hfPair]()),
		{Type: huma.TypeArray, Items: of(reflect.TypeFor[hfPair]()), Extensions: atLeastOne},
	}}
}

// UnmarshalJSON reads the inputs of any task.
func (in *hfInputs) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		var list []hfPair
		err := unmarshal(data, &list)
		in.setPairs(list)
		return err
	}
	var names map[string]jsontext.Value
	if err := unmarshal(data, &names); err != nil {
		return err
	}
	switch {
	case names["texts"] != nil:
		in.task = hfRank
		return unmarshal(data, &in.rank)
	case names["source_sentence"] != nil:
		var similar hfSimilarInput
		err := unmarshal(data, &similar)
		in.task, in.pairs = hfSimilar, newPairs(similar.SourceSentence, similar.Sentences)
		return err
	case names["sentences"] != nil:
		var score hfScoreInput
		err := unmarshal(data, &score)
		in.task, in.pairs = hfScore, score.Sentences.pairs
		return err
	}
	var pair hfPair
	err := unmarshal(data, &pair)
	in.setPairs([]hfPair{pair})
	return err
}

func (in *hfInputs) setPairs(list []hfPair) {
	in.task = hfClassify
	for _, p := range list {
		in.pairs = append(in.pairs, engine.Pair{Query: p.Text, Document: p.TextPair})
	}
}

// hfAnswer is the answer to one of the tasks.
type hfAnswer struct{ value any }

type hfScores struct {
	Scores []float64 `json:"scores" nullable:"false"`
}

type hfRanking struct {
	Scores teiRanks `json:"scores"`
}

// Schema describes the answers to each task.
func (hfAnswer) Schema(r huma.Registry) *huma.Schema {
	list := &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeNumber}}
	return &huma.Schema{AnyOf: []*huma.Schema{
		r.Schema(reflect.TypeFor[hfRanking](), true, ""), r.Schema(reflect.TypeFor[hfScores](), true, ""), list, r.Schema(reflect.TypeFor[teiPredictions](), true, ""),
	}}
}

// MarshalJSON writes the answer.
func (a hfAnswer) MarshalJSON() ([]byte, error) { return encode(a.value), nil }

func (s *Server) hfAnswer(ctx context.Context, b *hfRequest) (*hfAnswer, outcome) {
	raw := b.raw()
	switch b.Inputs.task {
	case hfRank:
		rank, parameters := &b.Inputs.rank, deref(b.Parameters, hfParameters{})
		returned := deref(rank.ReturnDocuments, false) || deref(parameters.ReturnDocuments, false)
		ranks, o := s.teiRerank(ctx, &teiRerank{Query: rank.Query, Texts: rank.Texts, ModelOption: b.ModelOption, LongOptions: b.LongOptions, LogitOptions: LogitOptions{RawScores: raw}, ReturnText: &returned})
		return &hfAnswer{hfRanking{ranks}}, o
	case hfClassify:
		labels, o := s.teiPredict(ctx, &teiPredict{Inputs: teiInputs{pairs: b.Inputs.pairs}, ModelOption: b.ModelOption, LongOptions: b.LongOptions, LogitOptions: LogitOptions{RawScores: raw}})
		return &hfAnswer{labels}, o
	}
	if len(b.Inputs.pairs) == 0 {
		return nil, outcome{failure: failf(http.StatusBadRequest, kindEmpty, "inputs is empty")}
	}
	result, o := s.scorePairs(ctx, b.ModelOption, b.Inputs.pairs, b.choice(), engine.ScoreOptions{}, raw)
	if o.failure != nil {
		return nil, o
	}
	scores := make([]float64, len(result.Logits))
	for i, logit := range result.Logits {
		scores[i] = o.model.toScore(logit, raw)
	}
	if b.Inputs.task == hfSimilar {
		return &hfAnswer{scores}, o
	}
	return &hfAnswer{hfScores{scores}}, o
}
