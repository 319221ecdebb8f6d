package engine

import (
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// An encoderGolden is a model of any architecture, with PyTorch's logits.
type encoderGolden struct {
	weightstest.Directory
	Name  string `json:"name"`
	Pairs []struct {
		IDs     []int32 `json:"input_ids"`
		TypeIDs []int32 `json:"token_type_ids"` // none: the model has no types
	} `json:"pairs"`
	// By dtype.
	Logits map[string]logits `json:"logits"`
}

func encoderGoldens(t *testing.T, file string, least int) []encoderGolden {
	t.Helper()
	var goldens struct {
		Models []encoderGolden `json:"models"`
	}
	readGolden(t, file, &goldens)
	if len(goldens.Models) < least {
		t.Fatalf("%d models in %s, want at least %d", len(goldens.Models), file, least)
	}
	return goldens.Models
}

func (g *encoderGolden) tokens() []Tokens {
	var out []Tokens
	for _, p := range g.Pairs {
		types := p.TypeIDs
		if types == nil {
			types = make([]int32, len(p.IDs))
		}
		out = append(out, Tokens{IDs: p.IDs, TypeIDs: types})
	}
	return out
}

// architecture returns the name of the table's row: the class of config.json, and
// whether modules follow it.
func (g *encoderGolden) architecture() string {
	name := g.Config()["architectures"].([]any)[0].(string)
	if _, ok := g.Files["1_Pooling/config.json"]; ok {
		name += ", module stack"
	}
	return name
}

// open makes the model's files, checks that PyTorch used the same weights, and opens them.
func (g *encoderGolden) open(t *testing.T) *weights.Model {
	t.Helper()
	dir := t.TempDir()
	g.Write(t, dir)
	return openModel(t, dir)
}

// half returns the model with PyTorch's logits, the shortest pairs first, for at most
// so many billions of multiply-adds.
func (g *encoderGolden) half(model *weights.Model, work float64) *halfModel {
	m := &halfModel{name: g.Name, opened: model, tokens: g.tokens(), want: g.Logits["float32"]}
	if len(g.Logits) > 1 {
		m.torch = map[mlx.DType][]float32{mlx.Float16: g.Logits["float16"], mlx.BFloat16: g.Logits["bfloat16"]}
	}
	return m.sample(work)
}

// keepShortest keeps the shortest pair, and more for at most so many multiply-adds. The
// deviation stays.
func (m *halfModel) keepShortest(work int) {
	c := m.opened.Config
	n := 0
	for n < len(m.tokens) {
		length := len(m.tokens[n].IDs)
		if work -= length * c.Layers * c.HiddenSize * (4*c.HiddenSize + 2*c.IntermediateSize); work < 0 && n > 0 {
			break
		}
		n++
	}
	labels := len(m.want) / len(m.tokens)
	m.tokens, m.want = m.tokens[:n], m.want[:n*labels]
}

// graphs returns the values of MLXRANK_UNFUSED_GRAPH that make a difference.
func graphs() []string {
	if runtime.GOOS == "darwin" || testDevice() == mlx.GPU {
		return []string{"1"}
	}
	return []string{"0", "1"}
}

// An offTable has the worst differences, as shares of the deviation, of goldens by architecture.
type offTable struct {
	rows    []string
	columns []string
	off     map[[2]string]float64
	goldens map[string]int
	equal   []string // goldens whose logits are equal on both graphs
}

func (o *offTable) add(row, column string, off float64) {
	if o.off == nil {
		o.off, o.goldens = map[[2]string]float64{}, map[string]int{}
	}
	if !slices.Contains(o.rows, row) {
		o.rows = append(o.rows, row)
	}
	if !slices.Contains(o.columns, column) {
		o.columns = append(o.columns, column)
	}
	at := [2]string{row, column}
	o.off[at] = max(o.off[at], off)
}

func (o *offTable) log(t *testing.T) {
	t.Helper()
	t.Logf("| architecture | models | %s |", strings.Join(o.columns, " | "))
	for _, row := range o.rows {
		line := fmt.Sprintf("| %s | %d |", row, o.goldens[row])
		for _, column := range o.columns {
			line += fmt.Sprintf(" %.1e |", o.off[[2]string{row, column}])
		}
		t.Log(line)
	}
}

// refusedEncoders lists the models that CrossEncoder computes and weights refuses, with a
// part of the error.
var refusedEncoders = map[string]string{
	"stack of xlm-roberta: mean, then cls": "in the order cls, max, mean",
}

func (g *encoderGolden) checkRefused(t *testing.T, because string) {
	t.Helper()
	dir := t.TempDir()
	g.Write(t, dir)
	_, err := weights.Open(t.Context(), dir, weights.Options{})
	if err == nil || !strings.Contains(err.Error(), because) {
		t.Errorf("got %v, want an error with %q", err, because)
	}
}

// TestEncoders compares tiny models of every architecture and head with PyTorch, on
// both graphs and in every dtype, and logs a table. Where the processor has no kernels for
// bfloat16, both of its columns are of the unfused graph.
func TestEncoders(t *testing.T) {
	table := &offTable{}
	for i, g := range encoderGoldens(t, "encoders.json.gz", 20) {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(g.Name, func(t *testing.T) {
			if because, ok := refusedEncoders[g.Name]; ok {
				g.checkRefused(t, because)
				return
			}
			model := g.open(t)
			m := g.half(model, 1e9)
			checkGraphs(t, m, g.architecture(), table)
			checkSpoiled(t, m)
			if !testing.Short() {
				checkHalves(t, g.half(model, *halfWork/100), g.architecture(), table)
			}
			table.goldens[g.architecture()]++
		})
	}
	table.log(t)
}

// largeModel is how many multiply-adds for a token make controls take long.
const largeModel = 10e6

// TestShapes compares models of exactly the shapes of real rerankers with PyTorch, with
// random weights and few words. MLXRANK_TEST_LONG=1 computes all pairs.
func TestShapes(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	table := &offTable{}
	for _, g := range encoderGoldens(t, "shapes.json.gz", 8) {
		long := os.Getenv("MLXRANK_TEST_LONG") != ""
		if g.Name == "bge-reranker-v2-m3" && !long {
			continue // its weights have 1.2 GB
		}
		t.Run(g.Name, func(t *testing.T) {
			model := g.open(t)
			checkGraphs(t, g.half(model, 10), g.Name, table)
			c := model.Config
			if long || c.Layers*c.HiddenSize*(4*c.HiddenSize+2*c.IntermediateSize) < largeModel {
				m := g.half(model, 10)
				m.keepShortest(3e9)
				if c.Layers > 12 && !c.PreNorm {
					// All tokens of so deep a random model are nearly equal in the end.
					checkSpoiled(t, m, "another pooling")
				} else {
					checkSpoiled(t, m)
				}
			}
			table.goldens[g.Name]++
		})
	}
	table.log(t)
}

// checkGraphs compares the float32 logits of each graph with PyTorch's.
func checkGraphs(t *testing.T, m *halfModel, row string, table *offTable) {
	t.Helper()
	names := map[string]string{"0": "float32, fused", "1": "float32, unfused"}
	both := map[string][]float32{}
	for _, unfused := range graphs() {
		t.Setenv(unfusedGraphEnv, unfused)
		got := computeLogits(t, modelConfig(m.opened.Config), m.opened, mlx.Float32, m.tokens)
		if err := checkLogits(got, m.want, exactness*m.deviation); err != nil {
			t.Errorf("%s: %v", names[unfused], err)
		}
		off := worst(got, m.want) / m.deviation
		t.Logf("%s: %d pairs off by %.2g of the deviation, tolerance %g", names[unfused], len(m.tokens), off, exactness)
		table.add(row, names[unfused], off)
		both[unfused] = got
	}
	if len(both) == 2 && slices.Equal(both["0"], both["1"]) {
		table.equal = append(table.equal, row)
		if len(m.want) > 2 || len(table.equal) > 1 { // one or two logits may be equal by chance, once
			t.Errorf("both graphs' logits are equal to the last bit, so one graph computed both: %q", table.equal)
		}
	}
}

// checkHalves compares the logits in half precision with PyTorch's own.
func checkHalves(t *testing.T, m *halfModel, row string, table *offTable) {
	t.Helper()
	library, err := mlx.Load("")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(unfusedGraphEnv, "1")
	exact := halfLogits(t, library, m, mlx.Float32, "reference", m.tokens)
	for _, dtype := range []mlx.DType{mlx.Float16, mlx.BFloat16} {
		figures := map[string]*ranks{}
		for _, variant := range halfVariants(t, library, m, dtype) {
			m.check(t, library, dtype, variant, exact, figures)
		}
		for _, r := range figures {
			table.add(row, string(dtype), r.off)
		}
	}
	// The fused graph has bfloat16 on some processors.
	t.Setenv(unfusedGraphEnv, graphs()[0])
	got := computeLogits(t, modelConfig(m.opened.Config), m.opened, mlx.BFloat16, m.tokens)
	if off, allowed := worst(got, m.want), halfSlack*worst(m.torch[mlx.BFloat16], m.want); off > allowed {
		t.Errorf("bfloat16, fused: off by %.3g from PyTorch, tolerance %.3g", off, allowed)
	}
	table.add(row, "bfloat16, fused", worst(got, m.want)/m.deviation)
}

// A spoiler is a mistake in the description of an encoder or its head that gives plausible
// logits. It returns false if the model has nothing to make it with.
type spoiler struct {
	name string
	make func(*spoiled) bool
}

// A spoiled is what a spoiler changes.
type spoiled struct {
	config  mlx.ModelConfig
	tensors []mlx.Tensor
	tokens  []Tokens
}

var spoilers = []spoiler{
	{"tokens reversed", func(s *spoiled) bool {
		s.tokens = reversed(s.tokens)
		return true
	}},
	{"type ids zeroed", func(s *spoiled) bool {
		has := false
		for i, t := range s.tokens {
			has = has || slices.Contains(t.TypeIDs, 1)
			s.tokens[i].TypeIDs = make([]int32, len(t.IDs))
		}
		return has
	}},
	{"one layer dropped", func(s *spoiled) bool {
		s.config.Layers--
		s.tensors = slices.DeleteFunc(s.tensors, func(t mlx.Tensor) bool {
			return strings.HasPrefix(t.Name, fmt.Sprintf("encoder.layer.%d.", s.config.Layers))
		})
		return true
	}},
	{"the other GELU", func(s *spoiled) bool {
		if s.config.Activation == mlx.GELU {
			s.config.Activation = mlx.GELUTanh
		} else {
			s.config.Activation = mlx.GELU
		}
		return true
	}},
	{"LayerNorm epsilon 1e-3", func(s *spoiled) bool { s.config.LayerNormEps = 1e-3; return true }},
	{"positions from 0", func(s *spoiled) bool { return s.shiftPositions(s.config.FirstPosition) }},
	{"positions 1 less", func(s *spoiled) bool { return s.shiftPositions(1) }},
	{"RoPE bases swapped", func(s *spoiled) bool {
		c := &s.config
		c.RopeBase, c.LocalRopeBase = c.LocalRopeBase, c.RopeBase
		return c.Window > 0 && c.RopeBase != c.LocalRopeBase
	}},
	{"another local RoPE base", func(s *spoiled) bool { s.config.LocalRopeBase /= 2; return s.config.Window > 0 }},
	{"interleaved RoPE", func(s *spoiled) bool {
		s.eachTensor(func(name string) bool {
			return strings.Contains(name, "attention.self.query.") || strings.Contains(name, "attention.self.key.")
		}, func(rows [][]byte) [][]byte { return interleave(rows, s.config.HiddenSize/s.config.Heads) })
		return s.config.RopeBase > 0
	}},
	{"window 1 more", func(s *spoiled) bool { return s.moveWindow(1) }},
	{"window 1 less", func(s *spoiled) bool { return s.moveWindow(-1) }},
	{"window not halved", func(s *spoiled) bool { return s.moveWindow(s.config.Window) }},
	{"no local layers", func(s *spoiled) bool { s.config.GlobalEvery = 1; return s.moveWindow(0) }},
	{"halves of the gate swapped", func(s *spoiled) bool {
		s.eachTensor(func(name string) bool { return strings.Contains(name, "intermediate.dense.") }, func(rows [][]byte) [][]byte {
			return slices.Concat(rows[len(rows)/2:], rows[:len(rows)/2])
		})
		return s.config.Gated
	}},
	{"another pooling", func(s *spoiled) bool { s.config.Pooling = otherPooling(s.config.Pooling); return true }},
	{"head without activation", func(s *spoiled) bool {
		for i := range s.config.Head {
			if h := &s.config.Head[i]; !h.LayerNorm && h.Activation != mlx.Identity {
				h.Activation = mlx.Identity
				return true
			}
		}
		return false
	}},
	{"head without residual", func(s *spoiled) bool {
		for i := range s.config.Head {
			if h := &s.config.Head[i]; h.Residual {
				h.Residual = false
				return true
			}
		}
		return false
	}},
	{"embeddings not projected", func(s *spoiled) bool {
		s.eachTensor(func(name string) bool { return name == "embeddings_project.weight" }, func(rows [][]byte) [][]byte {
			return slices.Concat(rows[1:], rows[:1])
		})
		return s.config.EmbeddingSize != s.config.HiddenSize
	}},
}

// shiftPositions lets pairs begin that many rows earlier.
func (s *spoiled) shiftPositions(by int) bool {
	s.config.FirstPosition -= by
	s.config.MaxPositions += by // as many rows as before
	return by > 0 && s.config.FirstPosition >= 0
}

// moveWindow does nothing to pairs that have no tokens so far apart.
func (s *spoiled) moveWindow(by int) bool {
	if s.config.Window == 0 {
		return false
	}
	least := s.config.Window + max(by, 0)
	s.config.Window += by
	return s.config.Window > 0 && slices.ContainsFunc(s.tokens, func(t Tokens) bool { return len(t.IDs) > least+1 })
}

// eachTensor replaces the rows of the tensors with matching names.
func (s *spoiled) eachTensor(matches func(name string) bool, change func(rows [][]byte) [][]byte) {
	for i, t := range s.tensors {
		if matches(t.Name) {
			rows := slices.Collect(slices.Chunk(t.Data, len(t.Data)/t.Shape[0]))
			s.tensors[i].Data = slices.Concat(change(rows)...)
		}
	}
}

// interleave puts the rows of each head in an order with which the rotation of halves is
// the rotation of neighbours.
func interleave(rows [][]byte, head int) [][]byte {
	out := make([][]byte, len(rows))
	for i := range rows {
		at := i % head
		out[i] = rows[i-at+2*(at%(head/2))+at/(head/2)]
	}
	return out
}

// otherPooling returns a pooling with as many parts.
func otherPooling(p mlx.Pooling) mlx.Pooling {
	first := p & -p
	for other := mlx.PoolCLS; other <= mlx.PoolLast; other <<= 1 {
		if p&other == 0 {
			return p&^first | other
		}
	}
	panic(fmt.Sprintf("%d poolings", bits.OnesCount(uint(p))))
}

// checkSpoiled checks that no mistake passes the check of float32, except those named.
func checkSpoiled(t *testing.T, m *halfModel, except ...string) {
	t.Helper()
	var passed []string
	for _, mistake := range spoilers {
		s := &spoiled{modelConfig(m.opened.Config), tensors(m.opened.Tensors), slices.Clone(m.tokens)}
		s.config.Head = slices.Clone(s.config.Head)
		if slices.Contains(except, mistake.name) || !mistake.make(s) {
			continue
		}
		got := tensorLogits(t, s.config, s.tensors, mlx.Float32, s.tokens)
		if checkLogits(got, m.want, exactness*m.deviation) == nil {
			t.Errorf("control %q passes the check", mistake.name)
		}
		passed = append(passed, fmt.Sprintf("%s %.0f", mistake.name, worst(got, m.want)/m.deviation/exactness))
	}
	t.Logf("controls are off by so many times the tolerance: %s", strings.Join(passed, ", "))
}
