package server

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/mlxrank/mlxrank/engine"
)

// infinity's rerank API. It differs from Jina's in the documents that it returns:
// texts, and none by default.

type infinityRerank struct {
	_ struct{} `additionalProperties:"true"`
	ModelOption
	Query           string   `json:"query" doc:"The query to rank the documents by"`
	Documents       []string `json:"documents" nullable:"false" minItems:"1" doc:"The documents to rank"`
	ReturnDocuments *bool    `json:"return_documents,omitempty" nullable:"true" doc:"Return the documents; false by default"`
	TopN            *integer `json:"top_n,omitempty" nullable:"true" minimum:"0" doc:"Maximum number of results, best first; all by default, and for 0"`
	LongOptions
	LogitOptions
	DeadlineOptions
}

type infinityRanking struct {
	Partial bool         `json:"partial,omitempty" doc:"Some results are unscored"`
	ID      string       `json:"id"`
	Object  string       `json:"object" enum:"rerank"`
	Created int64        `json:"created" doc:"Unix time in seconds"`
	Model   string       `json:"model"`
	Usage   jinaUsage    `json:"usage"`
	Results []textResult `json:"results" nullable:"false"`
}

// infinityNoModel is the model that infinity's client names if its caller names none.
const infinityNoModel = "default/not-specified"

func (s *Server) infinityRerank(ctx context.Context, b *infinityRerank) (*infinityRanking, outcome) {
	if deref(b.Model, "") == infinityNoModel {
		b.Model = nil
	}
	items, o := s.rank(ctx, b.ModelOption, b.Query, b.Documents, engine.RerankOptions{Long: b.choice(), TopN: int(deref(b.TopN, 0))}, b.raw())
	if o.failure != nil {
		return nil, o
	}
	out := &infinityRanking{
		Object: "rerank", Model: o.model.name, Partial: o.partialMark(), Usage: o.usage(), ID: "infinity-" + uuid.NewString(), Created: time.Now().Unix(),
		Results: o.model.textResults(items, b.Documents, b.raw(), deref(b.ReturnDocuments, false)),
	}
	return out, o
}
