package server

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// Voyage's rerank API.

type voyageRerank struct {
	_ struct{} `additionalProperties:"true"`
	ModelOption
	Query           string         `json:"query" doc:"The query to rank the documents by"`
	Documents       []textOrObject `json:"documents" nullable:"false" minItems:"1" doc:"The documents to rank; LiteLLM also sends objects with a text"`
	TopK            *integer       `json:"top_k,omitempty" nullable:"true" minimum:"0" doc:"Maximum number of results, best first; all by default, and for 0"`
	ReturnDocuments *bool          `json:"return_documents,omitempty" nullable:"true" doc:"Return the documents; false by default"`
	Truncation      *bool          `json:"truncation,omitempty" nullable:"true" doc:"Cut pairs that exceed the model's maximum length; false rejects the request instead; true by default"`
	LongOptions
	LogitOptions
	DeadlineOptions
}

// A textOrObject is a text, or the field text of an object.
type textOrObject string

// Schema describes a text, or an object with a text.
func (textOrObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {
		Type: huma.TypeObject, AdditionalProperties: true, Required: []string{defaultField},
		Properties: map[string]*huma.Schema{defaultField: {Type: huma.TypeString, Description: "The text to rank"}},
	}}}
}

// UnmarshalJSON reads either form.
func (d *textOrObject) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return unmarshal(data, (*string)(d))
	}
	var object struct {
		Text string `json:"text"`
	}
	err := unmarshal(data, &object)
	*d = textOrObject(object.Text)
	return err
}

// A textResult is a result with the document as a text.
type textResult struct {
	RelevanceScore *float64 `json:"relevance_score,omitempty" doc:"Absent if the result is unscored"`
	Index          int      `json:"index" minimum:"0"`
	Document       *string  `json:"document,omitempty"`
	Empty          bool     `json:"empty,omitempty" doc:"The document has no text"`
	Unscored       bool     `json:"unscored,omitempty" doc:"The deadline came first; only with on_deadline partial"`
}

type voyageUsage struct {
	TotalTokens int `json:"total_tokens"`
}

type voyageRanking struct {
	Partial bool         `json:"partial,omitempty" doc:"Some results are unscored"`
	Object  string       `json:"object" enum:"list"`
	Data    []textResult `json:"data" nullable:"false"`
	Model   string       `json:"model"`
	Usage   voyageUsage  `json:"usage"`
}

// isVoyages reports whether a body on the path that Voyage and Jina share is in
// Voyage's format. A body without any of these fields is in Jina's.
func isVoyages(f fields) bool {
	return f.has("top_k", "truncation") && !f.has("top_n", "rank_fields")
}

func (s *Server) voyageRerank(ctx context.Context, b *voyageRerank) (*voyageRanking, outcome) {
	documents := make([]string, len(b.Documents))
	for i, d := range b.Documents {
		documents[i] = string(d)
	}
	items, o := s.rank(ctx, b.ModelOption, b.Query, documents, engine.RerankOptions{
		Long: b.choice(), TopN: int(deref(b.TopK, 0)), ScoreOptions: teiOptions(b.Truncation, nil),
	}, b.raw())
	if o.failure != nil {
		return nil, o
	}
	out := &voyageRanking{
		Object: "list", Model: o.model.name, Partial: o.partialMark(), Usage: voyageUsage{o.usage().TotalTokens},
		Data: o.model.textResults(items, documents, b.raw(), deref(b.ReturnDocuments, false)),
	}
	return out, o
}

// textResults makes the results of APIs that return documents as texts.
func (m *loadedModel) textResults(items []engine.Ranked, documents []string, raw *bool, returned bool) []textResult {
	list := make([]textResult, len(items))
	for i, item := range items {
		text := &documents[item.Index]
		list[i] = textResult{Index: item.Index, RelevanceScore: m.itemScore(item, raw), Unscored: item.Unscored, Empty: engine.IsEmpty(*text)}
		if returned {
			list[i].Document = text
		}
	}
	return list
}
