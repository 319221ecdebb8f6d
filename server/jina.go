package server

import (
	"context"

	"github.com/google/uuid"

	"github.com/mlxrank/mlxrank/engine"
)

// Jina's rerank API. Version 1 of Cohere's API has the same path, and vLLM uses the
// same format; the answer has all fields that their clients read.

type jinaRerank struct {
	_ struct{} `additionalProperties:"true"`
	ModelOption
	Query     string     `json:"query" doc:"The query to rank the documents by"`
	Documents []document `json:"documents" nullable:"false" minItems:"1" doc:"The documents to rank"`
	LongOptions
	DeadlineOptions
	LogitOptions
	CutOptions
	TopN            *integer `json:"top_n,omitempty" nullable:"true" minimum:"0" doc:"Maximum number of results, best first; all by default, and for 0"`
	ReturnDocuments *bool    `json:"return_documents,omitempty" nullable:"true" doc:"Return the documents; true by default"`
	RankFields      []string `json:"rank_fields,omitempty" nullable:"true" doc:"Fields to rank of documents that are objects, in this order; text by default"`
}

type jinaResult struct {
	Index          int               `json:"index" minimum:"0"`
	RelevanceScore *float64          `json:"relevance_score,omitempty" doc:"Absent if the result is unscored"`
	Document       *answeredDocument `json:"document,omitempty"`
	Empty          bool              `json:"empty,omitempty" doc:"The document has no text"`
	Unscored       bool              `json:"unscored,omitempty" doc:"The deadline came first; only with on_deadline partial"`
}

type jinaUsage struct {
	TotalTokens  int `json:"total_tokens"`
	PromptTokens int `json:"prompt_tokens"`
}

func (o *outcome) usage() jinaUsage {
	if o.result == nil {
		return jinaUsage{}
	}
	tokens := o.result.Tokens + o.result.CachedTokens // the same with and without the cache
	return jinaUsage{tokens, tokens}
}

type jinaRanking struct {
	ID      string       `json:"id"`
	Model   string       `json:"model"`
	Object  string       `json:"object"`
	Usage   jinaUsage    `json:"usage"`
	Results []jinaResult `json:"results" nullable:"false"`
	Partial bool         `json:"partial,omitempty" doc:"Documents of the request are unscored"`
}

func (s *Server) jinaRerank(ctx context.Context, b *jinaRerank) (*jinaRanking, outcome) {
	documents, f := texts(b.Documents, b.RankFields)
	if f != nil {
		return nil, outcome{failure: f}
	}
	opts, f := b.options()
	if f != nil {
		return nil, outcome{failure: f}
	}
	items, o := s.rank(ctx, b.ModelOption, b.Query, documents, engine.RerankOptions{Long: b.choice(), TopN: int(deref(b.TopN, 0)), ScoreOptions: opts}, b.raw())
	if o.failure != nil {
		return nil, o
	}
	out := &jinaRanking{
		ID: uuid.NewString(), Model: o.model.name, Object: "list",
		Usage: o.usage(), Partial: o.partialMark(), Results: make([]jinaResult, len(items)),
	}
	for i, item := range items {
		out.Results[i] = jinaResult{
			Index: item.Index, RelevanceScore: o.model.itemScore(item, b.raw()), Unscored: item.Unscored, Empty: engine.IsEmpty(documents[item.Index]),
			Document: answered(&b.Documents[item.Index], deref(b.ReturnDocuments, true)),
		}
	}
	return out, o
}
