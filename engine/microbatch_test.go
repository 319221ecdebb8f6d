package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
)

// A smaller limit on microbatches makes more of them, with the same scores.
func TestMicrobatchTokens(t *testing.T) {
	unfused(t)
	t.Setenv(unfusedGraphEnv, "0")
	pairs := randomPairs(rand.New(rand.NewPCG(1, 2)), 40)
	var want []float32
	var before int64
	for _, tokens := range []int{0, 64, 16} {
		e := openTinyEngine(t, Config{MicrobatchTokens: tokens, Threads: 1})
		if got := e.Info().MicrobatchTokens; tokens != 0 && got != tokens || got == 0 {
			t.Errorf("microbatches of %d tokens, want %d", got, tokens)
		}
		result, err := e.Score(context.Background(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		var microbatches int64
		for _, w := range e.Stats().Workers {
			microbatches += w.Microbatches
		}
		if microbatches <= before {
			t.Errorf("limit %d makes %d microbatches, the larger one before it %d", tokens, microbatches, before)
		}
		before = microbatches
		if want == nil {
			want = result.Logits
		}
		if testDType() == Float32 && testDevice() == "cpu" && !slices.Equal(result.Logits, want) {
			t.Errorf("limit %d changes logits", tokens)
		}
	}
	if _, err := Open(context.Background(), Config{Model: tinyDir(t, nil), MicrobatchTokens: -1}); err == nil {
		t.Error("a negative limit is accepted")
	}
}
