package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/lab"
)

type leftGolden struct {
	Name      string  `json:"name"`
	MaxLength int     `json:"max_length"`
	IDs       []int32 `json:"input_ids"`
	TypeIDs   []int32 `json:"token_type_ids"`
}

// leftGoldens returns the pairs of the token goldens and their tokens truncated on
// the left.
func leftGoldens(t *testing.T) ([]leftGolden, []Pair) {
	t.Helper()
	var file struct{ Cases []leftGolden }
	readGolden(t, "left.json.gz", &file)
	if len(file.Cases) < 200 {
		t.Fatalf("%d cases, want at least 200", len(file.Cases))
	}
	texts := make(map[string]Pair)
	for _, g := range tokensGoldens(t) {
		texts[g.Name] = g.pair()
	}
	pairs := make([]Pair, len(file.Cases))
	for i, g := range file.Cases {
		pairs[i] = texts[g.Name]
	}
	return file.Cases, pairs
}

func TestTokensCutOnTheLeftEqualHuggingFaces(t *testing.T) {
	cases, pairs := leftGoldens(t)
	tokenizers := make(map[int]*tokenizer)
	off := map[Truncation]int{}
	for i, g := range cases {
		if tokenizers[g.MaxLength] == nil {
			tokenizers[g.MaxLength] = openTokenizer(t, g.MaxLength)
		}
		tok := tokenizers[g.MaxLength]
		for _, side := range []Truncation{TruncateLeft, TruncateRight} { // the second is the negative control
			query, document := encodeFrom(t, tok, pairs[i].Query, side), encodeFrom(t, tok, pairs[i].Document, side)
			got := tok.frame.join(query, document, g.MaxLength, side)
			if !got.Truncated {
				t.Errorf("%s at %d: not truncated", g.Name, g.MaxLength)
			}
			if !slices.Equal(got.IDs, g.IDs) || !slices.Equal(got.TypeIDs, g.TypeIDs) {
				if off[side]++; side == TruncateLeft {
					t.Errorf("%s at %d: %.80v, want %.80v", g.Name, g.MaxLength, got.IDs, g.IDs)
				}
			}
		}
	}
	if off[TruncateRight] != len(cases) {
		t.Errorf("control: cut on the right, %d of %d differ", off[TruncateRight], len(cases))
	}
}

// TestScoreCutOnTheLeft checks that ScoreWith executes the tokens of the goldens.
func TestScoreCutOnTheLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e := builtin(t)
	cases, all := leftGoldens(t)
	var pairs []Pair
	var tokens []Tokens
	for i, g := range cases {
		if g.MaxLength == e.Info().MaxLength && len(tokens) < 6 {
			pairs = append(pairs, all[i])
			tokens = append(tokens, Tokens{IDs: g.IDs, TypeIDs: g.TypeIDs, Truncated: true})
		}
	}
	want, err := e.ScoreTokens(context.Background(), lab.Key{}, tokens)
	if err != nil {
		t.Fatal(err)
	}
	for _, side := range []Truncation{TruncateLeft, TruncateRight} {
		got, err := e.ScoreWith(context.Background(), pairs, ScoreOptions{Truncation: side})
		if err != nil {
			t.Fatal(err)
		}
		if got.Truncated != len(pairs) {
			t.Errorf("%d of %d truncated", got.Truncated, len(pairs))
		}
		err = checkLogits(got.Logits, want.Logits, exactness*deviation(want.Logits))
		if (err == nil) != (side == TruncateLeft) {
			t.Errorf("%s: %v", side, err)
		}
	}
}

// TestDocumentTokens checks that a document scores as if it ended after the first
// DocumentTokens tokens.
func TestDocumentTokens(t *testing.T) {
	e := builtin(t)
	words := strings.Fields(strings.Repeat("the city has water ", 200))
	whole := Pair{"water", strings.Join(words, " ")}
	for _, n := range []int{1, 7, 300, 512, 4096} {
		got, err := e.ScoreWith(context.Background(), []Pair{whole}, ScoreOptions{DocumentTokens: n})
		if err != nil {
			t.Fatal(err)
		}
		cut := Pair{"water", strings.Join(words[:min(n, len(words))], " ")}
		want, err := e.Score(context.Background(), []Pair{cut})
		if err != nil {
			t.Fatal(err)
		}
		if got.Logits[0] != want.Logits[0] || got.Tokens != want.Tokens || got.Truncated != 1 {
			t.Errorf("%d tokens: logit %v for %d tokens, %d truncated, want %v for %d", n, got.Logits[0], got.Tokens, got.Truncated, want.Logits[0], want.Tokens)
		}
	}
}

// A request with one pair that is too long is refused before any of its pairs
// executes, however many pairs were tokenised before.
func TestTooLongExecutesNothing(t *testing.T) {
	backend := &fakeBackend{}
	e := fakeEngine(fakeSettings(), backend)
	pairs := make([]Pair, 3000) // more than are tokenised ahead of the batches
	for i := range pairs {
		pairs[i] = Pair{"0s 5", fakeText(0, 1000+i, 10)}
	}
	strict := ScoreOptions{Truncation: TruncateNot}
	result, err := e.ScoreWith(context.Background(), pairs, strict)
	if err != nil {
		t.Fatal(err)
	}
	checkFakeScores(t, pairs, result)
	before := backend.pairs
	pairs[len(pairs)-1].Document = fakeText(0, 1, fakeMaxLength)
	if _, err := e.ScoreWith(context.Background(), pairs, strict); !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), "pair 2999: 68 tokens, the model takes 64") {
		t.Errorf("got %v", err)
	}
	if backend.pairs != before {
		t.Errorf("%d pairs were executed", backend.pairs-before)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestScoreOptionsAreChecked(t *testing.T) {
	e := fakeEngine(fakeSettings(), &fakeBackend{})
	for want, opts := range map[string]ScoreOptions{
		"middle":  {Truncation: "middle"},
		"-1":      {DocumentTokens: -1},
		"exclude": {Truncation: TruncateLeft, DocumentTokens: 1},
	} {
		if _, err := e.ScoreWith(context.Background(), nil, opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v lacks %q", opts, err, want)
		}
		if _, err := e.Rerank(context.Background(), "", nil, RerankOptions{ScoreOptions: opts}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rerank, %+v: error %v lacks %q", opts, err, want)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
