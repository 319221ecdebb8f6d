package weightstest

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// TestEncodeIsReproducible pins the generator. An independent implementation in
// Python computed the sums, and made the files of PyTorch's golden values.
func TestEncodeIsReproducible(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{
			"one label",
			Spec{Seed: 1, Config: with(Tiny(64, 2, 2), "vocab_size", 997)},
			"9d3a9d4a1128528712370c7f1a52c2076c66307ec7b0201a97dff2457a83349d",
		},
		{
			"another intermediate size",
			Spec{Seed: 2, Config: with(with(Tiny(128, 2, 2), "vocab_size", 997), "intermediate_size", 320)},
			"f1cf3f5b8ee5bc9669c0625795ee945c372cd50d47881edaa18196c79b9aeb58",
		},
		{
			"three labels",
			Spec{Seed: 5, Config: with(with(with(Tiny(64, 2, 1), "vocab_size", 997), "id2label", nil), "num_labels", 3)},
			"89134d7a8756f8ce5f94b6df1db9df78eaddae954c57c4d567d30c450406bd03",
		},
	}
	for _, test := range tests {
		sum := sha256.Sum256(Encode(Tensors(test.spec)))
		if got := hex.EncodeToString(sum[:]); got != test.want {
			t.Errorf("%s: sha256 %s, want %s", test.name, got, test.want)
		}
		test.spec.Seed++
		sum = sha256.Sum256(Encode(Tensors(test.spec)))
		if got := hex.EncodeToString(sum[:]); got == test.want {
			t.Errorf("%s: the sum does not depend on the seed", test.name)
		}
	}
}

func TestTokenizerFillsVocabulary(t *testing.T) {
	t.Parallel()
	for _, size := range []int{5, 64, 299, 300, 1000} {
		vocab := Tokenizer(size)["model"].(map[string]any)["vocab"].(map[string]int)
		if len(vocab) != size {
			t.Errorf("vocabulary of %d tokens, want %d", len(vocab), size)
		}
		used := make([]bool, size)
		for token, id := range vocab {
			if used[id] {
				t.Errorf("size %d: %q has the id %d of another token", size, token, id)
			}
			used[id] = true
		}
		want := 2
		if size >= 300 {
			want = 101
		}
		if got := vocab["[CLS]"]; got != want {
			t.Errorf("size %d: [CLS] has id %d, want %d", size, got, want)
		}
	}
}

func with(config map[string]any, key string, value any) map[string]any {
	config[key] = value
	return config
}

// TestSpreadOfEveryArchitecture checks that the kind of a tensor is known whatever its
// architecture calls it.
func TestSpreadOfEveryArchitecture(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		shape         []int
		scale, offset float64
	}{
		{"roberta.embeddings.LayerNorm.weight", []int{64}, 0.25, 1},
		{"distilbert.transformer.layer.0.sa_layer_norm.bias", []int{64}, 0.25, 0},
		{"model.layers.1.attn_norm.weight", []int{64}, 0.25, 1},
		{"model.final_norm.weight", []int{64}, 0.25, 1},
		{"3_LayerNorm/norm.weight", []int{64}, 0.25, 1},
		{"model.embeddings.tok_embeddings.weight", []int{997, 64}, 1, 0},
		{"electra.embeddings_project.weight", []int{64, 32}, 0.25, 0},
		{"classifier.out_proj.bias", []int{1}, 0.0625, 0},
		{"classifier.weight", []int{1, 64}, 0.25, 0},
		{"2_Dense/linear.weight", []int{64, 384}, 0.0625, 0},
	}
	for _, test := range tests {
		if scale, offset := spread(test.name, test.shape); scale != test.scale || offset != test.offset {
			t.Errorf("%s: range of %v around %v, want %v around %v", test.name, scale, offset, test.scale, test.offset)
		}
	}
}
