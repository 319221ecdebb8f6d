package server

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// What Jina's API takes and gives. Version 1 of Cohere's has the same path, and
// its clients find all they read in the answer.

type jinaRerank struct {
	_               struct{}       `additionalProperties:"true"`
	Model           *string        `json:"model,omitempty" nullable:"true" doc:"Any name: the server has one model, and the answer names it"`
	Query           string         `json:"query" doc:"What the documents are ranked for"`
	Documents       []jinaDocument `json:"documents" nullable:"false" minItems:"1" doc:"The documents to rank"`
	TopN            *count         `json:"top_n,omitempty" nullable:"true" doc:"How many of the best to answer; all by default"`
	ReturnDocuments *bool          `json:"return_documents,omitempty" nullable:"true" doc:"Answer the documents too; true by default"`
}

// A jinaDocument is a text, or an object that has one.
type jinaDocument string

// Schema is the text, or the object.
func (jinaDocument) Schema(huma.Registry) *huma.Schema {
	object := &huma.Schema{
		Type: huma.TypeObject, Required: []string{"text"}, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{"text": {Type: huma.TypeString}},
	}
	object.PrecomputeMessages()
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, object}}
}

// UnmarshalJSON reads either form.
func (d *jinaDocument) UnmarshalJSON(data []byte) error {
	var text string
	if data[0] == '"' {
		err := unmarshal(data, &text)
		*d = jinaDocument(text)
		return err
	}
	var object struct {
		Text string `json:"text"`
	}
	err := unmarshal(data, &object)
	*d = jinaDocument(object.Text)
	return err
}

type jinaText struct {
	Text string `json:"text"`
}

type jinaResult struct {
	Index          int       `json:"index" minimum:"0"`
	RelevanceScore float32   `json:"relevance_score" minimum:"0" maximum:"1"`
	Document       *jinaText `json:"document,omitempty"`
}

type jinaUsage struct {
	TotalTokens  int `json:"total_tokens"`
	PromptTokens int `json:"prompt_tokens"`
}

type jinaRanking struct {
	Stages
	Body struct {
		Model   string       `json:"model"`
		Object  string       `json:"object"`
		Usage   jinaUsage    `json:"usage"`
		Results []jinaResult `json:"results" nullable:"false"`
	}
}

func (s *Server) registerJina(api huma.API) {
	huma.Register(api, s.operation(api, "/v1/rerank", "rerank-v1", "Rank documents, as Jina's API does", jinaError{}), s.jinaRerank)
}

func (s *Server) jinaRerank(ctx context.Context, in *struct{ Body jinaRerank }) (*jinaRanking, error) {
	b := &in.Body
	documents := make([]string, len(b.Documents))
	for i, d := range b.Documents {
		documents[i] = string(d)
	}
	items, stages, err := s.rank(ctx, b.Query, documents, engine.RerankOptions{TopN: int(deref(b.TopN, 0))})
	if err != nil {
		return nil, err
	}
	out := &jinaRanking{Stages: stages}
	out.Body.Model, out.Body.Object = s.Engine.Info().Model, "list"
	out.Body.Usage = jinaUsage{stages.ComputeTokens, stages.ComputeTokens}
	out.Body.Results = make([]jinaResult, len(items))
	for i, item := range items {
		out.Body.Results[i] = jinaResult{Index: item.Index, RelevanceScore: score(item.Logit)}
		if deref(b.ReturnDocuments, true) {
			out.Body.Results[i].Document = &jinaText{documents[item.Index]}
		}
	}
	return out, nil
}
