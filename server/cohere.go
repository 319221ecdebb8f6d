package server

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/mlxrank/mlxrank/engine"
)

// What version 2 of Cohere's API takes and gives.

// cohereTokens is how many tokens of a document count unless a call says so.
const cohereTokens = 4096

type cohereRerank struct {
	_               struct{}       `additionalProperties:"true"`
	Model           *string        `json:"model,omitempty" nullable:"true" doc:"Any name: the server has one model"`
	Query           string         `json:"query" doc:"What the documents are ranked for"`
	Documents       []document     `json:"documents" nullable:"false" minItems:"1" doc:"The documents to rank"`
	Long            *longDocuments `json:"long,omitempty" nullable:"true" doc:"What to do with documents that do not fit: truncate, the default, or window: score overlapping parts, of which the best counts; an extension of mlxrank"`
	TopN            *count         `json:"top_n,omitempty" nullable:"true" doc:"How many of the best to answer; all by default, and for 0"`
	ReturnDocuments *bool          `json:"return_documents,omitempty" nullable:"true" doc:"Answer the documents too, as version 1 does; false by default"`
	RankFields      []string       `json:"rank_fields,omitempty" nullable:"true" doc:"Fields of documents that are objects to rank, in this order, as in version 1; text by default"`
	MaxTokensPerDoc *positive      `json:"max_tokens_per_doc,omitempty" nullable:"true" doc:"Of longer documents only so many first tokens count; 4096 by default"`
}

type cohereResult struct {
	Index          int               `json:"index" minimum:"0"`
	RelevanceScore float64           `json:"relevance_score" minimum:"0" maximum:"1"`
	Document       *answeredDocument `json:"document,omitempty"`
	Empty          bool              `json:"empty,omitempty" doc:"The document has no text"`
}

type cohereMeta struct {
	APIVersion struct {
		Version string `json:"version"`
	} `json:"api_version"`
	BilledUnits struct {
		SearchUnits int `json:"search_units"`
	} `json:"billed_units"`
}

type cohereRanking struct {
	Stages
	Body struct {
		ID      string         `json:"id"`
		Results []cohereResult `json:"results" nullable:"false"`
		Meta    cohereMeta     `json:"meta"`
	}
}

func (s *Server) registerCohere(api huma.API) {
	huma.Register(api, s.operation(api, "/v2/rerank", "rerank-v2", "Rank documents, as version 2 of Cohere's API does", cohereError{}), s.cohereRerank)
}

func (s *Server) cohereRerank(ctx context.Context, in *struct{ Body cohereRerank }) (*cohereRanking, error) {
	b := &in.Body
	opts := engine.RerankOptions{Long: b.Long.choice(), TopN: int(deref(b.TopN, 0)), ScoreOptions: engine.ScoreOptions{DocumentTokens: int(deref(b.MaxTokensPerDoc, cohereTokens))}}
	documents, err := texts(b.Documents, b.RankFields)
	if err != nil {
		return nil, err
	}
	opts.ScoreOptions = s.byLabel(opts.ScoreOptions, nil)
	items, stages, err := s.rank(ctx, b.Query, documents, opts)
	if err != nil {
		return nil, err
	}
	out := &cohereRanking{Stages: stages}
	out.Body.ID = uuid.NewString()
	out.Body.Meta.APIVersion.Version = "2"
	out.Body.Meta.BilledUnits.SearchUnits = 1
	out.Body.Results = make([]cohereResult, len(items))
	for i, item := range items {
		out.Body.Results[i] = cohereResult{
			Index: item.Index, RelevanceScore: scoreOf(item.Logit, nil), Empty: engine.IsEmpty(documents[item.Index]),
			Document: answered(&b.Documents[item.Index], deref(b.ReturnDocuments, false)),
		}
	}
	return out, nil
}
