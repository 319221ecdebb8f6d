package server

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/mlxrank/mlxrank/engine"
)

// What Jina's API takes and gives. Version 1 of Cohere's has the same path, and
// vLLM and infinity speak the same format; their clients find all they read in
// the answer.

type jinaRerank struct {
	_               struct{}       `additionalProperties:"true"`
	Model           *string        `json:"model,omitempty" nullable:"true" doc:"Any name: the server has one model, and the answer names it"`
	Query           string         `json:"query" doc:"What the documents are ranked for"`
	Documents       []document     `json:"documents" nullable:"false" minItems:"1" doc:"The documents to rank"`
	Long            *longDocuments `json:"long,omitempty" nullable:"true" doc:"What to do with documents that do not fit: truncate, the default, or window: score overlapping parts, of which the best counts; an extension of mlxrank"`
	TopN            *count         `json:"top_n,omitempty" nullable:"true" doc:"How many of the best to answer; all by default, and for 0"`
	ReturnDocuments *bool          `json:"return_documents,omitempty" nullable:"true" doc:"Answer the documents too; true by default"`
	RankFields      []string       `json:"rank_fields,omitempty" nullable:"true" doc:"Fields of documents that are objects to rank, in this order; text by default"`
	RawScores       *bool          `json:"raw_scores,omitempty" nullable:"true" doc:"Answer logits, not scores of 0 to 1"`
}

type jinaResult struct {
	Index          int               `json:"index" minimum:"0"`
	RelevanceScore float64           `json:"relevance_score"`
	Document       *answeredDocument `json:"document,omitempty"`
	Empty          bool              `json:"empty,omitempty" doc:"The document has no text"`
}

type jinaUsage struct {
	TotalTokens  int `json:"total_tokens"`
	PromptTokens int `json:"prompt_tokens"`
}

type jinaRanking struct {
	Stages
	Body struct {
		ID      string       `json:"id"`
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
	documents, err := texts(b.Documents, b.RankFields)
	if err != nil {
		return nil, err
	}
	items, stages, err := s.rank(ctx, b.Query, documents, engine.RerankOptions{Long: b.Long.choice(), TopN: int(deref(b.TopN, 0)), ScoreOptions: s.byLabel(engine.ScoreOptions{}, b.RawScores)})
	if err != nil {
		return nil, err
	}
	out := &jinaRanking{Stages: stages}
	out.Body.ID, out.Body.Model, out.Body.Object = uuid.NewString(), s.Engine.Info().Model, "list"
	out.Body.Usage = jinaUsage{stages.ComputeTokens, stages.ComputeTokens}
	out.Body.Results = make([]jinaResult, len(items))
	for i, item := range items {
		out.Body.Results[i] = jinaResult{
			Index: item.Index, RelevanceScore: scoreOf(item.Logit, b.RawScores), Empty: engine.IsEmpty(documents[item.Index]),
			Document: answered(&b.Documents[item.Index], deref(b.ReturnDocuments, true)),
		}
	}
	return out, nil
}
