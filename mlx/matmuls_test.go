package mlx

import (
	"errors"
	"strings"
	"testing"
)

// of returns matmuls with both operands of one type.
func of(part Part, t DType, count int64) MatmulCount {
	return MatmulCount{Part: part, Left: t, Right: t, Computed: t, Count: count}
}

// Each number format accepts the graphs that compute in it and no others.
func TestLabelIsTheGraphs(t *testing.T) {
	graph := func(encoder, attention DType) []MatmulCount {
		return []MatmulCount{of(InEncoder, encoder, 8), of(InAttention, attention, 4), of(InHead, Float32, 2)}
	}
	packed := func(bits int, left DType) []MatmulCount {
		return []MatmulCount{{Part: InEncoder, Left: left, Right: packedWeights, Computed: left, Bits: bits, Count: 8}, of(InAttention, left, 4), of(InHead, Float32, 2)}
	}
	with := func(graph []MatmulCount, extra ...MatmulCount) []MatmulCount { return append(graph, extra...) }
	all := []DType{Float32, Float16, BFloat16, "int8", "int8w", "int4w"}
	for _, test := range []struct {
		name  string
		graph []MatmulCount
		want  DType // "" for none
	}{
		{"float32", graph(Float32, Float32), Float32},
		{"float16", graph(Float16, Float16), Float16},
		{"bfloat16", graph(BFloat16, BFloat16), BFloat16},
		{"bfloat16 with attention in float32", graph(BFloat16, Float32), BFloat16},
		{"int8", graph("int8", "int8"), "int8"},
		{"int8 with attention in float32", graph("int8", Float32), "int8"},
		{"int8 with attention in int16", graph(Int8, int16Operand), Int8},
		{"float32 with attention in int16", graph(Float32, int16Operand), ""},
		{"8-bit weights", packed(8, Float16), "int8w"},
		{"8-bit weights in float32", packed(8, Float32), "int8w"},
		{"4-bit weights", packed(4, Float16), "int4w"},
		{"float32 with attention in float16", graph(Float32, Float16), ""},
		{"float16 with attention in int8", graph(Float16, "int8"), ""},
		{"one wide matrix in float16", with(graph(Float16, Float16), of(InEncoder, Float32, 1)), ""},
		{"one narrow matrix in float32", with(graph(Float32, Float32), MatmulCount{Part: InEncoder, Left: Float32, Right: Float16, Computed: Float32, Count: 1}), ""},
		{"float16 widened by a bias", with(graph(Float16, Float16)[1:], MatmulCount{Part: InEncoder, Left: Float16, Right: Float16, Computed: Float32, Count: 8}), ""},
		{"a head in float16", with(graph(Float16, Float16), of(InHead, Float16, 1)), ""},
		{"another type", graph(otherOperand, otherOperand), ""},
		{"packed weights unpacked", with(packed(8, Float16), of(InEncoder, Float16, 1)), ""},
		{"packed weights of several sizes", with(packed(8, Float16), packed(4, Float16)...), ""},
		{"no encoder", graph(Float32, Float32)[1:], ""},
		{"nothing", nil, ""},
	} {
		for _, dtype := range all {
			err := checkLabel(dtype, test.graph)
			if (err == nil) != (dtype == test.want) || err != nil && !errors.Is(err, ErrDType) {
				t.Errorf("%s as %s: error %v, right is %q", test.name, dtype, err, test.want)
			}
		}
	}
}

func TestLabelErrorNamesTheMatmuls(t *testing.T) {
	err := checkLabel(Float16, []MatmulCount{of(InEncoder, Float16, 7), {Part: InEncoder, Left: Float16, Right: Float32, Computed: Float32, Count: 1}, of(InHead, Float32, 2)})
	want := "float16 was asked for, and 1 matmuls of the encoder are float16 x float32 in float32 (all: 7 float16 x float16 (encoder), 1 float16 x float32 in float32 (encoder), 2 float32 x float32 (head))"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v lacks %q", err, want)
	}
	if text := (MatmulCount{Left: Float16, Right: packedWeights, Computed: Float16, Bits: 4}).String(); text != "float16 x 4-bit weights" {
		t.Errorf("packed weights are %q", text)
	}
}

// On each graph, in each number format and in each variant, the counts are the model's
// linear layers, its attention and its head, in the types that were asked for.
func TestMatmulsOfEachGraph(t *testing.T) {
	l := library(t)
	for _, graph := range []string{"0", "1"} {
		for _, dtype := range []DType{Float32, Float16, BFloat16, Int8} {
			if dtype == Int8 && (graph == "1" || testDevice() == GPU) {
				continue // TestInt8NeedsTheKernels
			}
			t.Setenv("MLXRANK_UNFUSED_GRAPH", graph)
			m, err := l.OpenModel(smallConfig, randomTensors(smallConfig), Options{Device: testDevice(), DType: dtype})
			if err != nil {
				t.Fatal(err)
			}
			variants, err := m.Variants()
			if err != nil {
				t.Fatal(err)
			}
			fused := len(variants) == 0
			if fused {
				variants = []string{""}
			}
			for _, variant := range variants {
				s, err := m.Open(Options{Variant: variant, Threads: 2})
				if err != nil {
					t.Fatalf("%s: %v", dtype, err)
				}
				got := s.Matmuls()
				attention, wide := int64(4), dtype // two in each of two layers
				if fused {
					attention = 4 * attention // of each head
					switch dtype {
					case Int8:
						wide = int16Operand
					case BFloat16:
					default:
						wide = Float32
					}
				}
				// Layers have query, key and value in one, or in the last layer a query
				// apart, and three more.
				want := []MatmulCount{of(InEncoder, dtype, 4+5), of(InAttention, wide, attention), of(InHead, Float32, 2)}
				if describe(got) != describe(want) {
					t.Errorf("%s, variant %q: %s, want %s", dtype, variant, describe(got), describe(want))
				}
				if s.DType() != dtype {
					t.Errorf("label %s, want %s", s.DType(), dtype)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if _, err := s.countMatmuls(); !errors.Is(err, ErrInvalid) {
					t.Errorf("matmuls of a closed session: error %v", err)
				}
			}
			// A model that says it is of another type opens on no graph.
			for _, other := range []DType{Float32, Float16, BFloat16, "int8", "int8w", "int4w"} {
				if other == dtype {
					continue
				}
				m.dtype = other
				if s, err := m.Open(Options{}); !errors.Is(err, ErrDType) {
					t.Errorf("%s opens as %s: %v, error %v", dtype, other, s, err)
				}
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if memory, err := l.Memory(); err != nil || memory.Sessions != 0 {
		t.Errorf("%d sessions are left open, error %v", memory.Sessions, err)
	}
}

// A graph with one matrix of another type than the rest is refused when it is opened.
func TestMatrixOfAnotherTypeIsRefused(t *testing.T) {
	t.Setenv("MLXRANK_UNFUSED_GRAPH", "1")
	l, inject := faulty(t)
	for _, dtype := range []DType{Float32, Float16, BFloat16} {
		inject("type", 1)
		opts := Options{Device: testDevice(), DType: dtype}
		s, err := l.Open(smallConfig, randomTensors(smallConfig), opts)
		if !errors.Is(err, ErrDType) || !strings.Contains(err.Error(), "1 "+string(dtype)+" x float") || !strings.Contains(err.Error(), " in float32 (encoder)") {
			t.Errorf("%s: session %v, error %v", dtype, s, err)
		}
		if s, err = l.Open(smallConfig, randomTensors(smallConfig), opts); err != nil { // the next one is sound
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// auto computes in float16 on a GPU and in float32 on the CPU, never in less.
func TestAutoIsNeverLessThanFloat16(t *testing.T) {
	for device, want := range map[Device]DType{CPU: Float32, GPU: Float16} {
		for _, asked := range []DType{"", AutoDType} {
			if got := resolveDType(asked, device); got != want {
				t.Errorf("%q on %s is %s, want %s", asked, device, got, want)
			}
		}
	}
	s := openSession(t, smallConfig, Options{Device: testDevice()})
	for _, m := range s.Matmuls() {
		for _, operand := range []DType{m.Left, m.Right, m.Computed} {
			if operand != Float32 && operand != Float16 {
				t.Errorf("auto has %s in the %s", m, m.Part)
			}
		}
	}
}

// TestInt8NeedsTheKernels expects an error on the unfused graph, which has no int8.
func TestInt8NeedsTheKernels(t *testing.T) {
	t.Setenv("MLXRANK_UNFUSED_GRAPH", "1")
	_, err := library(t).OpenModel(smallConfig, randomTensors(smallConfig), Options{Device: CPU, DType: Int8})
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "int8 needs the CPU's kernels") {
		t.Errorf("error %v, want ErrInvalid that asks for the kernels", err)
	}
}
