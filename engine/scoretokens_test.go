package engine

import (
	"math"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/lab"
)

// The tokens from Tokenize get the same scores as the texts.
func TestScoreTokens(t *testing.T) {
	e := builtin(t)
	pairs := []Pair{
		{"edit photos", "An image editor."},
		{"edit photos", strings.Repeat("A very long description of a mail reader. ", 200)},
		{"calculator", ""},
		{"edit photos", "An image editor."},
	}
	want, err := e.Score(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := e.Tokenize(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // ScoreTokens must not change the caller's tokens
		got, err := e.ScoreTokens(t.Context(), lab.Key{}, tokens)
		if err != nil {
			t.Fatal(err)
		}
		for i := range pairs {
			if math.Abs(float64(got.Logits[i]-want.Logits[i])) > 1e-4 {
				t.Errorf("pair %d: %v, want %v", i, got.Logits[i], want.Logits[i])
			}
		}
		if got.Truncated != 1 || got.Distinct != 4 || got.Tokens <= want.Tokens || got.Timings.Tokenization != 0 {
			t.Errorf("%+v", got)
		}
		parts := got.Timings.Inference + got.Timings.QueueWait + got.Timings.Other
		if parts != got.Timings.Latency {
			t.Errorf("stages add up to %v of %v", parts, got.Timings.Latency)
		}
	}
	if s := e.Stats(); s.Reserved != 0 || s.Live != 0 {
		t.Errorf("%d tokens are still reserved by %d requests", s.Reserved, s.Live)
	}
}

func TestScoreTokensRefuses(t *testing.T) {
	e := builtin(t)
	for _, wrong := range []Tokens{
		{},
		{IDs: []int32{101, 102, 102}},
		{IDs: []int32{101, 102, 102}, TypeIDs: []int32{0, 0, 0}},
		{IDs: []int32{101, 102, 102}, TypeIDs: []int32{0, 2, 1}},
		{IDs: make([]int32, 513), TypeIDs: append(make([]int32, 512), 1)},
	} {
		if _, err := e.ScoreTokens(t.Context(), lab.Key{}, []Tokens{wrong}); err == nil || !strings.Contains(err.Error(), "pair 0") {
			t.Errorf("%d ids: %v", len(wrong.IDs), err)
		}
	}
	if result, err := e.ScoreTokens(t.Context(), lab.Key{}, nil); err != nil || len(result.Scores) != 0 {
		t.Errorf("no pairs: %v, %v", result, err)
	}
}
