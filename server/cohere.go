package server

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/mlxrank/mlxrank/engine"
)

// Version 2 of Cohere's rerank API.

// cohereTokens is the default of max_tokens_per_doc.
const cohereTokens = 4096

type cohereRerank struct {
	_ struct{} `additionalProperties:"true"`
	ModelOption
	Query     string     `json:"query" doc:"The query to rank the documents by"`
	Documents []document `json:"documents" nullable:"false" minItems:"1" doc:"The documents to rank"`
	LongOptions
	DeadlineOptions
	LogitOptions
	TopN            *integer `json:"top_n,omitempty" nullable:"true" minimum:"0" doc:"Maximum number of results, best first; all by default, and for 0"`
	ReturnDocuments *bool    `json:"return_documents,omitempty" nullable:"true" doc:"Return the documents, as version 1 does; false by default"`
	RankFields      []string `json:"rank_fields,omitempty" nullable:"true" doc:"Fields to rank of documents that are objects, in this order, as in version 1; text by default"`
	MaxTokensPerDoc *integer `json:"max_tokens_per_doc,omitempty" nullable:"true" minimum:"1" doc:"Tokens to which each document is cut before ranking; 4096 by default"`
}

type cohereResult struct {
	Index          int               `json:"index" minimum:"0"`
	RelevanceScore *float64          `json:"relevance_score,omitempty" doc:"Absent if the result is unscored"`
	Document       *answeredDocument `json:"document,omitempty"`
	Empty          bool              `json:"empty,omitempty" doc:"The document has no text"`
	Unscored       bool              `json:"unscored,omitempty" doc:"The deadline came first; only with on_deadline partial"`
}

type cohereMeta struct {
	APIVersion struct {
		Version string `json:"version"`
	} `json:"api_version"`
	BilledUnits struct {
		SearchUnits int `json:"search_units"`
	} `json:"billed_units"`
	Warnings []string `json:"warnings,omitempty" nullable:"false" doc:"Present if documents of the request are unscored"`
}

type cohereRanking struct {
	ID      string         `json:"id"`
	Results []cohereResult `json:"results" nullable:"false"`
	Meta    cohereMeta     `json:"meta"`
	Partial bool           `json:"partial,omitempty" doc:"Documents of the request are unscored"`
}

func (s *Server) cohereRerank(ctx context.Context, b *cohereRerank) (*cohereRanking, outcome) {
	documents, f := texts(b.Documents, b.RankFields)
	if f != nil {
		return nil, outcome{failure: f}
	}
	items, o := s.rank(ctx, b.ModelOption, b.Query, documents, engine.RerankOptions{
		Long: b.choice(), TopN: int(deref(b.TopN, 0)),
		ScoreOptions: engine.ScoreOptions{DocumentTokens: int(deref(b.MaxTokensPerDoc, cohereTokens))},
	}, b.raw())
	out := &cohereRanking{ID: uuid.NewString(), Results: make([]cohereResult, len(items))}
	out.Meta.APIVersion.Version = "2"
	out.Meta.BilledUnits.SearchUnits = 1
	if out.Partial = o.partialMark(); out.Partial {
		out.Meta.Warnings = []string{fmt.Sprintf("%d of %d documents were not scored by the deadline", len(o.result.Unscored), o.documents)}
	}
	for i, item := range items {
		out.Results[i] = cohereResult{
			Index: item.Index, RelevanceScore: o.model.itemScore(item, b.raw()), Unscored: item.Unscored, Empty: engine.IsEmpty(documents[item.Index]),
			Document: answered(&b.Documents[item.Index], deref(b.ReturnDocuments, false)),
		}
	}
	return out, o
}
