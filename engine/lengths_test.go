package engine

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
)

// TestPairLongerThanBatch scores a pair that is longer than a batch of the CPU among
// short ones. Each must get the score that it gets alone.
func TestPairLongerThanBatch(t *testing.T) {
	t.Parallel()
	const positions = 3000
	dir := tinyDir(t, func(config map[string]any) { config["max_position_embeddings"] = positions })
	e := openTinyEngine(t, Config{Model: dir})
	if info := e.Info(); info.MaxLength != positions || info.MaxBatchTokens < positions {
		t.Fatalf("maximum length %d and batches of %d tokens, want %d", info.MaxLength, info.MaxBatchTokens, positions)
	}
	pairs := randomPairs(rand.New(rand.NewPCG(1, 2)), 20)
	pairs[7].Document = strings.Repeat("the dog sees no bird ", positions)
	together := scorePairs(t, e, pairs)
	for _, i := range []int{6, 7, 8} {
		alone := scorePairs(t, e, pairs[i:i+1])
		if d := together.Scores[i] - alone.Scores[0]; d > 1e-5 || d < -1e-5 {
			t.Errorf("pair %d scores %v among others, %v alone", i, together.Scores[i], alone.Scores[0])
		}
	}
	_, err := Open(t.Context(), Config{Model: dir, Device: Device(testDevice()), MaxBatchTokens: 2048})
	if err == nil || !strings.Contains(err.Error(), "a batch of at most 2048 tokens has no room for a pair of the maximum length, which takes 3000") {
		t.Errorf("a smaller limit gives %v", err)
	}
}

// TestShapeOfDescribesAttention checks that models of other costs have other shapes, and
// that local layers do not count as global ones.
func TestShapeOfDescribesAttention(t *testing.T) {
	t.Parallel()
	bert := mlx.ModelConfig{Layers: 22, Heads: 12, HiddenSize: 768, EmbeddingSize: 768, IntermediateSize: 1152, MaxPositions: 8192, Activation: mlx.GELU}
	modern := bert
	modern.PreNorm, modern.Gated, modern.RopeBase, modern.Window, modern.GlobalEvery = true, true, 160000, 64, 3
	if got, want := shapeOf(bert), "22 layers of 768, 12 heads, 1152 inner, 8192 positions, gelu"; got != want {
		t.Errorf("shape %q, want %q", got, want)
	}
	if got, want := shapeOf(modern), shapeOf(bert)+", norms first, gated, rotary, window 64, global every 3"; got != want {
		t.Errorf("shape %q, want %q", got, want)
	}
	if globalLayers(bert) != 22 || globalLayers(modern) != 8 {
		t.Errorf("%d and %d global layers, want 22 and 8", globalLayers(bert), globalLayers(modern))
	}
	e := &Engine{}
	e.info.Device = CPU
	if plain, local := e.assumedCosts(bert), e.assumedCosts(modern); local.Square >= plain.Square/2 || local.Token != plain.Token {
		t.Errorf("costs %+v with local layers, %+v without", local, plain)
	}
	if tokenWork(modern) <= tokenWork(bert) {
		t.Error("a gated feed-forward costs no more than a plain one")
	}
}
