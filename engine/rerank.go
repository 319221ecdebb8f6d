package engine

import (
	"context"
	"fmt"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/clipperhouse/uax29/v2/sentences"
)

// Long says what becomes of a document that does not fit, with its query, into
// the maximum length.
type Long string

// Truncate is the default.
const (
	Truncate Long = "truncate" // its end is cut off
	Window   Long = "window"   // overlapping parts are scored and the best one counts
)

// RerankOptions choose what Rerank scores and returns.
type RerankOptions struct {
	Long      Long     // "" is Truncate
	TopN      int      // items to return, 0 for all
	Threshold *float64 // least score to return, nil for none
	Explain   bool     // find the best sentence of each item returned
	ScoreOptions
}

// Ranked is a document of a Ranking.
type Ranked struct {
	Index  int // in the documents as given
	Score  float32
	Logit  float32
	Window *Part // that scored best, where Long is Window and there are several
	Best   *Part // the sentence that scores highest by itself, with Explain; nil for a blank document
}

// A Part is a stretch of a document that was scored by itself.
type Part struct {
	Span
	Index int // among the document's parts of its kind
	Count int // of them
	Score float32
	Logit float32
}

// A Ranking is a request's documents, best first; equal scores keep the order
// they were given in. Scores and Logits of its Result are the documents', in
// the order given; the counts and timings are of all that was scored.
type Ranking struct {
	Items []Ranked
	Pairs int // scored: documents, or their windows, and sentences
	Result
}

// Rerank scores the documents against the query and sorts them, best first. Its
// errors are those of Score.
func (e *Engine) Rerank(ctx context.Context, query string, documents []string, opts RerankOptions) (*Ranking, error) {
	if opts.Long != "" && opts.Long != Truncate && opts.Long != Window {
		return nil, fmt.Errorf("engine: long documents %q is none of %s, %s", opts.Long, Truncate, Window)
	}
	if err := e.checkOptions(opts.ScoreOptions); err != nil {
		return nil, err
	}
	parts, cutting, err := e.cutDocuments(ctx, query, documents, opts.Long)
	if err != nil {
		return nil, err
	}
	ranking, err := e.rank(ctx, query, documents, parts, opts.ScoreOptions)
	if err != nil {
		return nil, err
	}
	ranking.Timings.Tokenization += cutting
	ranking.Timings.Latency += cutting
	ranking.Items = opts.choose(ranking.Items)
	if opts.Explain {
		err = e.explain(ctx, query, documents, ranking, opts.Activation)
	}
	return ranking, err
}

// cutDocuments gives the parts that each document is scored by, and how long
// that took.
func (e *Engine) cutDocuments(ctx context.Context, query string, documents []string, long Long) ([][]Span, time.Duration, error) {
	parts := make([][]Span, len(documents))
	if long != Window {
		for i, document := range documents {
			parts[i] = []Span{{0, len(document)}}
		}
		return parts, 0, nil
	}
	return timed(func() ([][]Span, error) {
		if err := e.pipeline.checkWindows(ctx, e.info.Prompt+query, documents); err != nil {
			return nil, err
		}
		encoded, err := e.tokenizer.encodeUntil(ctx, e.info.Prompt+query, e.tokenizer.maxLength)
		if err != nil {
			return nil, fmt.Errorf("engine: a query of %d bytes: %w", len(query), err)
		}
		err = parallel(ctx, len(documents), func(i int) (err error) {
			if parts[i], err = e.tokenizer.windows(ctx, encoded, documents[i]); err != nil {
				return fmt.Errorf("engine: document %d of %d bytes: %w", i, len(documents[i]), err)
			}
			return nil
		})
		return parts, err
	})
}

// parallel calls f(0) to f(n-1) on all processors until one fails or ctx ends.
func parallel(ctx context.Context, n int, f func(int) error) error {
	var next atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && first.Load() == nil && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := f(int(i)); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

func timed[T any](f func() (T, error)) (T, time.Duration, error) {
	start := time.Now()
	value, err := f()
	return value, time.Since(start), err
}

// rank scores the parts and sorts the documents by their best ones.
func (e *Engine) rank(ctx context.Context, query string, documents []string, parts [][]Span, opts ScoreOptions) (*Ranking, error) {
	result, best, err := e.scoreParts(ctx, query, documents, parts, opts)
	if err != nil {
		return nil, err
	}
	ranking := &Ranking{Items: make([]Ranked, len(documents)), Pairs: len(result.Scores), Result: *result}
	ranking.Scores, ranking.Logits = make([]float32, len(documents)), make([]float32, len(documents))
	for i, part := range best {
		ranking.Scores[i], ranking.Logits[i] = part.Score, part.Logit
		ranking.Items[i] = Ranked{Index: i, Score: part.Score, Logit: part.Logit}
		if part.Count > 1 {
			ranking.Items[i].Window = part
		}
	}
	// By logit: activations round far-off logits to the same score.
	sort.SliceStable(ranking.Items, func(a, b int) bool { return ranking.Items[a].Logit > ranking.Items[b].Logit })
	return ranking, nil
}

// scoreParts scores all parts of all texts in one request and gives the best
// part of each text, nil for a text that has none.
func (e *Engine) scoreParts(ctx context.Context, query string, texts []string, parts [][]Span, opts ScoreOptions) (*Result, []*Part, error) {
	var pairs []Pair
	for i, spans := range parts {
		for _, s := range spans {
			pairs = append(pairs, Pair{Query: query, Document: texts[i][s.Start:s.End]})
		}
	}
	result, err := e.ScoreWith(ctx, pairs, opts)
	if err != nil {
		return nil, nil, err
	}
	best := make([]*Part, len(parts))
	at := 0
	for i, spans := range parts {
		for k, s := range spans {
			if best[i] == nil || result.Logits[at] > best[i].Logit {
				best[i] = &Part{Span: s, Index: k, Count: len(spans), Score: result.Scores[at], Logit: result.Logits[at]}
			}
			at++
		}
	}
	return result, best, nil
}

// choose keeps the items that the options ask for.
func (o RerankOptions) choose(items []Ranked) []Ranked {
	if o.Threshold != nil {
		items = items[:sort.Search(len(items), func(i int) bool { return !reaches(items[i].Score, *o.Threshold) })]
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

// explain finds the best sentence of each item.
func (e *Engine) explain(ctx context.Context, query string, documents []string, ranking *Ranking, activation string) error {
	texts := make([]string, len(ranking.Items))
	parts := make([][]Span, len(ranking.Items))
	for i, item := range ranking.Items {
		texts[i] = documents[item.Index]
		parts[i] = sentencesOf(texts[i])
	}
	result, best, err := e.scoreParts(ctx, query, texts, parts, ScoreOptions{Activation: activation})
	if err != nil {
		return err
	}
	for i := range ranking.Items {
		ranking.Items[i].Best = best[i]
	}
	ranking.Pairs += len(result.Scores)
	ranking.add(result)
	return nil
}

// add counts the work of another request in, but for its scores.
func (r *Result) add(other *Result) {
	r.Truncated += other.Truncated
	r.Tokens += other.Tokens
	r.ComputedTokens += other.ComputedTokens
	r.Batches += other.Batches
	r.Timings.Latency += other.Timings.Latency
	r.Timings.Inference += other.Timings.Inference
	r.Timings.Tokenization += other.Timings.Tokenization
	r.Timings.QueueWait += other.Timings.QueueWait
	r.Timings.Other += other.Timings.Other
}

// sentencesOf gives the sentences of a text by Unicode's rules (UAX 29),
// without the white space around them. A blank text has none.
func sentencesOf(text string) []Span {
	var out []Span
	for tokens := sentences.FromString(text); tokens.Next(); {
		sentence := strings.TrimLeftFunc(tokens.Value(), unicode.IsSpace)
		start := tokens.End() - len(sentence)
		if trimmed := strings.TrimRightFunc(sentence, unicode.IsSpace); trimmed != "" {
			out = append(out, Span{start, start + len(trimmed)})
		}
	}
	return out
}
