package mlx

import (
	"errors"
	"strings"
	"testing"
)

// smallTensors returns the tensors of cfg with small weights of its bits and groups. All
// numbers are the same: the tests here are about shapes and types.
func smallTensors(cfg ModelConfig) []Tensor {
	var small []Tensor
	for _, t := range randomTensors(cfg) {
		module, isWeight := strings.CutSuffix(t.Name, ".weight")
		inEncoder := strings.HasPrefix(t.Name, "encoder.") || strings.HasPrefix(t.Name, "embeddings.word")
		if !isWeight || !inEncoder || len(t.Shape) != 2 {
			small = append(small, t)
			continue
		}
		rows, words, groups := t.Shape[0], t.Shape[1]*cfg.WeightBits/32, t.Shape[1]/cfg.WeightGroup
		numbers := make([]byte, 4*rows*words)
		for i := range numbers {
			numbers[i] = byte(37 * i)
		}
		scale := make([]byte, 2*rows*groups)
		for i := 1; i < len(scale); i += 2 {
			scale[i] = 0x08 // 2^-13
		}
		small = append(small,
			Tensor{Name: t.Name, DType: PackedUint32, Shape: []int{rows, words}, Data: numbers},
			Tensor{Name: module + ".scales", DType: Float16, Shape: []int{rows, groups}, Data: scale},
			Tensor{Name: module + ".biases", DType: Float16, Shape: []int{rows, groups}, Data: make([]byte, len(scale))})
	}
	return small
}

func smallWeights(bits, group int) ModelConfig {
	cfg := smallConfig
	cfg.WeightBits, cfg.WeightGroup = bits, group
	return cfg
}

// TestSmallWeightsAreCounted opens small weights on each graph: the label is theirs, and
// every linear layer of the encoder multiplies by packed weights.
func TestSmallWeightsAreCounted(t *testing.T) {
	l := library(t)
	for _, graph := range []string{"0", "1"} {
		t.Setenv("MLXRANK_UNFUSED_GRAPH", graph)
		for bits, want := range map[int]DType{8: Int8W, 4: Int4W} {
			for _, asked := range []DType{AutoDType, Float32, Float16, want} {
				cfg := smallWeights(bits, 32)
				s, err := l.Open(cfg, smallTensors(cfg), Options{Device: testDevice(), DType: asked})
				if err != nil {
					t.Fatalf("unfused %s, %d bits, %s: %v", graph, bits, asked, err)
				}
				if s.DType() != want {
					t.Errorf("label %s, want %s", s.DType(), want)
				}
				counts := s.Matmuls()
				layers := int64(0)
				for _, m := range counts {
					if m.Part == InEncoder {
						layers += m.Count
						if m.Bits != bits || m.Right != packedWeights || asked == Float16 && m.Left != Float16 {
							t.Errorf("unfused %s, %s: %s in the encoder", graph, asked, m)
						}
					}
				}
				if layers != 9 {
					t.Errorf("%d linear layers, want 9", layers)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestBadSmallWeights checks what the library refuses of small weights.
func TestBadSmallWeights(t *testing.T) {
	l := library(t)
	edit := func(name string, change func(*Tensor)) func([]Tensor) []Tensor {
		return func(tensors []Tensor) []Tensor {
			for i := range tensors {
				if tensors[i].Name == name {
					change(&tensors[i])
				}
			}
			return tensors
		}
	}
	const query = "encoder.layer.0.attention.self.query"
	for _, test := range []struct {
		name string
		cfg  ModelConfig
		edit func([]Tensor) []Tensor
		want string
	}{
		{"bits", smallWeights(5, 32), nil, "weight_bits is 5, want 8 or 4"},
		{"group", smallWeights(8, 16), nil, "weight_group is 16, want 32 or 64"},
		{"group without bits", smallWeights(0, 64), nil, "weight_bits is 0"},
		{"group that does not divide", smallWeights(8, 64), nil, "not a multiple of weight_group 64"},
		{"scales missing", smallWeights(8, 32), edit(query+".scales", func(t *Tensor) { t.Name = "x" }), query + ".scales [32, 1] is missing"},
		{"scales of another shape", smallWeights(8, 32), edit(query+".scales", func(t *Tensor) { t.Shape = []int{16, 2} }), query + ".scales: shape [16, 2], want [32, 1]"},
		{"scales packed", smallWeights(8, 32), edit(query+".biases", func(t *Tensor) { t.DType = PackedUint32 }), query + ".biases: dtype 4 is unknown"},
		{"numbers of another shape", smallWeights(8, 32), edit(query+".weight", func(t *Tensor) { t.Shape = []int{16, 16} }), query + ".weight: shape [16, 16], want [32, 8]"},
		{"numbers cut", smallWeights(8, 32), edit(query+".weight", func(t *Tensor) { t.Data = t.Data[:100] }), query + ".weight: 100 bytes, want 1024"},
		{"a layer in floating point", smallWeights(8, 32), func([]Tensor) []Tensor { return randomTensors(smallConfig) }, "not UINT32"},
		{"a bias packed", smallWeights(8, 32), edit(query+".bias", func(t *Tensor) { t.DType = PackedUint32 }), query + ".bias: dtype 4 is unknown"},
	} {
		tensors := smallTensors(smallWeights(8, 32))
		if test.edit != nil {
			tensors = test.edit(tensors)
		}
		s, err := l.Open(test.cfg, tensors, Options{Device: testDevice()})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, error %v, want %q", test.name, s, err, test.want)
		}
	}
	cfg := smallWeights(8, 32)
	if _, err := l.Open(cfg, smallTensors(cfg), Options{Device: CPU, DType: Int8}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "8 bits already") {
		t.Errorf("small weights in int8: error %v", err)
	}
	// Small weights without bits in the config.
	if _, err := l.Open(smallConfig, smallTensors(smallWeights(8, 32)), Options{Device: testDevice()}); !errors.Is(err, ErrInvalid) {
		t.Errorf("small weights that the config does not announce: error %v", err)
	}
}
