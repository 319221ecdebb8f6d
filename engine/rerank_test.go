package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
)

// Passages cover the document in order and overlap, each ends after the one before
// it, and none has more tokens than there is room for.
func TestPassages(t *testing.T) {
	tok := openTokenizer(t, 64)
	query, err := tok.encode("how do I resize a photo")
	if err != nil {
		t.Fatal(err)
	}
	room := 64 - tok.frame.special - query.total
	for name, document := range map[string]string{
		"prose":      strings.Repeat("The quick brown fox jumps over the lazy dog, naïvely. ", 60),
		"ideographs": strings.Repeat("東京都庁舎展望室", 60),
		"invalid":    strings.Repeat("caf\xc3 \xff\xff bar\x00baz ", 80),
		"lines":      strings.Repeat("one\r\ntwo\r\n", 100),
	} {
		passages, err := tok.passages(context.Background(), query, document, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(passages) < 3 || passages[0].Start != 0 || passages[len(passages)-1].End != len(document) {
			t.Errorf("%s: %d passages from %d to %d of %d bytes", name, len(passages), passages[0].Start, passages[len(passages)-1].End, len(document))
		}
		whole, err := tok.encode(document)
		if err != nil {
			t.Fatal(err)
		}
		tokens := 0
		for i, w := range passages {
			part, err := tok.encode(document[w.Start:w.End])
			if err != nil {
				t.Fatal(err)
			}
			if part.total > room {
				t.Errorf("%s: passage %d has %d tokens, room for %d", name, i, part.total, room)
			}
			tokens += part.total
			if i == 0 {
				continue
			}
			if before := passages[i-1]; w.Start <= before.Start || w.Start >= before.End || w.End <= before.End {
				t.Errorf("%s: passage %v does not overlap %v or does not end after it", name, w, before)
			}
		}
		if most := whole.total*4/3 + 2*room; tokens < whole.total || tokens > most {
			t.Errorf("%s: %d tokens in all passages, want %d to %d", name, tokens, whole.total, most)
		}
	}
}

func TestShortDocumentIsOnePassage(t *testing.T) {
	tok := openTokenizer(t, 64)
	for _, document := range []string{"", " ", "a cat", strings.Repeat("a ", 50), strings.Repeat("international ", 50)} {
		passages, err := tok.passages(context.Background(), encoded{}, document, 0)
		if err != nil || !slices.Equal(passages, []Span{{0, len(document)}}) {
			t.Errorf("%.20q: passages %v, %v; want the whole document", document, passages, err)
		}
	}
}

func TestSlideProperties(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(11, 12))
	for range 2000 {
		room := 1 + r.IntN(40)
		segments := make([]segment, 1+r.IntN(60))
		for i := range segments {
			segments[i] = segment{Span{i, i + 1}, r.IntN(room + 2)}
		}
		end := 0
		for _, w := range slide(segments, room, passageOverlap(room)) {
			if w.Start > end || w.End <= end {
				t.Fatalf("room %d: passage %v after %d leaves a gap or makes no progress: %v", room, w, end, segments)
			}
			if n := countTokens(segments[w.Start:w.End]); n > room && w.End-w.Start > 1 {
				t.Fatalf("room %d: passage %v has %d tokens", room, w, n)
			}
			end = w.End
		}
		if end != len(segments) {
			t.Fatalf("passages end at %d of %d", end, len(segments))
		}
	}
}

// The answer is at the end of a long document, so truncation removes it.
func TestRerankPassages(t *testing.T) {
	e := openTinyEngine(t, Config{Model: weights.Builtin, MaxLength: 64})
	filler := strings.Repeat("The mail server sorts incoming mail and keeps spam out. ", 12)
	answer := "This program resizes photographs and converts images between formats."
	documents := []string{filler + answer, filler, answer}
	query := "resize photos"
	ctx := context.Background()
	cut, err := e.Rerank(ctx, query, documents, RerankOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if cut.Logits[0] != cut.Logits[1] && math.Abs(float64(cut.Logits[0]-cut.Logits[1])) > 1e-4 || cut.Truncated != 2 {
		t.Errorf("truncated: logits %v, %d truncated; want the first two equal", cut.Logits, cut.Truncated)
	}
	ranking, err := e.Rerank(ctx, query, documents, RerankOptions{Long: Passages, Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	if ranking.Truncated != 0 || ranking.Pairs < 8 || len(ranking.Scores) != 3 || ranking.Logits[0] < ranking.Logits[1]+1 {
		t.Errorf("passages: logits %v, %d pairs, %d truncated", ranking.Logits, ranking.Pairs, ranking.Truncated)
	}
	for _, item := range ranking.Items {
		if (item.Passage != nil) != (item.Index < 2) || item.Best == nil {
			t.Fatalf("item %+v: want a passage for the long documents, and a sentence for each", item)
		}
		if w := item.Passage; item.Index == 0 && (w.Index != w.Count-1 || w.Logit != item.Logit || !strings.HasSuffix(documents[0][w.Start:w.End], answer)) {
			t.Errorf("passage %+v, want the last", w)
		}
		if got := documents[item.Index][item.Best.Start:item.Best.End]; item.Index != 1 && got != answer {
			t.Errorf("best sentence of document %d is %q", item.Index, got)
		}
	}
	alone := scorePairs(t, e, []Pair{{query, answer}})
	if best := ranking.Items[slices.IndexFunc(ranking.Items, func(r Ranked) bool { return r.Index == 0 })].Best; math.Abs(float64(best.Logit-alone.Logits[0])) > 1e-4 {
		t.Errorf("sentence has logit %v, scored alone %v", best.Logit, alone.Logits[0])
	}
}

func TestRerankChooses(t *testing.T) {
	e := openTinyEngine(t, Config{})
	documents := []string{"the cat runs", "a red hill", "no bird in june", "the dog sees", "", " \n"}
	all, err := e.Rerank(context.Background(), "cat", documents, RerankOptions{Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range all.Items {
		if (item.Best == nil) != (item.Index > 3) {
			t.Errorf("item %+v: want a sentence unless the document is blank", item)
		}
	}
	third := float64(all.Items[2].Score)
	for _, test := range []struct {
		options RerankOptions
		want    int
	}{
		{RerankOptions{TopN: 2}, 2},
		{RerankOptions{TopN: 20}, 6},
		{RerankOptions{Threshold: &third}, 3},
		{RerankOptions{Threshold: &third, TopN: 1}, 1},
	} {
		got, err := e.Rerank(context.Background(), "cat", documents, test.options)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Items) != test.want || len(got.Scores) != len(documents) {
			t.Errorf("%+v: %d items and %d scores, want %d and %d", test.options, len(got.Items), len(got.Scores), test.want, len(documents))
		}
	}
	if _, err := e.Rerank(context.Background(), "cat", documents, RerankOptions{Long: "fold"}); err == nil {
		t.Error("an unknown choice for long documents is accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Rerank(ctx, "cat", documents, RerankOptions{Long: Passages}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// TestReaches compares a float32 score with a float64 threshold.
func TestReaches(t *testing.T) {
	t.Parallel()
	almost := math.Nextafter32(1, 0)
	for _, test := range []struct {
		score     float32
		threshold float64
		want      bool
	}{
		{0.7, 0.7, true}, // float64(float32(0.7)) is less than 0.7
		{0.3, float64(float32(0.3)), true},
		{almost, 0.99999999, false}, // float32(0.99999999) is 1
		{1, 0.99999999, true},
		{almost, 1, false},
		{almost, float64(almost), true},
		{0.69999, 0.7, false},
		{-4.25, -4.25, true},
		{0.5, math.Inf(1), false},
		{0.5, math.Inf(-1), true},
	} {
		if got := reaches(test.score, test.threshold); got != test.want {
			t.Errorf("%v reaches %v: %v, want %v", test.score, test.threshold, got, test.want)
		}
	}
}

// TestExplainVisiblePart explains documents of which the model gets a part only. Explain
// scores the sentences of that part only, or of the best passage.
func TestExplainVisiblePart(t *testing.T) {
	e := openTinyEngine(t, Config{MaxLength: 32})
	document := strings.Repeat("The cat runs. ", 100)
	total := len(splitSentences(document))
	tokens := func(text string) int {
		encoded, err := e.tokenizer.encode(text)
		if err != nil {
			t.Fatal(err)
		}
		return encoded.total
	}
	for _, test := range []struct {
		options  RerankOptions
		from, to int // range of the sentences that may be chosen
	}{
		{RerankOptions{}, 0, 8},
		{RerankOptions{Long: Passages}, 0, total},
		{RerankOptions{ScoreOptions: ScoreOptions{Truncation: TruncateLeft}}, total - 8, total},
		{RerankOptions{ScoreOptions: ScoreOptions{DocumentTokens: 8}}, 0, 2},
	} {
		test.options.Explain = true
		ranking, err := e.Rerank(t.Context(), "cat", []string{document}, test.options)
		if err != nil {
			t.Fatal(err)
		}
		passages := 1
		if w := ranking.Items[0].Passage; w != nil {
			passages = w.Count
		}
		// 28 tokens of the document fit, and a sentence has four.
		if scored := ranking.Pairs - passages; scored < 1 || scored > 28/tokens("The cat runs.")+1 {
			t.Errorf("%+v: %d sentences were scored", test.options, scored)
		}
		best := ranking.Items[0].Best
		if at := strings.Count(document[:best.Start], "."); at < test.from || at >= test.to {
			t.Errorf("%+v: sentence %d of %d, want one of %d to %d", test.options, at, total, test.from, test.to-1)
		}
		if w := ranking.Items[0].Passage; w != nil && (best.Start < w.Start || best.End > w.End) {
			t.Errorf("the sentence %+v is not in the passage %+v", best.Span, w.Span)
		}
	}
}

// TestScorePassages scores pairs by their best passages, as Rerank does.
func TestScorePassages(t *testing.T) {
	e := openTinyEngine(t, Config{MaxLength: 32})
	long := strings.Repeat("a red hill. ", 30) + "the cat runs. " + strings.Repeat("no bird in june. ", 30)
	pairs := []Pair{{"cat", long}, {"dog sees", "the dog"}, {"dog", long}, {"cat", ""}}
	result, err := e.ScorePassages(t.Context(), pairs, ScoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	truncated := scorePairs(t, e, pairs)
	if result.Logits[0] == truncated.Logits[0] || result.Logits[1] != truncated.Logits[1] {
		t.Errorf("logits %v, truncated %v: want differences for long documents only", result.Logits, truncated.Logits)
	}
	for i, pair := range pairs {
		ranking, err := e.Rerank(t.Context(), pair.Query, []string{pair.Document}, RerankOptions{Long: Passages})
		if err != nil {
			t.Fatal(err)
		}
		if got := result.Logits[i]; math.Abs(float64(got-ranking.Logits[0])) > 1e-5 || len(result.Scores) != len(pairs) {
			t.Errorf("pair %d: logit %v, Rerank has %v", i, got, ranking.Logits[0])
		}
	}
	// With DocumentTokens, passages are made of the document's first tokens only.
	few, err := e.ScorePassages(t.Context(), pairs[:1], ScoreOptions{DocumentTokens: 60})
	if err != nil {
		t.Fatal(err)
	}
	cut := scorePairs(t, e, []Pair{{"cat", strings.Repeat("a red hill. ", 15)}})
	if few.Distinct < 2 || few.Distinct >= result.Distinct || few.Logits[0] < cut.Logits[0]-1 {
		t.Errorf("with 60 document tokens %d distinct pairs, without the limit %d", few.Distinct, result.Distinct)
	}
}
