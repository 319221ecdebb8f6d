package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// logits holds one number per pair, or one per pair and label, flattened.
type logits []float32

func (l *logits) UnmarshalJSON(data []byte) error {
	var flat []float32
	if json.Unmarshal(data, &flat) == nil {
		*l = flat
		return nil
	}
	var rows [][]float32
	if err := json.Unmarshal(data, &rows); err != nil {
		return err
	}
	*l = slices.Concat(rows...)
	return nil
}

type tinyGolden struct {
	Name   string         `json:"name"`
	Config map[string]any `json:"config"`
	Seed   uint64         `json:"seed"`
	SHA256 string         `json:"sha256"`
	Pairs  []struct {
		IDs     []int32 `json:"input_ids"`
		TypeIDs []int32 `json:"token_type_ids"`
	} `json:"pairs"`
	// By dtype.
	Logits map[string]logits `json:"logits"`
}

// short returns the pairs of at most n tokens with their float32 logits, for
// checks that do not need long pairs.
func (g *tinyGolden) short(n int) (tokens []Tokens, want []float32) {
	return firstPairs(g.tokens(), g.Logits["float32"], n)
}

func firstPairs(tokens []Tokens, logits []float32, n int) (short []Tokens, kept []float32) {
	labels := len(logits) / len(tokens)
	for i, t := range tokens {
		if len(t.IDs) <= n {
			short = append(short, t)
			kept = append(kept, logits[i*labels:(i+1)*labels]...)
		}
	}
	return short, kept
}

func (g *tinyGolden) tokens() []Tokens {
	var out []Tokens
	for _, p := range g.Pairs {
		out = append(out, Tokens{IDs: p.IDs, TypeIDs: p.TypeIDs})
	}
	return out
}

func tinyGoldens(t *testing.T) []tinyGolden {
	t.Helper()
	var file struct {
		Models []tinyGolden `json:"models"`
	}
	readGolden(t, "tiny.json.gz", &file)
	if len(file.Models) < 5 {
		t.Fatalf("%d tiny models, want at least 5", len(file.Models))
	}
	return file.Models
}

// openTiny makes the model's files, checks that PyTorch used the same ones, and
// opens them.
func openTiny(t *testing.T, g tinyGolden) *weights.Model {
	t.Helper()
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: g.Config, Seed: g.Seed})
	file, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(file); hex.EncodeToString(sum[:]) != g.SHA256 {
		t.Fatalf("%s: weights have SHA-256 %x, PyTorch's %s", g.Name, sum, g.SHA256)
	}
	return openModel(t, dir)
}

func openModel(t *testing.T, ref string) *weights.Model {
	t.Helper()
	model, err := weights.Open(t.Context(), ref, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := model.Close(); err != nil {
			t.Error(err)
		}
	})
	return model
}

// computeLogits returns the model's logits, with two tickets in flight.
func computeLogits(t *testing.T, config mlx.ModelConfig, model *weights.Model, dtype mlx.DType, tokens []Tokens) []float32 {
	t.Helper()
	return tensorLogits(t, config, tensors(model.Tensors), dtype, tokens)
}

// tensorLogits does so for tensors that no file has.
func tensorLogits(t *testing.T, config mlx.ModelConfig, tensors []mlx.Tensor, dtype mlx.DType, tokens []Tokens) []float32 {
	t.Helper()
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	session, err := library.Open(config, tensors, mlx.Options{Device: testDevice(), DType: dtype})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}()
	return sessionLogits(t, session, config.Labels, tokens, schedule.DefaultLimits(testDevice() == mlx.GPU))
}

func sessionLogits(t *testing.T, session *mlx.Session, labels int, tokens []Tokens, limits schedule.Limits) []float32 {
	t.Helper()
	out := make([]float32, len(tokens)*labels)
	for _, b := range makeBatches(tokens, limits) {
		ticket, err := session.Submit(b.input)
		if err != nil {
			t.Fatal(err)
		}
		logits := make([]float32, len(b.rows)*labels)
		if _, err := session.Collect(ticket, logits); err != nil {
			t.Fatal(err)
		}
		for i, at := range b.rows {
			copy(out[at*labels:], logits[i*labels:(i+1)*labels])
		}
	}
	return out
}

// A control is a mistake in the model or its inputs that gives plausible logits.
type control struct {
	name   string
	config func(*mlx.ModelConfig)
	tokens func(Tokens) Tokens
}

var controls = []control{
	{"type ids zeroed", nil, func(t Tokens) Tokens {
		t.TypeIDs = make([]int32, len(t.IDs))
		return t
	}},
	{"pair swapped", nil, swap},
	{"one layer dropped", func(c *mlx.ModelConfig) { c.Layers-- }, nil},
	{"the other GELU", func(c *mlx.ModelConfig) {
		if c.Activation == mlx.GELU {
			c.Activation = mlx.GELUTanh
		} else {
			c.Activation = mlx.GELU
		}
	}, nil},
	{"LayerNorm epsilon 1e-3", func(c *mlx.ModelConfig) { c.LayerNormEps = 1e-3 }, nil},
}

// swap returns the pair with query and document exchanged.
func swap(t Tokens) Tokens {
	second := 0
	for second < len(t.TypeIDs) && t.TypeIDs[second] == 0 {
		second++
	}
	out := Tokens{IDs: []int32{t.IDs[0]}, TypeIDs: []int32{0}}
	add := func(ids []int32, typeID int32) {
		for _, id := range ids {
			out.IDs = append(out.IDs, id)
			out.TypeIDs = append(out.TypeIDs, typeID)
		}
	}
	add(t.IDs[max(second, 1):], 0)
	add(t.IDs[1:max(second, 1)], 1)
	return out
}

func (c control) logits(t *testing.T, model *weights.Model, tokens []Tokens) []float32 {
	t.Helper()
	config := modelConfig(model.Config)
	if c.config != nil {
		c.config(&config)
	}
	if config.Layers == 0 {
		return make([]float32, len(tokens)*config.Labels) // no layers remain: certainly wrong
	}
	if c.tokens != nil {
		changed := make([]Tokens, len(tokens))
		for i := range tokens {
			changed[i] = c.tokens(tokens[i])
		}
		tokens = changed
	}
	return computeLogits(t, config, model, mlx.Float32, tokens)
}

func checkControls(t *testing.T, model *weights.Model, tokens []Tokens, want []float32, tolerance float64) {
	t.Helper()
	for _, c := range controls {
		got := c.logits(t, model, tokens)
		if err := checkLogits(got, want, tolerance); err == nil {
			t.Errorf("control %q passes the check", c.name)
		} else {
			t.Logf("control %q is off by %.0f times the tolerance", c.name, worst(got, want)/tolerance)
		}
	}
}

// checkFloat32 compares a model's float32 logits with the golden ones.
func checkFloat32(t *testing.T, g tinyGolden, model *weights.Model) {
	t.Helper()
	want := g.Logits["float32"]
	got := computeLogits(t, modelConfig(model.Config), model, mlx.Float32, g.tokens())
	if err := checkLogits(got, want, exactness*deviation(want)); err != nil {
		t.Error(err)
	}
	t.Logf("float32: off by %.2g of the deviation, tolerance %g", worst(got, want)/deviation(want), exactness)
}

func TestTinyModelsMatchPyTorch(t *testing.T) {
	for _, g := range tinyGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			model := openTiny(t, g)
			checkFloat32(t, g, model)
			tokens, want := g.short(128)
			checkControls(t, model, tokens, want, exactness*deviation(want))
		})
	}
}

type builtinGolden struct {
	Query    string  `json:"query"`
	Document string  `json:"document"`
	Logit    float32 `json:"logit"`
}

func builtinGoldens(t testing.TB) (pairs []Pair, want []float32) {
	t.Helper()
	for _, g := range readGoldenLines[builtinGolden](t, "builtin.jsonl.gz") {
		if g.Query != "" || g.Document != "" { // the first line describes how the file was made
			pairs = append(pairs, Pair{g.Query, g.Document})
			want = append(want, g.Logit)
		}
	}
	if len(pairs) < 300 {
		t.Fatalf("%d pairs, want at least 300", len(pairs))
	}
	return pairs, want
}

func TestBuiltinMatchesPyTorch(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	pairs, want := builtinGoldens(t)
	result, err := builtin(t).Score(context.Background(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkLogits(result.Logits, want, exactness*deviation(want)); err != nil {
		t.Error(err)
	}
	if result.Truncated == 0 {
		t.Error("no pair was truncated: the goldens lack long pairs")
	}
	t.Logf("%d pairs, %d truncated: off by %.2g of the deviation %.3g, tolerance %g",
		len(pairs), result.Truncated, worst(result.Logits, want)/deviation(want), deviation(want), exactness)
}

// TestBuiltinControlsFail uses some of the pairs only, since each control is a
// pass over the model.
func TestBuiltinControlsFail(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	pairs, want := builtinGoldens(t)
	pairs, want = pairs[:24], want[:24]
	tokens, err := builtin(t).Tokenize(context.Background(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	checkControls(t, openModel(t, weights.Builtin), tokens, want, exactness*deviation(want))
}
