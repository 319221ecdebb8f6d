package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/internal/measures"
)

const (
	testQueries = 6
	testDocs    = 12 // candidates per query
)

// beir writes a BEIR collection with a first-stage run and returns its folder.
func beir(t *testing.T) (dir, run string) {
	t.Helper()
	dir = t.TempDir()
	var queries, corpus, lines strings.Builder
	qrels := "query-id\tcorpus-id\tscore\n"
	words := []string{"city", "water", "data", "page", "london", "people"}
	for q := range testQueries {
		fmt.Fprintf(&queries, `{"_id": "q%d", "text": "%s of %s"}`+"\n", q, words[q], words[(q+1)%len(words)])
		qrels += fmt.Sprintf("q%d\td%d\t2\nq%d\td%d\t1\nq%d\td%d\t0\n", q, q+1, q, q+7, q, q+3)
		for rank := range testDocs {
			fmt.Fprintf(&lines, "q%d Q0 d%d %d %.1f bm25\n", q, (q+rank)%20, rank+1, 20-float64(rank))
		}
	}
	for d := range 20 {
		fmt.Fprintf(&corpus, `{"_id": "d%d", "title": "%s", "text": "page %d about %s and water"}`+"\n", d, words[d%6], d, words[(d*5+1)%6])
	}
	if err := os.Mkdir(filepath.Join(dir, "qrels"), 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.WriteFile(t, filepath.Join(dir, "queries.jsonl"), queries.String())
	clitest.WriteFile(t, filepath.Join(dir, "corpus.jsonl"), corpus.String())
	clitest.WriteFile(t, filepath.Join(dir, "qrels", "test.tsv"), qrels)
	return dir, clitest.WriteFile(t, filepath.Join(dir, "bm25.run"), lines.String())
}

// evalJSON runs eval --json.
func evalJSON(t *testing.T, args ...string) report {
	t.Helper()
	r := mlxrank.MustRun(t, "", append([]string{"eval", "--json", "--quiet"}, args...)...)
	var got report
	decoder := json.NewDecoder(strings.NewReader(r.Out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%v\n%s", err, r.Out)
	}
	return got
}

// readRun reads a run that eval has written.
func readRun(t *testing.T, path string) measures.Run {
	t.Helper()
	run, err := input.ReadRun(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// TestRerankedRun compares the report with what the written run gives when it is
// evaluated alone, and its scores with what score writes.
func TestRerankedRun(t *testing.T) {
	model := clitest.TinyModel(t)
	dir, run := beir(t)
	out := filepath.Join(t.TempDir(), "reranked.run")
	got := evalJSON(t, "--beir", dir, "--run", run, "--model", model, "--depth", "2,4,8", "--write-run", out)
	alone := evalJSON(t, "--qrels", filepath.Join(dir, "qrels", "test.tsv"), "--run", run, "--run", out)
	config, other := got.Configurations[0], alone.Configurations[0]
	for m := range config.Measures {
		a, b := config.Measures[m], other.Measures[m]
		a.Ceiling = nil
		if fmt.Sprint(a.After, a.Before, a.Difference, a.P, a.Won, a.Lost, *a.Low, *a.High) != fmt.Sprint(b.After, b.Before, b.Difference, b.P, b.Won, b.Lost, *b.Low, *b.High) {
			t.Errorf("%s: %+v, and of the written run %+v", a.Measure, a, b)
		}
	}
	if got.FirstStage.Measures[0] != alone.FirstStage.Measures[0] || got.FirstStage.Name != "bm25.run" {
		t.Errorf("first stage %+v, want %+v", got.FirstStage, alone.FirstStage)
	}
	scores := filepath.Join(t.TempDir(), "scored.run")
	mlxrank.MustRun(t, "", "score", "--model", model, "--input", run, "--format", "trec", "--queries", filepath.Join(dir, "queries.jsonl"),
		"--documents", filepath.Join(dir, "corpus.jsonl"), "--output", scores)
	first, reranked, scored := readRun(t, run), readRun(t, out), readRun(t, scores)
	for id, list := range first {
		ranked := measures.Rank(reranked[id])
		top := measures.Rank(list)[:8]
		var want []measures.Retrieved
		for _, d := range scored[id] {
			if slices.ContainsFunc(top, func(in measures.Retrieved) bool { return in.ID == d.ID }) {
				want = append(want, d)
			}
		}
		want = measures.Rank(want)
		for i, d := range ranked {
			if i < 8 && (d.ID != want[i].ID || math.Abs(d.Score-want[i].Score) > 1e-5) {
				t.Errorf("%s: rank %d is %+v, want %+v", id, i+1, d, want[i])
			}
			if i >= 8 && d.ID != measures.Rank(list)[i].ID {
				t.Errorf("%s: rank %d below the depth is %s, want %s of the first stage", id, i+1, d.ID, measures.Rank(list)[i].ID)
			}
		}
		if len(ranked) != testDocs {
			t.Errorf("%s: %d documents, want %d", id, len(ranked), testDocs)
		}
	}
}

// TestDepthCurve checks that each point of the curve is what a run of that depth
// alone gives, and that the pairs and times add up.
func TestDepthCurve(t *testing.T) {
	model := clitest.TinyModel(t)
	dir, run := beir(t)
	curve := evalJSON(t, "--beir", dir, "--run", run, "--model", model, "--depth", "8,2,4,50").Configurations[0]
	var depths []int
	last := 0.0
	for _, point := range curve.Depths {
		depths = append(depths, point.Depth)
		alone := evalJSON(t, "--beir", dir, "--run", run, "--model", model, "--depth", fmt.Sprint(point.Depth)).Configurations[0]
		for m, mean := range point.Measures {
			if want := alone.Measures[m]; mean.Value != want.After || *mean.Low != *want.Low || *mean.High != *want.High {
				t.Errorf("depth %d: %+v, alone %+v", point.Depth, mean, want)
			}
		}
		if want := testQueries * point.Depth; point.Pairs != want || point.Seconds <= last || point.MS <= 0 || point.PairsS <= 0 {
			t.Errorf("depth %d: %+v, want %d pairs", point.Depth, point, want)
		}
		last = point.Seconds
	}
	if !slices.Equal(depths, []int{2, 4, 8, testDocs}) { // 50 is beyond the candidates
		t.Errorf("depths %v", depths)
	}
	if curve.Depth != testDocs || curve.Run.Pairs != testQueries*testDocs {
		t.Errorf("depth %d, %d pairs", curve.Depth, curve.Run.Pairs)
	}
	if d := evalJSON(t, "--beir", dir, "--run", run, "--model", model).Configurations[0].Depths; len(d) != 2 || d[0].Depth != 10 || d[1].Depth != testDocs {
		t.Errorf("default depths: %+v", d)
	}
}

// TestCeiling compares the ceiling with the best of all values, and with the measures
// of a run that is perfect.
func TestCeiling(t *testing.T) {
	dir, run := beir(t)
	config := evalJSON(t, "--beir", dir, "--run", run, "--model", clitest.TinyModel(t), "--depth", "2,8").Configurations[0]
	want := map[string]float64{"nDCG@10": 1, "RR@10": 1, "AP": 1, "R@100": 1, "P@10": 0.2, "Judged@10": 0.3}
	for _, m := range config.Measures {
		if m.Ceiling == nil || math.Abs(*m.Ceiling-want[m.Measure]) > 1e-12 || m.After > *m.Ceiling {
			t.Errorf("%s: ceiling %v, want %v", m.Measure, m.Ceiling, want[m.Measure])
		}
	}
	// d(q+7), the other relevant document, is on rank 8: out of reach at depth 2, except for R@100.
	shallow := evalJSON(t, "--beir", dir, "--run", run, "--model", clitest.TinyModel(t), "--depth", "2", "--measures", "RR@10 AP R@2 R@100").Configurations[0]
	for m, ceiling := range []float64{1, (1 + 2.0/8) / 2, 0.5, 1} {
		if got := shallow.Measures[m]; math.Abs(*got.Ceiling-ceiling) > 1e-12 {
			t.Errorf("%s at depth 2: ceiling %v, want %v", got.Measure, *got.Ceiling, ceiling)
		}
	}
}

func TestConfigurations(t *testing.T) {
	a, b := clitest.TinyModel(t), clitest.TinyModel(t)
	dir, run := beir(t)
	got := evalJSON(t, "--beir", dir, "--run", run, "--model", a, "--model", b, "--dtype", "float32,bfloat16", "--max-length", "8,16", "--depth", "4")
	var names []string
	for _, config := range got.Configurations {
		names = append(names, fmt.Sprint(config.Model == a, config.Model == b, config.DType, config.MaxLength))
	}
	var want []string
	for _, model := range []string{"true false", "false true"} {
		for _, length := range []int{8, 16} {
			for _, dtype := range []string{"float32", "bfloat16"} {
				want = append(want, fmt.Sprint(model, " ", dtype, length))
			}
		}
	}
	for i := range want {
		want[i] = strings.Replace(want[i], "2"+fmt.Sprint(8), "2 8", 1)
	}
	if len(names) != len(want) {
		t.Fatalf("%d configurations, want %d: %q", len(names), len(want), names)
	}
	for i, name := range names {
		if strings.ReplaceAll(name, " ", "") != strings.ReplaceAll(want[i], " ", "") {
			t.Errorf("configuration %d is %q, want %q", i, name, want[i])
		}
	}
	if len(got.Precision) != 4 {
		t.Fatalf("%d costs of precision, want 4", len(got.Precision))
	}
	for _, cost := range got.Precision {
		if !strings.Contains(cost.Name, "bfloat16") || !strings.Contains(cost.Reference, "float32") || cost.Largest <= 0 || cost.Largest > 0.5 ||
			cost.Mean <= 0 || cost.Mean > cost.Largest || cost.Tau < 0.5 || cost.Tau > 1 || cost.LargestInSD <= 0 {
			t.Errorf("cost %+v", cost)
		}
		if strings.Contains(cost.Name, " 8 ") != strings.Contains(cost.Reference, " 8 ") {
			t.Errorf("%s is compared with %s", cost.Name, cost.Reference)
		}
	}
}

func TestCandidates(t *testing.T) {
	model := clitest.TinyModel(t)
	dir := t.TempDir()
	objects := clitest.WriteFile(t, filepath.Join(dir, "c.jsonl"),
		`{"query_id": "1", "document_id": "a", "query": "city", "document": "water", "label": 0}
{"query_id": "1", "document_id": "b", "query": "city", "document": "london is a city", "label": 1}
{"query_id": "2", "document_id": "a", "query": "data", "document": "water", "label": 0}
{"query_id": "2", "document_id": "c", "query": "data", "document": "data of people", "label": 3}
`)
	got := evalJSON(t, "--candidates", objects, "--model", model, "--measures", "RR nDCG@1")
	if got.Collection.Queries != 2 || got.Collection.Candidates != 4 || got.Collection.Relevant != 2 || got.Collection.Order != "position" {
		t.Errorf("collection %+v", got.Collection)
	}
	if before := got.FirstStage.Measures[0].Value; before != 0.5 { // the relevant ones are second
		t.Errorf("RR of the order of the file is %v, want 0.5", before)
	}
	msmarco := clitest.WriteFile(t, filepath.Join(dir, "top.tsv"), "1\ta\tcity\twater\n1\tb\tcity\tlondon is a city\n2\ta\tdata\twater\n2\tc\tdata\tdata of people\n")
	qrels := clitest.WriteFile(t, filepath.Join(dir, "qrels"), "1 0 b 1\n2 0 c 3\n")
	same := evalJSON(t, "--candidates", msmarco, "--qrels", qrels, "--model", model, "--measures", "RR nDCG@1")
	if fmt.Sprintf("%+v", same.Configurations[0].Measures[1].After) != fmt.Sprintf("%+v", got.Configurations[0].Measures[1].After) || same.FirstStage.Measures[0] != got.FirstStage.Measures[0] {
		t.Errorf("MS MARCO's layout gives %+v, JSONL %+v", same.Configurations[0].Measures, got.Configurations[0].Measures)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "eval", "--candidates", msmarco, "--model", model), command.ExitUsage, "top.tsv has no labels", "--qrels")
}

// TestSameConfiguration evaluates what two combinations of flags give only once.
func TestSameConfiguration(t *testing.T) {
	dir, run := beir(t)
	r := mlxrank.MustRun(t, "", "eval", "--json", "--beir", dir, "--run", run, "--model", clitest.TinyModel(t), "--device", "cpu", "--dtype", "auto,float32", "--depth", "2")
	var got report
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil || len(got.Configurations) != 1 || !strings.Contains(r.ErrOut, "evaluated once") {
		t.Errorf("%v: %d configurations, %s", err, len(got.Configurations), r.ErrOut)
	}
}

// TestRunNames shows folders where names alone would be equal.
func TestRunNames(t *testing.T) {
	if got := runNames([]string{"a/x.run", "b/y.run"}); !slices.Equal(got, []string{"x.run", "y.run"}) {
		t.Errorf("got %q", got)
	}
	if got := runNames([]string{"a/x.run", "b/x.run"}); !slices.Equal(got, []string{"a/x.run", "b/x.run"}) {
		t.Errorf("got %q", got)
	}
}

// TestUnorderedCandidates reranks all of them, since none are the first.
func TestUnorderedCandidates(t *testing.T) {
	candidates := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.jsonl"),
		`{"query": "city", "positive": ["london is a city"], "negative": ["water", "data of people", "page"]}
{"query": "data", "positive": ["data of people"], "negative": ["london", "water"]}
`)
	got := evalJSON(t, "--candidates", candidates, "--model", clitest.TinyModel(t), "--measures", "RR AP")
	config := got.Configurations[0]
	if got.Collection.Order != "none" || len(config.Depths) != 1 || config.Depth != 4 || !strings.Contains(strings.Join(got.Warnings, " "), "no order") {
		t.Errorf("%+v, depths %+v, warnings %q", got.Collection, config.Depths, got.Warnings)
	}
	if m := got.FirstStage.Measures[0]; !near(m.Lowest, (1.0/4+1.0/3)/2) || m.Highest != 1 {
		t.Errorf("all scores are equal, but RR is from %v to %v", m.Lowest, m.Highest)
	}
}

// TestLongDocuments scores documents in passages, as score does.
func TestLongDocuments(t *testing.T) {
	model := clitest.TinyModel(t)
	var lines strings.Builder
	for i := range 4 {
		fmt.Fprintf(&lines, `{"query_id": "1", "document_id": "d%d", "query": "city", "document": "%s", "label": %d}`+"\n", i, strings.Repeat(fmt.Sprintf("page %d of london. ", i), 30+i), i%2)
	}
	candidates := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.jsonl"), lines.String())
	out, scored := filepath.Join(t.TempDir(), "e.run"), filepath.Join(t.TempDir(), "s.run")
	config := evalJSON(t, "--candidates", candidates, "--model", model, "--max-length", "32", "--long", "passages", "--write-run", out).Configurations[0]
	if config.Run.Distinct <= config.Run.Pairs || config.Run.Pairs != 4 {
		t.Errorf("%d passages of %d pairs", config.Run.Distinct, config.Run.Pairs)
	}
	mlxrank.MustRun(t, "", "score", "--input", candidates, "--output", scored, "--output-format", "trec", "--model", model, "--max-length", "32", "--long", "passages")
	want := measures.Rank(readRun(t, scored)["1"])
	for i, d := range measures.Rank(readRun(t, out)["1"]) {
		if d.ID != want[i].ID || math.Abs(d.Score-want[i].Score) > 1e-5 {
			t.Errorf("rank %d is %+v, want %+v", i+1, d, want[i])
		}
	}
}

// TestTableRun reranks a run that is a table.
func TestTableRun(t *testing.T) {
	dir, run := beir(t)
	rows := "qid,docid,score\n"
	for line := range strings.Lines(readText(t, run)) {
		cells := strings.Fields(line)
		rows += cells[0] + "," + cells[2] + "," + cells[4] + "\n"
	}
	table := clitest.WriteFile(t, filepath.Join(t.TempDir(), "bm25.csv"), rows)
	args := []string{"--beir", dir, "--model", clitest.TinyModel(t), "--depth", "4"}
	got, want := evalJSON(t, append(args, "--run", table)...), evalJSON(t, append(args, "--run", run)...)
	a, b := got.Configurations[0].Measures[0], want.Configurations[0].Measures[0]
	if a.Before != b.Before || a.After != b.After || got.FirstStage.Name != "bm25.csv" {
		t.Errorf("%+v, want %+v", a, b)
	}
	broken := clitest.WriteFile(t, filepath.Join(t.TempDir(), "bm25.csv"), "qid,docid,score\nq 1,d1,1\n")
	clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"eval", "--run", broken}, args...)...), command.ExitFailure, `"q 1"`, "white space")
}

// TestTables reads candidates with labels from CSV, with columns named by flags.
func TestTables(t *testing.T) {
	csv := "question,answer,label\ncity,water,0\ncity,\"london, a city\",1\ndata,water,0\ndata,data of people,1\n"
	var got report
	r := mlxrank.MustRun(t, csv, "eval", "--json", "--quiet", "--candidates", "-", "--format", "csv", "--query-fields", "question", "--fields", "answer", "--model", clitest.TinyModel(t))
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil || got.Collection.Queries != 2 || got.Collection.Candidates != 4 || got.Collection.Relevant != 2 {
		t.Errorf("%v: %+v", err, got.Collection)
	}
}
