package measures

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// A parityGolden has measures of random runs by pytrec_eval and ir_measures, and by
// trying all orders.
type parityGolden struct {
	Measures []string
	Cases    []parityCase
	Bounds   []struct {
		Qrels              map[string]int
		Run                []goldenDocument
		Orders             int
		Low, High, Ceiling []float64
	}
}

type parityCase struct {
	Qrels   Qrels
	Run     map[string][]goldenDocument
	Values  map[string][]float64 // by query, in the order of Measures
	Means   []float64            // over all judged queries
	Float32 map[string][]float64 // where trec_eval 9, which rounds scores, differs
}

// A goldenDocument is [id, score].
type goldenDocument Retrieved

func (d *goldenDocument) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&d.ID, &d.Score})
}

func toRetrieved(documents []goldenDocument) []Retrieved {
	out := make([]Retrieved, len(documents))
	for i, d := range documents {
		out[i] = Retrieved(d)
	}
	return out
}

func readGolden(t *testing.T, name string, to any) {
	t.Helper()
	file, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // read only
	text, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(text).Decode(to); err != nil {
		t.Fatal(err)
	}
}

func parseAll(t *testing.T, names []string) []Measure {
	t.Helper()
	var list []Measure
	for _, name := range names {
		m, err := Parse(name)
		if err != nil || m.String() != name {
			t.Fatalf("Parse(%q) = %v, %v", name, m, err)
		}
		list = append(list, m)
	}
	return list
}

// tolerance is the largest difference from trec_eval's values.
const tolerance = 1e-12

// A tally counts the values that were compared, and the wrong ones, by measure.
type tally struct {
	values int
	wrong  map[string]int
	worst  float64
}

func (c *tally) add(measure string, got, want float64) {
	c.values++
	difference := math.Abs(got - want)
	if !(difference <= tolerance) {
		c.wrong[measure]++
	}
	c.worst = max(c.worst, difference)
}

func (c *tally) wrongs() int {
	sum := 0
	for _, n := range c.wrong {
		sum += n
	}
	return sum
}

// A mistake changes a case in a way that must make values wrong.
type mistake func(qrels Qrels, run Run) (Qrels, Run)

// compareCases evaluates all cases and compares values and means.
func compareCases(t *testing.T, golden *parityGolden, list []Measure, mistake mistake) *tally {
	t.Helper()
	c := &tally{wrong: map[string]int{}}
	for i, example := range golden.Cases {
		run := Run{}
		for query, documents := range example.Run {
			run[query] = toRetrieved(documents)
		}
		qrels, run := mistake(example.Qrels, run)
		for _, options := range []Options{{}, {OnlyJudgedQueries: true}} {
			e, err := Evaluate(qrels, run, list, options)
			if err != nil {
				t.Fatalf("case %d: %v", i, err)
			}
			compareCase(c, golden.Measures, example, e, options)
		}
	}
	return c
}

func compareCase(c *tally, names []string, example parityCase, e *Evaluation, options Options) {
	for m, result := range e.Results {
		sum, n := 0.0, 0
		for i, query := range e.Queries {
			want := 0.0 // of a query that the run lacks
			if values, ok := example.Values[query]; ok {
				want = values[m]
				sum += want
				n++
			}
			c.add(names[m], result.Queries[i].Value, want)
		}
		want := example.Means[m]
		if options.OnlyJudgedQueries {
			want = sum / float64(n)
		}
		c.add(names[m], result.Value, want)
	}
}

func noMistake(qrels Qrels, run Run) (Qrels, Run) { return qrels, run }

// TestTrecEval compares all values with pytrec_eval's and ir_measures'. The mistakes that
// other programs make must fail the same comparison.
func TestTrecEval(t *testing.T) {
	t.Parallel()
	var golden parityGolden
	readGolden(t, "measures.json.gz", &golden)
	list := parseAll(t, golden.Measures)
	if len(golden.Cases) < 2000 {
		t.Fatalf("%d cases", len(golden.Cases))
	}
	right := compareCases(t, &golden, list, noMistake)
	if right.wrongs() > 0 {
		t.Errorf("%d of %d values are wrong, by %g at most: %v", right.wrongs(), right.values, right.worst, right.wrong)
	}
	t.Logf("%d values differ by %g at most", right.values, right.worst)
	for name, c := range map[string]struct {
		mistake mistake
		measure string // that must be wrong
		share   float64
	}{
		"exponential gain":         {exponentialGain, "nDCG@10", 0.1},
		"ties by ascending id":     {tiesAscending, "nDCG@10", 0.1},
		"ties in the run's order":  {tiesInOrder, "AP", 0.1},
		"missing queries left out": {leaveOutMissing, "AP", 0.01},
		"scores as float32":        {scoresAsFloat32, "RR", 0.005},
		"unjudged left out":        {leaveOutUnjudged, "P@3", 0.1},
		"negative gain":            {negativeAsPositive, "nDCG", 0.01},
	} {
		wrong := compareCases(t, &golden, list, c.mistake)
		if share := float64(wrong.wrong[c.measure]) / float64(wrong.values/len(list)); share < c.share {
			t.Errorf("%s makes %.4f of %s wrong; the comparison should see %.4f", name, share, c.measure, c.share)
		}
	}
}

// TestTrecEval9 shows that trec_eval 9, and so pytrec_eval, holds scores as float32.
func TestTrecEval9(t *testing.T) {
	t.Parallel()
	var golden parityGolden
	readGolden(t, "measures.json.gz", &golden)
	list := parseAll(t, golden.Measures)
	differing := 0
	for i, example := range golden.Cases {
		if example.Float32 == nil {
			continue
		}
		differing++
		run := Run{}
		for query, documents := range example.Run {
			run[query] = toRetrieved(documents)
		}
		_, run = scoresAsFloat32(nil, run)
		e, err := Evaluate(example.Qrels, run, list, Options{OnlyJudgedQueries: true})
		if err != nil {
			t.Fatal(err)
		}
		for m, result := range e.Results {
			for q, query := range e.Queries {
				if want := example.Float32[query][m]; result.Measure.Kind != Judged && math.Abs(result.Queries[q].Value-want) > tolerance {
					t.Errorf("case %d, %s, %s: %v with scores as float32, pytrec_eval has %v", i, query, result.Measure, result.Queries[q].Value, want)
				}
			}
		}
	}
	if differing < 50 {
		t.Errorf("only %d cases differ", differing)
	}
}

// TestBounds compares intervals over ties, and ceilings, with what trying all orders gives.
func TestBounds(t *testing.T) {
	t.Parallel()
	var golden parityGolden
	readGolden(t, "measures.json.gz", &golden)
	list := parseAll(t, golden.Measures)
	tied, wide := 0, 0
	for i, example := range golden.Bounds {
		e, err := Evaluate(Qrels{"q": example.Qrels}, Run{"q": toRetrieved(example.Run)}, list, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if example.Orders > 1 {
			tied++
		}
		for m, result := range e.Results {
			v := result.QueryValue
			if max(math.Abs(v.Low-example.Low[m]), math.Abs(v.High-example.High[m]), math.Abs(v.Ceiling-example.Ceiling[m])) > tolerance {
				t.Errorf("case %d, %s: low %v, high %v, ceiling %v; all orders give %v, %v, %v", i, result.Measure,
					v.Low, v.High, v.Ceiling, example.Low[m], example.High[m], example.Ceiling[m])
			}
			if !(v.Low <= v.Value && v.Value <= v.High && v.High <= v.Ceiling) {
				t.Errorf("case %d, %s: %+v is not in order", i, result.Measure, v)
			}
			if v.High-v.Low > tolerance {
				wide++
			}
		}
	}
	if len(golden.Bounds) < 100 || tied < 50 || wide < 200 {
		t.Errorf("%d cases, %d with ties, %d wide intervals: too few to show anything", len(golden.Bounds), tied, wide)
	}
}

func mapQrels(qrels Qrels, to func(rel int) int) Qrels {
	out := Qrels{}
	for query, judged := range qrels {
		out[query] = map[string]int{}
		for id, rel := range judged {
			out[query][id] = to(rel)
		}
	}
	return out
}

func exponentialGain(qrels Qrels, run Run) (Qrels, Run) {
	return mapQrels(qrels, func(rel int) int {
		if rel <= 0 {
			return rel
		}
		return 1<<min(rel, 20) - 1
	}), run
}

func negativeAsPositive(qrels Qrels, run Run) (Qrels, Run) {
	return mapQrels(qrels, func(rel int) int { return max(rel, -rel) }), run
}

// mapRun replaces the documents of each query.
func mapRun(run Run, to func(query string, documents []Retrieved) []Retrieved) Run {
	out := Run{}
	for query, documents := range run {
		out[query] = to(query, documents)
	}
	return out
}

// tiesAscending gives each document a score of its own, in ascending order of ids within
// a tie.
func tiesAscending(qrels Qrels, run Run) (Qrels, Run) {
	return qrels, mapRun(run, func(_ string, documents []Retrieved) []Retrieved {
		ranked := Rank(documents)
		for start := 0; start < len(ranked); {
			end := start + 1
			for end < len(ranked) && ranked[end].Score == ranked[start].Score {
				end++
			}
			for i, j := start, end-1; i < j; i, j = i+1, j-1 {
				ranked[i].ID, ranked[j].ID = ranked[j].ID, ranked[i].ID
			}
			start = end
		}
		return byPlace(ranked)
	})
}

// tiesInOrder keeps the order of the run's lines within a tie.
func tiesInOrder(qrels Qrels, run Run) (Qrels, Run) {
	return qrels, mapRun(run, func(_ string, documents []Retrieved) []Retrieved {
		line := map[string]string{}
		numbered := make([]Retrieved, len(documents))
		for i, d := range documents {
			number := string([]byte{byte(255 - i)})
			line[number] = d.ID
			numbered[i] = Retrieved{number, d.Score}
		}
		ranked := Rank(numbered)
		for i := range ranked {
			ranked[i].ID = line[ranked[i].ID]
		}
		return byPlace(ranked)
	})
}

// byPlace replaces scores so that documents keep their order.
func byPlace(ranked []Retrieved) []Retrieved {
	for i := range ranked {
		ranked[i].Score = float64(len(ranked) - i)
	}
	return ranked
}

func leaveOutMissing(qrels Qrels, run Run) (Qrels, Run) {
	out := Qrels{}
	for query, judged := range qrels {
		if _, ok := run[query]; ok {
			out[query] = judged
		}
	}
	return out, run
}

func leaveOutUnjudged(qrels Qrels, run Run) (Qrels, Run) {
	return qrels, mapRun(run, func(query string, documents []Retrieved) []Retrieved {
		var out []Retrieved
		for _, d := range documents {
			if _, ok := qrels[query][d.ID]; ok {
				out = append(out, d)
			}
		}
		return out
	})
}

func scoresAsFloat32(qrels Qrels, run Run) (Qrels, Run) {
	return qrels, mapRun(run, func(_ string, documents []Retrieved) []Retrieved {
		out := make([]Retrieved, len(documents))
		for i, d := range documents {
			out[i] = Retrieved{d.ID, float64(float32(d.Score))}
		}
		return out
	})
}
