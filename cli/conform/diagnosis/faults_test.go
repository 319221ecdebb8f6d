package diagnosis

import (
	"cmp"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A faultCase is a faulty server and the faults that must be found.
type faultCase struct {
	name   string
	server fakeServer
	want   []fault
	slow   bool // shows with real weights only
}

func zeroTypes(t engine.Tokens) engine.Tokens {
	t.TypeIDs = make([]int32, len(t.IDs))
	return t
}

const (
	cls = 101
	sep = 102
)

// framed puts other special tokens around texts, and refuses pairs that are too long.
func framed(maxLength int, middle, last []int32) func(query, document []int32) ([]int32, []int32, error) {
	return func(query, document []int32) ([]int32, []int32, error) {
		ids := slices.Concat([]int32{cls}, query, middle, document, last)
		if len(ids) > maxLength {
			return nil, nil, errTooLong
		}
		types := make([]int32, len(ids))
		for i := 1 + len(query) + len(middle); i < len(types); i++ {
			types[i] = 1
		}
		return ids, types, nil
	}
}

// build makes a pair of BERT's.
func build(query, document []int32) ([]int32, []int32, error) {
	ids := slices.Concat([]int32{cls}, query, []int32{sep}, document, []int32{sep})
	types := make([]int32, len(ids))
	for i := len(query) + 2; i < len(types); i++ {
		types[i] = 1
	}
	return ids, types, nil
}

// only cuts the document, and refuses a query that is too long.
func only(maxLength int, left bool) func(query, document []int32) ([]int32, []int32, error) {
	return func(query, document []int32) ([]int32, []int32, error) {
		room := maxLength - 3 - len(query)
		switch {
		case room < 0:
			return nil, nil, errTooLong
		case len(document) > room && left:
			document = document[len(document)-room:]
		case len(document) > room:
			document = document[:room]
		}
		return build(query, document)
	}
}

func blind(maxLength int) func(query, document []int32) ([]int32, []int32, error) {
	return func(query, document []int32) ([]int32, []int32, error) {
		ids, types, err := build(query, document)
		n := min(maxLength, len(ids))
		return ids[:n], types[:n], err
	}
}

func pythons(maxLength int) func(query, document []int32) ([]int32, []int32, error) {
	return func(query, document []int32) ([]int32, []int32, error) {
		for len(query)+len(document)+3 > maxLength {
			if len(query) > len(document) {
				query = query[:len(query)-1]
			} else {
				document = document[:len(document)-1]
			}
		}
		return build(query, document)
	}
}

func document(change func(string) string) func(q, d string) (string, string) {
	return func(q, d string) (string, string) { return q, change(d) }
}

func firstRunes(n int) func(string) string {
	return func(d string) string {
		r := []rune(d)
		return string(r[:min(n, len(r))])
	}
}

func firstBytes(n int) func(string) string {
	return func(d string) string { return strings.ToValidUTF8(d[:min(n, len(d))], "") }
}

func firstWords(n int) func(string) string {
	return func(d string) string {
		seen := 0
		inside := false
		for i, r := range d {
			if unicode.IsSpace(r) {
				inside = false
			} else if !inside {
				if inside = true; seen == n {
					return d[:i]
				}
				seen++
			}
		}
		return d
	}
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func scored(f func(logit float64) float64) func([]float64) []float64 {
	return func(logits []float64) []float64 {
		out := slices.Clone(logits)
		for i, x := range out {
			out[i] = f(x)
		}
		return out
	}
}

func rounded(decimals int, f func(float64) float64) func([]float64) []float64 {
	return scored(func(x float64) float64 {
		scale := math.Pow10(decimals)
		return math.Round(f(x)*scale) / scale
	})
}

func toFloat16(x float64) float64 {
	fraction, exponent := math.Frexp(x)
	return math.Ldexp(math.Round(fraction*2048)/2048, exponent)
}

func normalised(logits []float64) []float64 {
	sum, out := 0.0, make([]float64, len(logits))
	for i, x := range logits {
		out[i] = math.Exp(x)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

func stretched(logits []float64) []float64 {
	least, most := slices.Min(logits), slices.Max(logits)
	if least == most {
		return make([]float64, len(logits))
	}
	return scored(func(x float64) float64 { return (x - least) / (most - least) })(logits)
}

// ranks gives each result its rank as index.
func ranks(d []string, scores []float64) []hit {
	hits := sortedHits(d, scores)
	for i := range hits {
		hits[i].index = i
	}
	return hits
}

// inOrder gives the right indexes, and scores that are not sorted.
func inOrder(d []string, scores []float64) []hit {
	hits := sortedHits(d, scores)
	for i := range hits {
		hits[i].score = scores[i]
	}
	return hits
}

// byLength forgets to undo that documents were sorted by length.
func byLength(d []string, scores []float64) []hit {
	order := make([]int, len(d))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(d[a]), len(d[b])) })
	moved := make([]float64, len(d))
	for i, k := range order {
		moved[i] = scores[k]
	}
	return sortedHits(d, moved)
}

func rotated(d []string, scores []float64) []hit {
	return sortedHits(d, append(slices.Clone(scores[1:]), scores[0]))
}

func fromOne(d []string, scores []float64) []hit {
	hits := sortedHits(d, scores)
	for i := range hits {
		hits[i].index++
	}
	return hits
}

// reverseWords reads documents of more than three words backwards.
func reverseWords(d string) string {
	words := strings.Fields(d)
	if len(words) > 3 {
		slices.Reverse(words)
	}
	return strings.Join(words, " ")
}

func plainSpecials(q, d string) (string, string) {
	r := strings.NewReplacer("[SEP]", "[ SEP]", "[CLS]", "[ CLS]", "[MASK]", "[ MASK]", "[PAD]", "[ PAD]", "[UNK]", "[ UNK]")
	return r.Replace(q), r.Replace(d)
}

// faultCases are servers with an engine's model. short is an engine of the same model
// with half of the maximum length, last one with the last layer of the head only.
func faultCases(e, short, last *engine.Engine) []faultCase {
	none := engine.ScoreOptions{}
	n, half := e.Info().MaxLength, short.Info().MaxLength
	left := engine.ScoreOptions{Truncation: engine.TruncateLeft}
	right, zero := kept(asIs(e, none)), kept(withIDs(e, zeroTypes))
	texts := func(change func(q, d string) (string, string)) fakeServer {
		return fakeServer{logits: withTexts(e, none, change)}
	}
	parts := func(join func(query, document []int32) ([]int32, []int32, error)) fakeServer {
		return fakeServer{logits: withParts(e, join)}
	}
	raw := scored(func(x float64) float64 { return x })
	return []faultCase{
		{"type ids zero", fakeServer{logits: zero}, []fault{typeIDsZero}, false},
		{"pooler missing", fakeServer{logits: asIs(last, none)}, []fault{poolerMissing}, false},
		{"type ids zero, pooler missing, sigmoid missing", fakeServer{logits: withIDs(last, zeroTypes), scores: raw}, []fault{typeIDsZero, poolerMissing, sigmoidMissing}, false},
		{"swapped", texts(func(q, d string) (string, string) { return d, q }), []fault{pairSwapped}, false},
		{"no separator", parts(framed(n, nil, []int32{sep})), []fault{separatorMissing}, false},
		{"two separators", parts(framed(n, []int32{sep, sep}, []int32{sep})), []fault{separatorDoubled}, false},
		{"no last separator", parts(framed(n, []int32{sep}, nil)), []fault{separatorMissing}, false},
		{"sigmoid missing", fakeServer{logits: right, scores: raw}, []fault{sigmoidMissing}, false},
		{"sigmoid twice", fakeServer{logits: right, scores: scored(func(x float64) float64 { return logistic(logistic(x)) })}, []fault{sigmoidTwice}, false},
		{"softmax over documents", fakeServer{logits: right, scores: normalised}, []fault{softmaxOverDocuments}, false},
		{"stretched", fakeServer{logits: right, scores: stretched}, []fault{minMaxScaled}, false},
		{"softmax of one label", fakeServer{logits: right, scores: scored(func(float64) float64 { return 1 })}, []fault{constant}, false},
		{"left", fakeServer{logits: asIs(e, left)}, []fault{truncation}, false},
		{"only the document", parts(only(n, false)), []fault{truncation}, false},
		{"only the document, left", parts(only(n, true)), []fault{truncation}, false},
		{"without the last separator", parts(blind(n)), []fault{truncation}, false},
		{"half the limit", fakeServer{logits: asIs(short, none)}, []fault{shorterLimit}, false},
		{"half the limit, left", fakeServer{logits: asIs(short, left)}, []fault{shorterLimit, truncation}, false},
		{"an odd limit", parts(pythons(half + 45)), []fault{shorterLimit}, true},
		{"characters", texts(document(firstRunes(n * 6 / 10))), []fault{documentsCut}, false},
		{"many characters", texts(document(firstRunes(1000))), []fault{documentsCut}, true},
		{"bytes", texts(document(firstBytes(800))), []fault{documentsCut}, true},
		{"words", texts(document(firstWords(120))), []fault{documentsCut}, true},
		{"tokens of a document", fakeServer{logits: asIs(e, engine.ScoreOptions{DocumentTokens: half / 2})}, []fault{documentsCut}, false},
		{"prompts", texts(func(q, d string) (string, string) { return "query: " + q, "passage: " + d }), []fault{promptAdded}, false},
		{"a prompt of queries", texts(func(q, d string) (string, string) {
			return "Represent this sentence for searching relevant passages: " + q, d
		}), []fault{promptAdded}, true},
		{"special tokens are text", texts(plainSpecials), []fault{specialTokensAsText}, false},
		{"ranks as indexes", fakeServer{logits: right, attach: ranks}, []fault{wrongOrder}, false},
		{"scores in the order given", fakeServer{logits: right, attach: inOrder}, []fault{wrongOrder}, false},
		{"sorted by length", fakeServer{logits: right, attach: byLength}, []fault{wrongOrder}, false},
		{"rotated", fakeServer{logits: right, attach: rotated}, []fault{wrongOrder}, false},
		{"from one", fakeServer{logits: right, attach: fromOne}, []fault{wrongOrder}, false},
		{"three decimals", fakeServer{logits: right, scores: rounded(3, logistic)}, []fault{rounding}, false},
		{"answers in float16", fakeServer{logits: right, scores: scored(func(x float64) float64 { return toFloat16(logistic(x)) })}, []fault{rounding}, false},

		{"type ids zero, sigmoid missing", fakeServer{logits: zero, scores: raw}, []fault{typeIDsZero, sigmoidMissing}, false},
		{"type ids zero, two decimals", fakeServer{logits: zero, scores: rounded(2, logistic)}, []fault{typeIDsZero, rounding}, true},
		{"type ids zero, ranks as indexes", fakeServer{logits: zero, attach: ranks}, []fault{typeIDsZero, wrongOrder}, false},
		{"sigmoid missing, two decimals", fakeServer{logits: right, scores: rounded(2, func(x float64) float64 { return x })}, []fault{sigmoidMissing, rounding}, true},
		{"characters, special tokens are text", texts(func(q, d string) (string, string) { return plainSpecials(q, firstRunes(n*6/10)(d)) }), []fault{documentsCut, specialTokensAsText}, false},
		{"swapped, sigmoid twice", fakeServer{
			logits: withTexts(e, none, func(q, d string) (string, string) { return d, q }),
			scores: scored(func(x float64) float64 { return logistic(logistic(x)) }),
		}, []fault{pairSwapped, sigmoidTwice}, false},

		{"scaled", fakeServer{logits: right, scores: scored(func(x float64) float64 { return 0.9*logistic(x) + 0.05 })}, []fault{rescaled}, false},
		{"logits halved", fakeServer{logits: right, scores: scored(func(x float64) float64 { return logistic(x / 2) })}, []fault{rescaled}, false},
		{"words reversed", texts(document(reverseWords)), []fault{unknown}, false},
		{"words left out", texts(document(func(d string) string {
			var kept []string
			for i, w := range strings.Fields(d) {
				if i%3 != 2 {
					kept = append(kept, w)
				}
			}
			return strings.Join(kept, " ")
		})), []fault{unknown}, false},
		{"digits left out", texts(document(func(d string) string {
			return strings.Map(func(r rune) rune {
				if unicode.IsDigit(r) {
					return -1
				}
				return r
			}, d)
		})), []fault{unknown}, false},
	}
}

func checkFaults(t *testing.T, e, last *engine.Engine, cases []faultCase) {
	l := newLocal(e, func(int) {})
	l.openLast = func() (*engine.Engine, error) { return last, nil }
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := compare(t, l, &c.server, Auto)
			var want []string
			for _, f := range c.want {
				want = append(want, string(f))
			}
			if !slices.Equal(names(r), want) || r.Verdict != Wrong {
				t.Errorf("%s %v, want %q", r.Verdict, r.Faults, want)
			}
			left := len(r.Unexplained())
			if (left > 0) != slices.Contains(want, "unknown") {
				t.Errorf("%d pairs are unexplained", left)
			}
			t.Log(r.Faults)
		})
	}
}

// usual are the faults that TestFaultsOfBuiltin names in every run.
var usual = []string{
	"type ids zero", "sigmoid missing", "type ids zero, pooler missing, sigmoid missing", "ranks as indexes", "left", "many characters", "words reversed",
}

// TestFaultsOfBuiltin names faults with real weights: all of them if
// MLXRANK_TEST_LONG is set.
func TestFaultsOfBuiltin(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e, last := open(t, engine.Config{Model: "builtin"}), open(t, engine.Config{Model: "builtin", Lab: &lab.Options{LastLayer: true}})
	cases := faultCases(e, open(t, engine.Config{Model: "builtin", MaxLength: 256}), last)
	if !isLong() {
		cases = slices.DeleteFunc(cases, func(c faultCase) bool { return !slices.Contains(usual, c.name) })
		if len(cases) != len(usual) {
			t.Errorf("%d cases, want %d", len(cases), len(usual))
		}
	}
	checkFaults(t, e, last, cases)
}

// TestTokenByToken names a server that cuts both texts token by token. The maximum
// length is short: among 512 tokens, builtin hardly notices the odd one.
func TestTokenByToken(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e, last := open(t, engine.Config{Model: "builtin", MaxLength: 64}), open(t, engine.Config{Model: "builtin", MaxLength: 64, Lab: &lab.Options{LastLayer: true}})
	checkFaults(t, e, last, []faultCase{{"slow tokenizer", fakeServer{logits: withParts(e, pythons(64))}, []fault{truncation}, true}})
}

func isLong() bool { return os.Getenv("MLXRANK_TEST_LONG") != "" }

// TestFaultsOfTiny names the faults that a small random model shows.
func TestFaultsOfTiny(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tiny")
	weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 7})
	e, last := open(t, engine.Config{Model: dir}), open(t, engine.Config{Model: dir, Lab: &lab.Options{LastLayer: true}})
	cases := slices.DeleteFunc(faultCases(e, open(t, engine.Config{Model: dir, MaxLength: 64}), last), func(c faultCase) bool { return c.slow })
	checkFaults(t, e, last, cases)
}
