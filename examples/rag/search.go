package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis/lang/en"
	"github.com/blevesearch/bleve/v2/index/scorch"
	index "github.com/blevesearch/bleve_index_api"
)

// newIndex indexes the passages for BM25, in memory. Their ids are their indices.
func newIndex(passages []passage) (_ bleve.Index, err error) {
	mapping := bleve.NewIndexMapping()
	mapping.DefaultAnalyzer = en.AnalyzerName // stems words and drops stop words
	mapping.ScoringModel = index.BM25Scoring
	// Only scorch stores the lengths of fields. With the index of NewMemOnly, bleve
	// scores by TF-IDF despite ScoringModel.
	found, err := bleve.NewUsing("", mapping, scorch.Name, scorch.Name, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, found.Close())
		}
	}()
	batch := found.NewBatch()
	for i, p := range passages {
		if err := batch.Index(strconv.Itoa(i), map[string]string{"text": p.Text}); err != nil {
			return nil, fmt.Errorf("index passage %d: %w", i, err)
		}
	}
	return found, found.Batch(batch)
}

// search returns the indices of the n best matches of the question, best first. It
// returns fewer if fewer passages share a word with the question.
func search(ctx context.Context, index bleve.Index, question string, n int) ([]int, error) {
	// A match query treats the question as words, not as a query language.
	query := bleve.NewMatchQuery(question)
	query.SetField("text")
	result, err := index.SearchInContext(ctx, bleve.NewSearchRequestOptions(query, n, 0, false))
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	found := make([]int, len(result.Hits))
	for i, hit := range result.Hits {
		if found[i], err = strconv.Atoi(hit.ID); err != nil {
			return nil, fmt.Errorf("search: hit %q is not the index of a passage: %w", hit.ID, err)
		}
	}
	return found, nil
}
