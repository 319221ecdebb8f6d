package server

import (
	"context"
	"net/http"

	"github.com/mlxrank/mlxrank/engine"
)

// The API of Weaviate's module reranker-transformers, whose client asks at paths below
// an origin. It sends chunks of 32 documents and finds scores by the document's text.
// Errors have the field that TEI's have.

type weaviateRerank struct {
	_         struct{} `additionalProperties:"true"`
	Query     string   `json:"query" doc:"The query to score the documents by"`
	Documents []string `json:"documents,omitempty" nullable:"true" doc:"The documents to score; without them, property is scored"`
	Property  *string  `json:"property,omitempty" nullable:"true" doc:"A single text to score"`
	LongOptions
	LogitOptions
	DeadlineOptions
	ModelOption
}

type weaviateScored struct {
	Document string  `json:"document"`
	Score    float64 `json:"score"`
	Empty    bool    `json:"empty,omitempty" doc:"The document is empty"`
}

type weaviateScores struct {
	Query    string           `json:"query"`
	Scores   []weaviateScored `json:"scores" nullable:"true" doc:"In the order of the documents; null for a property"`
	Property *string          `json:"property" nullable:"true"`
	Score    *float64         `json:"score" nullable:"true" doc:"The property's"`
}

func (s *Server) weaviateRerank(ctx context.Context, b *weaviateRerank) (*weaviateScores, outcome) {
	documents := b.Documents
	if documents == nil && b.Property != nil {
		documents = []string{*b.Property}
	}
	if len(documents) == 0 {
		return nil, outcome{failure: failf(http.StatusBadRequest, kindEmpty, "documents is empty; send documents, or a property")}
	}
	result, o := s.scorePairs(ctx, b.ModelOption, newPairs(b.Query, documents), b.choice(), engine.ScoreOptions{}, b.raw())
	if o.failure != nil {
		return nil, o
	}
	out := &weaviateScores{Query: b.Query}
	if b.Documents == nil {
		score := o.model.toScore(result.Logits[0], b.raw())
		out.Property, out.Score = b.Property, &score
		return out, o
	}
	for i, logit := range result.Logits {
		out.Scores = append(out.Scores, weaviateScored{documents[i], o.model.toScore(logit, b.raw()), engine.IsEmpty(documents[i])})
	}
	return out, o
}

// weaviateMeta is what Weaviate shows of the module.
type weaviateMeta struct {
	Model   string `json:"model"`
	Version string `json:"version" doc:"The server's"`
}

func (s *Server) getWeaviateMeta(context.Context) (any, *failure) {
	return weaviateMeta{Model: s.Models.defaultName(), Version: s.Version}, nil
}

// getWeaviateReady answers as getReady, with an empty body.
func (s *Server) getWeaviateReady(ctx context.Context) (any, *failure) {
	_, f := s.getReady(ctx)
	return nil, f
}
