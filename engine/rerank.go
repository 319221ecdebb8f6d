package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// Long selects what Rerank does with a document that, with its query, is longer
// than the maximum length.
type Long string

// Truncate is the default.
const (
	Truncate Long = "truncate" // its end is cut off
	Passages Long = "passages" // overlapping passages are scored, and the best one counts
)

// RerankOptions select what Rerank scores and returns.
type RerankOptions struct {
	Long      Long     // "" is Truncate
	TopN      int      // items to return, 0 for all
	Threshold *float64 // least score to return, nil for none
	Explain   bool     // find the best sentence of each returned item
	ScoreOptions
}

// Ranked is a document of a Ranking.
type Ranked struct {
	Index    int // in the documents, in the order given
	Score    float32
	Logit    float32
	Unscored bool  // with ScoreOptions.Partial: the deadline came first. Score and Logit are NaN
	Passage  *Part // that scored best, if Long is Passages and there are several
	Best     *Part // with Explain, the sentence with the highest score; nil for a blank document
}

// A Part is a passage or a sentence of a document that was scored separately.
type Part struct {
	Span
	Index int // among the document's passages or sentences
	Count int // of these
	Score float32
	Logit float32
}

// A Ranking lists a request's documents, best first. Documents with equal logits
// keep their order. Unscored documents are last, in the order given; TopN counts them,
// and Threshold keeps them. Scores and Logits of the Result belong to all documents, in the
// order given. Its counts and timings include passages and sentences.
type Ranking struct {
	Items []Ranked
	Pairs int // number of scored documents, passages and sentences
	Result
}

// Rerank scores the documents against the query and sorts them, best first. Its
// errors are the same as for Score.
func (e *Engine) Rerank(ctx context.Context, query string, documents []string, opts RerankOptions) (*Ranking, error) {
	if opts.Long != "" && opts.Long != Truncate && opts.Long != Passages {
		return nil, fmt.Errorf("engine: long documents %q is not one of %s, %s", opts.Long, Truncate, Passages)
	}
	if opts.Explain && opts.Partial {
		return nil, errors.New("engine: Explain and Partial exclude each other; set one of them")
	}
	if err := e.checkOptions(opts.ScoreOptions); err != nil {
		return nil, err
	}
	pairs := make([]Pair, len(documents))
	for i, document := range documents {
		pairs[i] = Pair{Query: query, Document: document}
	}
	ranking, err := e.rank(ctx, pairs, opts.Long, opts.ScoreOptions)
	if err != nil {
		return nil, err
	}
	ranking.Items = opts.choose(ranking.Items)
	if opts.Explain {
		err = e.explain(ctx, pairs, ranking, opts.ScoreOptions)
	}
	return ranking, err
}

// ScorePassages scores the pairs as ScoreWith does, but cuts a document that does not
// fit into passages, as Rerank does with Passages. A pair gets the score of its best
// passage. The counts of the result and of Progress are passages.
func (e *Engine) ScorePassages(ctx context.Context, pairs []Pair, opts ScoreOptions) (*Result, error) {
	if err := e.checkOptions(opts); err != nil {
		return nil, err
	}
	result, _, err := e.scoreLong(ctx, pairs, Passages, opts)
	return result, err
}

// scoreLong scores pairs by their best parts, which it returns too.
func (e *Engine) scoreLong(ctx context.Context, pairs []Pair, long Long, opts ScoreOptions) (*Result, []*Part, error) {
	parts, cutting, err := e.cutDocuments(ctx, pairs, long, opts)
	if err != nil {
		return nil, nil, err
	}
	result, best, err := e.scoreParts(ctx, pairs, parts, opts)
	if err != nil {
		return nil, nil, err
	}
	result.Timings.Tokenization += cutting
	result.Timings.Latency += cutting
	result.Scores, result.Logits = make([]float32, len(pairs)), make([]float32, len(pairs))
	byLabel, first := result.ByLabel, 0
	if byLabel != nil {
		result.ByLabel = make([][]LabelScore, len(pairs))
	}
	result.Unscored = nil
	for i, part := range best {
		result.Scores[i], result.Logits[i] = part.Score, part.Logit
		if isUnscored(part.Logit) {
			result.Unscored = append(result.Unscored, i)
		}
		if byLabel != nil {
			result.ByLabel[i] = byLabel[first+part.Index]
		}
		first += part.Count
	}
	return result, best, nil
}

// isUnscored reports whether a logit stands for none. Others are finite.
func isUnscored(logit float32) bool { return math.IsNaN(float64(logit)) }

// cutDocuments returns the parts to score of each document, or of its first
// DocumentTokens, and how long cutting took.
func (e *Engine) cutDocuments(ctx context.Context, pairs []Pair, long Long, opts ScoreOptions) ([][]Span, time.Duration, error) {
	tokens := opts.DocumentTokens
	parts := make([][]Span, len(pairs))
	if long != Passages {
		for i, pair := range pairs {
			parts[i] = []Span{{0, len(pair.Document)}}
		}
		return parts, 0, nil
	}
	return timed(func() ([][]Span, error) {
		if !opts.Partial {
			if err := e.pipeline.checkPassages(ctx, pairs, tokens); err != nil {
				return nil, err
			}
		}
		queries, err := e.encodeQueries(ctx, pairs)
		if err != nil {
			return nil, err
		}
		err = forEach(ctx, len(pairs), func(i int) (err error) {
			if parts[i], err = e.tokenizer.passages(ctx, queries[pairs[i].Query], pairs[i].Document, tokens); err != nil {
				return &TextError{i, false, ErrText, fmt.Errorf("%d bytes: %w", len(pairs[i].Document), err)}
			}
			return nil
		})
		return parts, err
	})
}

// encodeQueries tokenises each query of the pairs once.
func (e *Engine) encodeQueries(ctx context.Context, pairs []Pair) (map[string]encoded, error) {
	queries := make(map[string]encoded)
	for i, pair := range pairs {
		if _, ok := queries[pair.Query]; ok {
			continue
		}
		query, err := e.tokenizer.encodeUntil(ctx, e.info.Prompt+pair.Query, e.tokenizer.maxLength)
		if err != nil {
			return nil, &TextError{i, true, ErrText, fmt.Errorf("%d bytes: %w", len(pair.Query), err)}
		}
		queries[pair.Query] = query
	}
	return queries, nil
}

// forEach calls f(0) to f(n-1) on all processors until one fails or ctx ends.
func forEach(ctx context.Context, n int, f func(int) error) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := 0; i < n && running.Err() == nil; i++ {
		group.Go(func() error { return f(i) })
	}
	return cmp.Or(group.Wait(), ctx.Err())
}

func timed[T any](f func() (T, error)) (T, time.Duration, error) {
	start := time.Now()
	value, err := f()
	return value, time.Since(start), err
}

// rank scores the documents and sorts them.
func (e *Engine) rank(ctx context.Context, pairs []Pair, long Long, opts ScoreOptions) (*Ranking, error) {
	result, best, err := e.scoreLong(ctx, pairs, long, opts)
	if err != nil {
		return nil, err
	}
	ranking := &Ranking{Items: make([]Ranked, len(pairs)), Result: *result}
	for i, part := range best {
		ranking.Items[i] = Ranked{Index: i, Score: part.Score, Logit: part.Logit, Unscored: isUnscored(part.Logit)}
		ranking.Pairs += part.Count
		if part.Count > 1 && !ranking.Items[i].Unscored {
			ranking.Items[i].Passage = part
		}
	}
	// By logit: activations round far-off logits to the same score. NaN is the least.
	slices.SortStableFunc(ranking.Items, func(a, b Ranked) int { return cmp.Compare(b.Logit, a.Logit) })
	return ranking, nil
}

// scoreParts scores all parts of all documents in one request. It returns the best
// part of each document, nil for a document without parts. A document with a part
// that is not scored has no score: the part may be the best one.
func (e *Engine) scoreParts(ctx context.Context, pairs []Pair, parts [][]Span, opts ScoreOptions) (*Result, []*Part, error) {
	var cut []Pair
	var owners []int // of each part, in pairs
	for i, spans := range parts {
		for _, s := range spans {
			owners = append(owners, i)
			cut = append(cut, Pair{Query: pairs[i].Query, Document: pairs[i].Document[s.Start:s.End]})
		}
	}
	result, err := e.ScoreWith(ctx, cut, opts)
	if err != nil {
		return nil, nil, reindexed(err, func(part int) int { return owners[part] })
	}
	best := make([]*Part, len(parts))
	at := 0
	for i, spans := range parts {
		for k, s := range spans {
			if logit := result.Logits[at]; best[i] == nil || isUnscored(logit) || logit > best[i].Logit {
				best[i] = &Part{Span: s, Index: k, Count: len(spans), Score: result.Scores[at], Logit: result.Logits[at]}
			}
			at++
		}
	}
	return result, best, nil
}

// choose keeps the items that the options select.
func (o RerankOptions) choose(items []Ranked) []Ranked {
	if o.Threshold != nil {
		scored := sort.Search(len(items), func(i int) bool { return items[i].Unscored })
		least := sort.Search(scored, func(i int) bool { return !reaches(items[i].Score, *o.Threshold) })
		items = slices.Delete(items, least, scored)
	}
	if o.TopN > 0 && o.TopN < len(items) {
		items = items[:o.TopN]
	}
	return items
}

// reaches reports whether a score is at least the threshold. It compares in
// float64: in float32 a threshold of 0.99999999 would be 1. The score counts as
// it is and as it is printed, since the float32 that prints as 0.7 is a little
// less than 0.7.
func reaches(score float32, threshold float64) bool {
	if float64(score) >= threshold {
		return true
	}
	printed, err := strconv.ParseFloat(strconv.FormatFloat(float64(score), 'g', -1, 32), 64)
	return err == nil && printed >= threshold
}

// explain finds the best sentence of each item, among the sentences that the model
// has seen: in its best passage, and not cut off.
func (e *Engine) explain(ctx context.Context, pairs []Pair, ranking *Ranking, opts ScoreOptions) error {
	chosen := make([]Pair, len(ranking.Items))
	for i, item := range ranking.Items {
		chosen[i] = pairs[item.Index]
	}
	parts, cutting, err := timed(func() ([][]Span, error) { return e.seenSentences(ctx, chosen, ranking.Items, opts) })
	var result *Result
	var best []*Part
	if err == nil {
		result, best, err = e.scoreParts(ctx, chosen, parts, ScoreOptions{Activation: opts.Activation, NoCache: opts.NoCache, Progress: opts.Progress})
	}
	if err != nil {
		return reindexed(err, func(i int) int { return ranking.Items[i].Index })
	}
	for i := range ranking.Items {
		ranking.Items[i].Best = best[i]
	}
	ranking.Pairs += len(result.Scores)
	result.Timings.Tokenization += cutting
	result.Timings.Latency += cutting
	ranking.add(result)
	return nil
}

// seenSentences lists the sentences of each pair's document that the model has
// seen.
func (e *Engine) seenSentences(ctx context.Context, pairs []Pair, items []Ranked, opts ScoreOptions) ([][]Span, error) {
	queries, err := e.encodeQueries(ctx, pairs)
	if err != nil {
		return nil, err
	}
	opts.Truncation = cmp.Or(opts.Truncation, e.info.TruncationSide)
	parts := make([][]Span, len(pairs))
	err = forEach(ctx, len(pairs), func(i int) error {
		document := pairs[i].Document
		within := Span{0, len(document)}
		if items[i].Passage != nil {
			within = items[i].Passage.Span
		}
		seen, err := e.tokenizer.seen(ctx, queries[pairs[i].Query], document[within.Start:within.End], opts)
		if err != nil {
			return &TextError{i, false, ErrText, fmt.Errorf("%d bytes: %w", len(document), err)}
		}
		parts[i] = sentencesWithin(document, Span{within.Start + seen.Start, within.Start + seen.End})
		return nil
	})
	return parts, err
}

// add adds the work of another request, without its scores.
func (r *Result) add(other *Result) {
	r.Distinct += other.Distinct
	r.Truncated += other.Truncated
	r.Tokens += other.Tokens
	r.CacheHits += other.CacheHits
	r.CacheMisses += other.CacheMisses
	r.CachedTokens += other.CachedTokens
	r.ComputedTokens += other.ComputedTokens
	r.Batches += other.Batches
	r.Timings.Latency += other.Timings.Latency
	r.Timings.Inference += other.Timings.Inference
	r.Timings.Tokenization += other.Timings.Tokenization
	r.Timings.QueueWait += other.Timings.QueueWait
	r.Timings.Other += other.Timings.Other
}
