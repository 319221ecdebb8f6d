package engine

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// halfSlack is the tolerance in half precision as a multiple of PyTorch's own
// difference from its float32 logits, since MLX rounds at other points.
const halfSlack = 3

var halfWork = flag.Float64("half-work", 5, "max billions of multiply-adds of TestHalfPrecisionKeepsTheOrder in a pass over the builtin model, and a tenth of it over others")

// halfBands are the longest pairs, in tokens, of the table's rows.
var halfBands = []int{32, 64, 128, 256, 512}

// A halfModel is a model with PyTorch's logits of some pairs.
type halfModel struct {
	name   string
	opened *weights.Model
	tokens []Tokens // the shortest first
	want   []float32
	torch  map[mlx.DType][]float32 // PyTorch's logits in half precision
	bands  bool                    // enough pairs for statistics by length

	deviation float64 // of all golden logits, whatever the sample
}

// TestHalfPrecisionKeepsTheOrder compares logits in half precision with float32's
// and PyTorch's, at all lengths up to 512, on each graph and variant, and logs a table
// by length. No two pairs may get equal logits that differ in float32: pooler and
// classifier are computed in float32. On a CPU, where MLX's matmuls in half precision
// are slow, it takes a sample unless MLXRANK_TEST_LONG is set.
func TestHalfPrecisionKeepsTheOrder(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	table := map[string]*ranks{}
	for _, m := range halfModels(t) {
		t.Run(m.name, func(t *testing.T) {
			library, err := mlx.Load("")
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv(unfusedGraphEnv, "1")
			exact := halfLogits(t, library, m, mlx.Float32, "reference", m.tokens)
			if err := checkLogits(exact, m.want, exactness*m.deviation); err != nil {
				t.Fatal(err)
			}
			for _, dtype := range []mlx.DType{mlx.Float16, mlx.BFloat16} {
				for _, variant := range halfVariants(t, library, m, dtype) {
					m.check(t, library, dtype, variant, exact, table)
				}
			}
		})
	}
	_, want := builtinGoldens(t)
	if rank(inFloat16(want), want, 1).ties == 0 {
		t.Error("control: logits in float16, as if the pooler were computed in it, have no ties")
	}
	t.Log("| dtype | tokens | pairs | off by, of the deviation | ties | Kendall's tau | of the best ten |")
	for _, dtype := range []mlx.DType{mlx.Float16, mlx.BFloat16} {
		for _, lengths := range append(bandNames(), "all", "all, other models") {
			if r := table[string(dtype)+lengths]; r != nil {
				t.Logf("| %s | %s | %s |", dtype, lengths, r)
			}
		}
	}
}

// bandNames returns the names of halfBands.
func bandNames() []string {
	var names []string
	shortest := 1
	for _, longest := range halfBands {
		names = append(names, fmt.Sprintf("%d to %d", shortest, longest))
		shortest = longest + 1
	}
	return names
}

// check compares a model's logits in half precision and adds to the table.
func (m *halfModel) check(t *testing.T, library *mlx.Library, dtype mlx.DType, variant string, exact []float32, table map[string]*ranks) {
	t.Helper()
	labels := len(m.want) / len(m.tokens)
	tokens, want, torch := m.tokens, m.want, m.torch[dtype]
	if variant != "reference" && variant != "qpad" && testDevice() == mlx.CPU {
		// The emulator is slow. The first pairs are the shortest.
		n := min(len(tokens), 10)
		tokens, want, exact = tokens[:n], want[:n*labels], exact[:n*labels]
		torch = torch[:min(len(torch), n*labels)]
	}
	got := halfLogits(t, library, m, dtype, variant, tokens)
	name := fmt.Sprintf("%s %s", dtype, variant)
	allowed := tolerance(DType(dtype)) * m.deviation
	if len(torch) > 0 {
		allowed = halfSlack * worst(torch, want)
		// Long pairs lose the most. They must not hide what short ones lose.
		n := labels * len(tokensUpTo(tokens, 96))
		m.checkLoss(t, name+", up to 96 tokens", tokens[:n/labels], got[:n], want[:n], halfSlack*worst(torch[:n], want[:n]))
	}
	m.checkLoss(t, name, tokens, got, want, allowed)
	for label := range labels {
		a, b := column(got, labels, label), column(exact, labels, label)
		all := rank(a, b, m.deviation)
		if all.ties > 0 {
			t.Errorf("%s: %d pairs of logits are equal that differ in float32", name, all.ties)
		}
		t.Logf("%s: %s", name, all)
		if !m.bands {
			addTo(table, string(dtype)+"all, other models", all)
		} else if len(tokens) == len(m.tokens) {
			addTo(table, string(dtype)+"all", all)
			first := 0
			for i, lengths := range bandNames() {
				end := first
				for end < len(tokens) && len(tokens[end].IDs) <= halfBands[i] {
					end++
				}
				if end-first > 1 {
					r := rank(a[first:end], b[first:end], m.deviation)
					addTo(table, string(dtype)+lengths, r)
					t.Logf("%s, %s tokens: %s", name, lengths, r)
				}
				first = end
			}
		}
	}
}

// checkLoss checks that logits in half precision are off from PyTorch's by what they
// must be, and not by more. PyTorch has the logits of tiny models in half precision;
// with these a dropped layer must fail.
func (m *halfModel) checkLoss(t *testing.T, name string, tokens []Tokens, got, want []float32, allowed float64) {
	t.Helper()
	if off := worst(got, want); !(off <= allowed) {
		t.Errorf("%s: off by %.3g from PyTorch, tolerance %.3g", name, off, allowed)
	}
	if worst(got, want) <= exactness*m.deviation {
		t.Errorf("%s: as exact as float32, so half precision was not used", name)
	}
	if m.torch != nil && checkLogits(controls[2].logits(t, m.opened, tokens), want, allowed) == nil {
		t.Errorf("%s: control: a dropped layer passes the check", name)
	}
}

// tokensUpTo returns the pairs of at most n tokens, of pairs sorted by length.
func tokensUpTo(tokens []Tokens, n int) []Tokens {
	end := 0
	for end < len(tokens) && len(tokens[end].IDs) <= n {
		end++
	}
	return tokens[:end]
}

func addTo(table map[string]*ranks, name string, r ranks) {
	if table[name] == nil {
		table[name] = &ranks{tau: 1, ten: 1}
	}
	table[name].add(r)
}

// ranks describes how logits differ from float32's.
type ranks struct {
	pairs int
	off   float64 // the largest difference, as a share of the deviation
	ties  int     // equal logits that differ in float32
	tau   float64 // Kendall's
	ten   float64 // the share of float32's best ten among the best ten
}

// add keeps the worse of each figure.
func (r *ranks) add(other ranks) {
	r.pairs, r.off, r.ties = max(r.pairs, other.pairs), max(r.off, other.off), max(r.ties, other.ties)
	r.tau, r.ten = min(r.tau, other.tau), min(r.ten, other.ten)
}

func (r ranks) String() string {
	return fmt.Sprintf("%d | %.4f | %d | %.4f | %.0f %%", r.pairs, r.off, r.ties, r.tau, 100*r.ten)
}

func rank(got, exact []float32, deviation float64) ranks {
	r := ranks{pairs: len(got), off: worst(got, exact) / deviation, tau: 1}
	if len(got) > 1 {
		r.tau = stat.Kendall(float64s(got), float64s(exact), nil)
	}
	for i := range got {
		for k := range i {
			if got[i] == got[k] && exact[i] != exact[k] {
				r.ties++
			}
		}
	}
	best := func(logits []float32) []int {
		order := make([]int, len(logits))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(logits[b], logits[a]) })
		return order[:min(10, len(order))]
	}
	theirs := best(exact)
	for _, i := range best(got) {
		if slices.Contains(theirs, i) {
			r.ten += 1 / float64(len(theirs))
		}
	}
	return r
}

func column(logits []float32, columns, at int) []float32 {
	var out []float32
	for i := at; i < len(logits); i += columns {
		out = append(out, logits[i])
	}
	return out
}

// inFloat16 rounds to float16's 11 bits of precision.
func inFloat16(values []float32) []float32 {
	var out []float32
	for _, x := range values {
		unit := math.Ldexp(1, max(math.Ilogb(float64(x)), -14)-10)
		out = append(out, float32(math.RoundToEven(float64(x)/unit)*unit))
	}
	return out
}

// halfVariants returns the variants of the model's unfused graph.
func halfVariants(t *testing.T, library *mlx.Library, m *halfModel, dtype mlx.DType) []string {
	t.Helper()
	opened := m.open(t, library, dtype)
	variants, err := opened.Variants()
	if err := cmp.Or(err, opened.Close()); err != nil {
		t.Fatal(err)
	}
	return variants
}

func (m *halfModel) open(t *testing.T, library *mlx.Library, dtype mlx.DType) *mlx.Model {
	t.Helper()
	opened, err := library.OpenModel(modelConfig(m.opened.Config), tensors(m.opened.Tensors), mlx.Options{Device: testDevice(), DType: dtype})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func halfLogits(t *testing.T, library *mlx.Library, m *halfModel, dtype mlx.DType, variant string, tokens []Tokens) []float32 {
	t.Helper()
	opened := m.open(t, library, dtype)
	defer closeModel(t, opened)
	return variantLogits(t, opened, variant, len(m.want)/len(m.tokens), tokens)
}

// halfModels returns every golden model, with its pairs by length.
func halfModels(t *testing.T) []*halfModel {
	t.Helper()
	var family struct {
		Models []tinyGolden `json:"models"`
	}
	readGolden(t, "family.json.gz", &family)
	var models []*halfModel
	for _, g := range append(tinyGoldens(t), family.Models...) {
		m := &halfModel{name: g.Name, opened: openTiny(t, g), tokens: g.tokens(), want: g.Logits["float32"]}
		if len(g.Logits) > 1 {
			m.torch = map[mlx.DType][]float32{
				mlx.Float16: g.Logits["float16"], mlx.BFloat16: g.Logits["bfloat16"],
			}
		}
		models = append(models, m.sample(*halfWork/10))
	}
	pairs, want := builtinGoldens(t)
	tokens, err := builtin(t).Tokenize(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	var head randomHeadGolden
	readGolden(t, "randomhead.json.gz", &head)
	m := &halfModel{name: "random head", opened: openModel(t, randomHeadDir(t, head.Seed)), want: head.Logits}
	for _, at := range head.Pairs {
		m.tokens = append(m.tokens, tokens[at])
	}
	models = append(models, m.sample(*halfWork/10))
	m = &halfModel{name: "builtin", opened: openModel(t, weights.Builtin), tokens: tokens, want: want, bands: true}
	return append(models, m.sample(*halfWork))
}

// sample sorts the pairs by length and keeps pairs of all lengths for at most so many
// billions of multiply-adds. On a GPU, and with MLXRANK_TEST_LONG, it keeps all.
func (m *halfModel) sample(work float64) *halfModel {
	m.deviation = deviation(m.want)
	labels := len(m.want) / len(m.tokens)
	order := make([]int, len(m.tokens))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(m.tokens[a].IDs) - len(m.tokens[b].IDs) })
	left := work * 1e9
	if testDevice() == mlx.GPU || os.Getenv("MLXRANK_TEST_LONG") != "" {
		left = math.Inf(1)
	}
	var kept []int
	c := m.opened.Config
	for i := range order {
		at := i * 11 % len(order) // visits all, as no number of pairs is a multiple of 11
		length := len(m.tokens[order[at]].IDs)
		work := float64(length * c.Layers * c.HiddenSize * (4*c.HiddenSize + 2*c.IntermediateSize + 2*length))
		if work <= left {
			left -= work
			kept = append(kept, at)
		}
	}
	slices.Sort(kept)
	pick := func(logits []float32) (picked []float32) {
		for _, at := range kept {
			i := order[at]
			picked = append(picked, logits[i*labels:(i+1)*labels]...)
		}
		return picked
	}
	var tokens []Tokens
	for _, at := range kept {
		tokens = append(tokens, m.tokens[order[at]])
	}
	m.tokens, m.want = tokens, pick(m.want)
	for dtype, logits := range m.torch {
		m.torch[dtype] = pick(logits)
	}
	return m
}
