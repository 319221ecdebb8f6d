package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// Bounds of int8 against float32, over the pairs of the builtin golden.
const (
	int8Mean  = 0.02 // of the deviation
	int8Worst = 0.12 // of the deviation
	int8Tau   = 0.97 // mean over queries
	int8Ten   = 0.85 // share of the ten best pairs that are among float32's
)

// checkInt8 is the check that logits in int8 must pass and negative controls must fail.
func checkInt8(pairs []Pair, got, want []float32) (string, error) {
	all := rank(got, want, deviation(want))
	mean, tau, queries := 0.0, 0.0, 0
	for i := range got {
		mean += math.Abs(float64(got[i]-want[i])) / deviation(want) / float64(len(got))
	}
	for first := 0; first < len(pairs); {
		end := first
		for end < len(pairs) && pairs[end].Query == pairs[first].Query {
			end++
		}
		if end-first >= 5 {
			tau += rank(got[first:end], want[first:end], 1).tau
			queries++
		}
		first = end
	}
	tau /= float64(queries)
	found := fmt.Sprintf("mean %.4f and worst %.3f of the deviation, Kendall's tau %.4f over %d queries, %.0f %% of the best ten", mean, all.off, tau, queries, 100*all.ten)
	if !(mean <= int8Mean && all.off <= int8Worst && tau >= int8Tau && all.ten >= int8Ten) {
		return found, errors.New(found)
	}
	return found, nil
}

// TestBuiltinInInt8 bounds the loss of int8 on real weights. A wrong scale of one
// matmul must break a bound, and so would rows that are not rotated: their mean
// difference is about 0.055 deviations. The bits of a score must not depend on the
// other pairs of its batch.
func TestBuiltinInInt8(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	skipWithoutInt8(t)
	pairs, want := builtinGoldens(t)
	tokens, err := builtin(t).Tokenize(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	model := openModel(t, weights.Builtin)
	parts := tensors(model.Tensors)
	got := int8Logits(t, model, parts, tokens)
	found, err := checkInt8(pairs, got, want)
	t.Log(found)
	if err != nil {
		t.Error(err)
	}
	if worst(got, want) < 100*exactness*deviation(want) {
		t.Errorf("off by %.2g of the deviation: too exact for int8", worst(got, want)/deviation(want))
	}
	const some = 40
	if alone := int8Logits(t, model, parts, tokens[some/2:some]); !slices.Equal(alone, got[some/2:some]) {
		t.Error("the same pairs get other bits in another batch")
	}
	at := slices.IndexFunc(parts, func(p mlx.Tensor) bool { return strings.HasSuffix(p.Name, "encoder.layer.3.output.dense.weight") })
	parts[at].Data = scaled(parts[at].Data, 1.05)
	if found, err := checkInt8(pairs, int8Logits(t, model, parts, tokens), want); err == nil {
		t.Errorf("control: a scale that is 5 %% off passes: %s", found)
	}
}

// int8Family bounds the largest difference of int8 from PyTorch's float32 on models
// with random weights, of each architecture, as a share of the deviation.
const int8Family = 0.4

// TestInt8OfEveryArchitecture compares int8 with PyTorch. A dropped layer must fail
// the check.
func TestInt8OfEveryArchitecture(t *testing.T) {
	skipWithoutInt8(t)
	var family struct {
		Models []tinyGolden `json:"models"`
	}
	if !testing.Short() {
		readGolden(t, "family.json.gz", &family)
	}
	for _, g := range append(tinyGoldens(t), family.Models...) {
		t.Run(g.Name, func(t *testing.T) {
			tokens, want := g.short(128)
			checkInt8Loss(t, openTiny(t, g), tokens, want)
		})
	}
	for _, g := range encoderGoldens(t, "encoders.json.gz", 20) {
		if _, refused := refusedEncoders[g.Name]; refused {
			continue
		}
		t.Run(g.Name, func(t *testing.T) {
			tokens, want := firstPairs(g.tokens(), g.Logits["float32"], 128)
			checkInt8Loss(t, g.open(t), tokens, want)
		})
	}
}

func checkInt8Loss(t *testing.T, model *weights.Model, tokens []Tokens, want []float32) {
	t.Helper()
	off := worst(int8Logits(t, model, tensors(model.Tensors), tokens), want) / deviation(want)
	t.Logf("%d logits, off by %.3f of the deviation", len(want), off)
	if !(off <= int8Family) {
		t.Errorf("off by %.3f of the deviation, at most %.2g", off, int8Family)
	}
	if off <= exactness {
		t.Error("as exact as float32, so int8 was not used")
	}
	if worst(controls[2].logits(t, model, tokens), want) <= int8Family*deviation(want) {
		t.Error("control: a dropped layer passes the check")
	}
}

// TestInt8OfOddChannels gives one output of each matmul only zeros, one the same
// number in each weight, and one tiny numbers: none has a usual scale.
func TestInt8OfOddChannels(t *testing.T) {
	skipWithoutInt8(t)
	g := tinyGoldens(t)[1]
	model := openTiny(t, g)
	parts, changed := tensors(model.Tensors), 0
	for i, p := range parts {
		if !strings.Contains(p.Name, "encoder.layer") || len(p.Shape) != 2 {
			continue
		}
		changed++
		row := 4 * p.Shape[1]
		zeros, same := slices.Repeat([]byte{0}, row), slices.Repeat(p.Data[:4], p.Shape[1])
		parts[i].Data = slices.Concat(zeros, same, scaled(p.Data[2*row:3*row], 1e-38), p.Data[3*row:])
	}
	if want := 6 * model.Config.Layers; changed != want {
		t.Fatalf("%d weights changed, want %d", changed, want)
	}
	tokens, golden := g.short(64)
	exact := logitsOf(t, mlx.Float32, model, parts, tokens)
	if off := worst(logitsOf(t, mlx.Int8, model, parts, tokens), exact) / deviation(exact); !(off <= int8Family) {
		t.Errorf("off by %.3f of the deviation, at most %.2g", off, int8Family)
	}
	if worst(golden, exact) <= int8Family*deviation(exact) {
		t.Error("control: the channels do not matter")
	}
}

func skipWithoutInt8(t *testing.T) {
	t.Helper()
	if testDevice() == mlx.GPU {
		t.Skip("int8 is computed on a CPU")
	}
}

func int8Logits(t *testing.T, model *weights.Model, parts []mlx.Tensor, tokens []Tokens) []float32 {
	t.Helper()
	return logitsOf(t, mlx.Int8, model, parts, tokens)
}

// logitsOf returns the logits of a model with these tensors on the CPU.
func logitsOf(t *testing.T, dtype mlx.DType, model *weights.Model, parts []mlx.Tensor, tokens []Tokens) []float32 {
	t.Helper()
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	opened, err := library.OpenModel(modelConfig(model.Config), parts, mlx.Options{Device: mlx.CPU, DType: dtype})
	if err != nil {
		t.Fatal(err)
	}
	defer closeModel(t, opened)
	return variantLogits(t, opened, "", model.Config.Labels, tokens)
}

// scaled returns float32 numbers multiplied by a factor.
func scaled(data []byte, by float32) []byte {
	out := make([]byte, 0, len(data))
	for at := 0; at < len(data); at += 4 {
		x := math.Float32frombits(binary.NativeEndian.Uint32(data[at:]))
		out = binary.NativeEndian.AppendUint32(out, math.Float32bits(by*x))
	}
	return out
}
