package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
)

// TestDemoFirstStage pins the measures of BM25 on the collection of --demo.
// pytrec_eval-terrier 0.5.11 gives these values, of RR@10 on the first ten documents
// in trec_eval's order; ir_measures 0.4.3 gives them too, except RR@10, for which it
// asks another program that orders ties otherwise.
func TestDemoFirstStage(t *testing.T) {
	got := evalJSON(t, "--demo", "--model", clitest.TinyModel(t), "--depth", "1", "--max-length", "8", "--examples", "0",
		"--measures", defaultMeasures+" nDCG RR R@5 Success@1 AP@20")
	want := map[string]float64{
		"nDCG@10": 0.6057700870604152, "RR@10": 0.7882716049382718, "AP": 0.5189699553661661, "R@100": 0.8626984126984126,
		"P@10": 0.2901234567901233, "Judged@10": 0.31358024691358016, "nDCG": 0.6929430421817542, "RR": 0.7897368749220602,
		"R@5": 0.4757562396451284, "Success@1": 0.6666666666666666, "AP@20": 0.49983308098746826,
	}
	for _, m := range got.FirstStage.Measures {
		if d := m.Value - want[m.Measure]; d > 1e-12 || d < -1e-12 {
			t.Errorf("%s is %v, want %v", m.Measure, m.Value, want[m.Measure])
		}
		delete(want, m.Measure)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	c := got.Collection
	if c.Queries != 81 || c.Judgements != 402 || c.Candidates != 3598 || c.MissingQueries != 0 || c.UnjudgedQueries != 0 {
		t.Errorf("collection %+v", c)
	}
}

// TestDemo reranks with the builtin model, and computes nDCG@10 of the written run from
// its definition.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("scores 400 pairs")
	}
	out := filepath.Join(t.TempDir(), "r.run")
	got := evalJSON(t, "--demo", "--depth", "5", "--max-length", "32", "--write-run", out)
	config := got.Configurations[0]
	if config.Model != weights.Builtin || config.Depth != 5 || config.Examples == nil || len(config.Examples.Helped) != 3 || len(config.Examples.Hurt) != 3 {
		t.Errorf("%s, depth %d, examples %+v", config.Name, config.Depth, config.Examples)
	}
	relevant := map[string]map[string]bool{}
	qrels, err := demoFiles.ReadFile("demo/qrels.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(qrels)), "\n")[1:] {
		cells := strings.Split(line, "\t")
		if relevant[cells[0]] == nil {
			relevant[cells[0]] = map[string]bool{}
		}
		relevant[cells[0]][cells[1]] = cells[2] == "1"
	}
	gain := map[string]float64{}
	for line := range strings.Lines(readText(t, out)) {
		cells := strings.Fields(line)
		rank, err := strconv.Atoi(cells[3])
		if err != nil {
			t.Fatal(err)
		}
		if rank <= 10 && relevant[cells[0]][cells[2]] {
			gain[cells[0]] += 1 / math.Log2(float64(rank)+1)
		}
	}
	sum := 0.0
	for query, judged := range relevant {
		ideal := 0.0
		for rank := range min(10, len(judged)) {
			ideal += 1 / math.Log2(float64(rank)+2)
		}
		sum += gain[query] / ideal
	}
	if m := config.Measures[0]; m.Measure != "nDCG@10" || !near(m.After, sum/float64(len(relevant))) {
		t.Errorf("%s is %v, the written run has %v", m.Measure, m.After, sum/float64(len(relevant)))
	}
}

func TestDemoFlags(t *testing.T) {
	for _, flag := range []string{"qrels", "run", "candidates", "beir", "queries", "documents"} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", "eval", "--demo", "--"+flag, "x"), command.ExitUsage, "--demo has a collection of its own", "--"+flag)
	}
}

// TestOutputs writes all files in one run, and compares them with the JSON.
func TestOutputs(t *testing.T) {
	dir, run := beir(t)
	out := t.TempDir()
	file := func(name string) string { return filepath.Join(out, name) }
	args := []string{"--beir", dir, "--run", run, "--model", clitest.TinyModel(t), "--depth", "2,8", "--examples", "2", "--thresholds"}
	got := evalJSON(t, append(args, "--per-query", file("q.tsv"), "--plot", file("p.png"), "--write-run", file("r.run"))...)
	config := got.Configurations[0]

	data, err := os.ReadFile(file("p.png"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := png.Decode(bytes.NewReader(data))
	if err != nil || image.Bounds().Dx() < 900 {
		t.Errorf("plot: %v", err)
	}
	mlxrank.MustRun(t, "", append(append([]string{"eval", "--quiet"}, args...), "--plot", file("p.svg"), "--measures", "AP")...)
	if svg, err := os.ReadFile(file("p.svg")); err != nil || !strings.Contains(string(svg), "AP by depth") || !strings.Contains(string(svg), "first stage") {
		t.Errorf("SVG: %v", err)
	}

	lines := strings.Split(strings.TrimSuffix(readText(t, file("q.tsv")), "\n"), "\n")
	if lines[0] != strings.Join(perQueryHeader, "\t") || len(lines) != 1+testQueries*len(config.Measures) {
		t.Fatalf("%d lines, %q", len(lines), lines[0])
	}
	sums := map[string][2]float64{}
	for _, line := range lines[1:] {
		cells := strings.Split(line, "\t")
		before, err1 := strconv.ParseFloat(cells[3], 64)
		after, err2 := strconv.ParseFloat(cells[4], 64)
		difference, err3 := strconv.ParseFloat(cells[5], 64)
		if err := errors.Join(err1, err2, err3); err != nil || cells[0] != config.Name || difference != after-before {
			t.Fatalf("line %q: %v", line, err)
		}
		sum := sums[cells[2]]
		sums[cells[2]] = [2]float64{sum[0] + before/testQueries, sum[1] + after/testQueries}
	}
	for _, m := range config.Measures {
		if sum := sums[m.Measure]; !near(sum[0], m.Before) || !near(sum[1], m.After) {
			t.Errorf("%s: means of the lines %v, want %v and %v", m.Measure, sum, m.Before, m.After)
		}
		if m.Won+m.Lost+m.Same != testQueries {
			t.Errorf("%s: %d won, %d lost, %d same", m.Measure, m.Won, m.Lost, m.Same)
		}
	}
}

func near(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 }

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPerQueryInsteadOfTables(t *testing.T) {
	dir, run := beir(t)
	r := mlxrank.MustRun(t, "", "eval", "--qrels", filepath.Join(dir, "qrels", "test.tsv"), "--run", run, "--per-query", "-", "--measures", "AP")
	if lines := strings.Split(r.Out, "\n"); len(lines) != testQueries+2 || !strings.HasPrefix(lines[1], "bm25.run\tq0\tAP\t") {
		t.Errorf("got %q", r.Out)
	}
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
}

// TestText checks that the tables have the numbers of the JSON.
func TestText(t *testing.T) {
	dir, run := beir(t)
	model := clitest.TinyModel(t)
	args := []string{"--beir", dir, "--run", run, "--model", model, "--depth", "2,8", "--examples", "1", "--thresholds", "--dtype", "float32,int8"}
	got := evalJSON(t, args...)
	text := mlxrank.MustRun(t, "", append([]string{"eval"}, args...)...)
	markdown := mlxrank.MustRun(t, "", append([]string{"eval", "--markdown", "--quiet"}, args...)...)
	for _, config := range got.Configurations {
		for _, m := range config.Measures {
			cells := m.cells()
			if row := "| " + strings.Join(cells, " | ") + " |"; !strings.Contains(markdown.Out, row) {
				t.Errorf("Markdown lacks %q", row)
			}
			if !containsRow(text.Out, cells) {
				t.Errorf("text lacks %q", cells)
			}
		}
	}
	for _, config := range got.Configurations {
		cells := []string{config.Name}
		for i := len(config.Measures) - 1; i >= 0; i-- {
			cells = append([]string{number(config.Measures[i].After)}, cells...)
		}
		if !strings.Contains(strings.Join(strings.Fields(text.Out), " "), strings.Join(cells[:len(cells)-1], " ")) {
			t.Errorf("the overview lacks %q", cells)
		}
	}
	for _, title := range []string{"overview", "p to best: ", "bm25.run: 6 queries, 72 candidates", ", depth 8, compared with bm25.run", "depth curve of ", "logits of ", "thresholds of ", "queries that gained most with ", "queries that lost most with ", "cost of precision: "} {
		if !strings.Contains(text.Out, title) || !strings.Contains(markdown.Out, "### ") || !strings.Contains(markdown.Out, escapeMarkdown(title)) {
			t.Errorf("no section %q in\n%s", title, text.Out)
		}
	}
	if strings.Count(text.ErrOut, "model     ") != 2 || markdown.ErrOut != "" || strings.Contains(text.ErrOut, "\r") {
		t.Errorf("standard error: %q, and with --quiet %q", text.ErrOut, markdown.ErrOut)
	}
	for line := range strings.Lines(text.Out) {
		if strings.Contains(line, "\t") || strings.HasSuffix(line, " \n") {
			t.Errorf("line %q", line)
		}
	}
}

func containsRow(text string, cells []string) bool {
	want := strings.Fields(strings.Join(cells, " "))
	for line := range strings.Lines(text) {
		if slices.Equal(strings.Fields(line), want) {
			return true
		}
	}
	return false
}

// jsonNames lists the paths of the members of a type in JSON, except the
// summary of a run, which other commands share.
func jsonNames(of reflect.Type, path string) []string {
	switch {
	case of == reflect.TypeFor[output.Summary]():
		return nil
	case of.Kind() == reflect.Pointer, of.Kind() == reflect.Slice:
		return jsonNames(of.Elem(), path)
	case of.Kind() != reflect.Struct:
		return nil
	}
	var names []string
	for i := range of.NumField() {
		field := of.Field(i)
		if tag := field.Tag.Get("json"); tag != "" {
			name := path + tag
			names = append(append(names, name), jsonNames(field.Type, path+strings.TrimSuffix(tag, ",omitempty")+".")...)
		} else if field.IsExported() {
			names = append(names, path+field.Name+" has no name")
		}
	}
	return names
}

// TestJSONNames pins the names that programs read.
func TestJSONNames(t *testing.T) {
	path := filepath.Join("testdata", "names.txt")
	got := strings.Join(jsonNames(reflect.TypeFor[report](), ""), "\n") + "\n"
	if want := readText(t, path); got != want {
		t.Errorf("%s has other names than the JSON:\n%s", path, got)
	}
}

// TestOverview names the best configuration, and tests the others against it.
func TestOverview(t *testing.T) {
	dir, run := beir(t)
	perfect, worst := "", ""
	for q := range testQueries {
		perfect += fmt.Sprintf("q%d Q0 d%d 1 2 x\nq%d Q0 d%d 2 1 x\n", q, q+1, q, q+7)
		worst += fmt.Sprintf("q%d Q0 d%d 1 1 x\n", q, q+3)
	}
	longName := strings.Repeat("good-", 30) + "end.run"
	good := clitest.WriteFile(t, filepath.Join(t.TempDir(), longName), perfect)
	bad := clitest.WriteFile(t, filepath.Join(t.TempDir(), "bad.run"), worst)
	args := []string{"--qrels", filepath.Join(dir, "qrels", "test.tsv"), "--run", run, "--run", bad, "--run", good}
	got := evalJSON(t, args...)
	low, high := got.Configurations[0], got.Configurations[1]
	if c := high.Measures[0].Ceiling; *c != 1 || *low.Measures[0].Ceiling != 0 || got.FirstStage.Measures[0].Ceiling != 1 { // bad.run has no relevant document
		t.Errorf("ceilings %v and %v", *c, *low.Measures[0].Ceiling)
	}
	if high.PToBest != nil || low.PToBest == nil || !near(*low.PToBest, 2.0/64) { // all six queries differ by the same
		t.Errorf("p %v and %v", low.PToBest, high.PToBest)
	}
	text := mlxrank.MustRun(t, "", append([]string{"eval"}, args...)...).Out
	for _, want := range []string{"clearly higher: nDCG@10, RR@10, AP,", "clearly lower: nDCG@10, RR@10, AP,", " best  " + longName} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestExamples compares the examples with the measures of each query.
func TestExamples(t *testing.T) {
	dir, run := beir(t)
	file := filepath.Join(t.TempDir(), "q.tsv")
	config := evalJSON(t, "--beir", dir, "--run", run, "--model", clitest.TinyModel(t), "--examples", "2", "--measures", "AP", "--per-query", file).Configurations[0]
	best, worst := 0.0, 0.0
	for _, line := range strings.Split(strings.TrimSpace(readText(t, file)), "\n")[1:] {
		difference, err := strconv.ParseFloat(strings.Split(line, "\t")[5], 64)
		if err != nil {
			t.Fatal(err)
		}
		best, worst = max(best, difference), min(worst, difference)
	}
	x := config.Examples
	if x.Measure != "AP" || best > 0 && !near(x.Helped[0].After-x.Helped[0].Before, best) || worst < 0 && !near(x.Hurt[0].After-x.Hurt[0].Before, worst) {
		t.Errorf("examples %+v, want first %v and %v", x, best, worst)
	}
	if len(x.Helped)+len(x.Hurt) < 2 {
		t.Errorf("examples %+v", x)
	}
	for _, example := range slices.Concat(x.Helped, x.Hurt) {
		if !strings.Contains(example.Text, " of ") || len(example.Documents) != exampleDocuments {
			t.Errorf("example %+v", example)
		}
		for _, d := range example.Documents {
			if d.RankBefore < 1 || d.RankAfter < 1 || !strings.Contains(d.Text, "page ") {
				t.Errorf("document %+v", d)
			}
		}
	}
}

// TestThresholds counts what each threshold keeps.
func TestThresholds(t *testing.T) {
	dir, run := beir(t)
	out := filepath.Join(t.TempDir(), "r.run")
	args := []string{"--beir", dir, "--run", run, "--model", clitest.TinyModel(t), "--write-run", out}
	r := evalJSON(t, append(args, "--precision", "1")...).Configurations[0].Thresholds
	if r.Pairs != testQueries*testDocs || r.Relevant.N != 2*testQueries || r.Other.N != r.Pairs-r.Relevant.N || r.Relevance != 1 {
		t.Errorf("thresholds %+v", r)
	}
	reranked := readRun(t, out)
	for _, p := range r.Points {
		kept := 0
		for _, list := range reranked {
			for _, d := range list {
				if float32(d.Score) >= float32(p.Logit) {
					kept++
				}
			}
		}
		if kept != p.Kept || !near(p.Precision, float64(p.Relevant)/float64(p.Kept)) || !near(p.Recall, float64(p.Relevant)/(2*testQueries)) {
			t.Errorf("%+v keeps %d", p, kept)
		}
	}
	if last := r.Points[len(r.Points)-1]; last.Recall != 1 {
		t.Errorf("the last point is %+v", last)
	}
	text := mlxrank.MustRun(t, "", append([]string{"eval", "--quiet", "--precision", "1"}, args...)...).Out
	if clean := r.Threshold != nil; clean == strings.Contains(text, "no clean separation") {
		t.Errorf("threshold %+v, but\n%s", r.Threshold, text)
	}
	easy := evalJSON(t, append(args, "--precision", "0.01")...).Configurations[0].Thresholds
	if p := easy.Threshold; p == nil || p.Precision < 0.01 || *p.Low > p.Precision || *p.High < p.Precision || p.Recall != 1 {
		t.Errorf("threshold for precision 0.01: %+v", p)
	}
	// The first measure says which relevance counts.
	two := evalJSON(t, append(args, "--thresholds", "--measures", "AP(rel=2) nDCG@10")...).Configurations[0].Thresholds
	if two.Relevant.N != testQueries || two.Relevance != 2 {
		t.Errorf("with rel=2: %+v", two)
	}
}

// TestMissingQueries counts queries that a run lacks as 0, or omits them.
func TestMissingQueries(t *testing.T) {
	dir, run := beir(t)
	_, short, _ := strings.Cut(readText(t, run), "\nq2 ")
	short = "q2 " + short + "unjudged Q0 d1 1 1 bm25\n"
	part := clitest.WriteFile(t, filepath.Join(t.TempDir(), "part.run"), short)
	args := []string{"--qrels", filepath.Join(dir, "qrels", "test.tsv"), "--measures", "AP"}
	all, some := evalJSON(t, append(args, "--run", run)...), evalJSON(t, append(args, "--run", part)...)
	if c := some.Collection; c.Queries != testQueries || c.MissingQueries != 2 || c.UnjudgedQueries != 1 {
		t.Errorf("collection %+v", c)
	}
	if a, b := all.FirstStage.Measures[0].Value, some.FirstStage.Measures[0].Value; !near(b, a*4/6) { // equal for each query
		t.Errorf("AP %v with all queries, %v with four of six", a, b)
	}
	only := evalJSON(t, append(args, "--run", part, "--only-judged-queries")...)
	if a, b := all.FirstStage.Measures[0].Value, only.FirstStage.Measures[0].Value; !near(a, b) || only.Collection.Queries != 4 || only.Collection.MissingQueries != 0 {
		t.Errorf("AP %v, and %v with only the judged queries of the run: %+v", a, b, only.Collection)
	}
	two := evalJSON(t, append(args, "--run", run, "--run", part)...)
	if config := two.Configurations[0]; config.Missing != 2 || config.Measures[0].Lost != 2 || config.Measures[0].Same != 4 {
		t.Errorf("%+v", config)
	}
	lines, _, _ := strings.Cut(short, "unjudged")
	judged := clitest.WriteFile(t, filepath.Join(t.TempDir(), "judged.run"), lines)
	reranked := evalJSON(t, "--beir", dir, "--run", judged, "--model", clitest.TinyModel(t), "--depth", "4")
	if d := reranked.Configurations[0].Depths[0]; !near(d.MS, d.Seconds*1000/4) {
		t.Errorf("%v ms per query and %v s for the four queries with candidates", d.MS, d.Seconds)
	}
	text := mlxrank.MustRun(t, "", append([]string{"eval", "--run", part}, args...)...).Out
	for _, want := range []string{"2 judged queries are not in part.run and counted as 0", "1 query of part.run without judgements left out"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestFailedConfiguration still reports the others.
func TestFailedConfiguration(t *testing.T) {
	dir, run := beir(t)
	good, none := clitest.TinyModel(t), filepath.Join(t.TempDir(), "none")
	r := mlxrank.Run(t, "", "eval", "--json", "--quiet", "--beir", dir, "--run", run, "--model", none, "--model", good, "--depth", "2")
	var got report
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil {
		t.Fatal(err)
	}
	if r.Status != command.ExitFailure || !strings.Contains(r.ErrOut, none) || len(got.Configurations) != 1 || got.Configurations[0].Model != good ||
		len(got.Failed) != 1 || got.Failed[0].Model != none {
		t.Errorf("status %d, %s\n%s", r.Status, r.ErrOut, r.Out)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "eval", "--beir", dir, "--run", run, "--model", none), command.ExitFailure, none)
}

// TestInterrupt ends a run during the scoring.
func TestInterrupt(t *testing.T) {
	dir, run := beir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := mlxrank.RunContext(ctx, t, strings.NewReader(""), "eval", "--beir", dir, "--run", run, "--model", clitest.TinyModel(t))
	if r.Status != command.ExitInterrupted || r.Out != "" || !strings.Contains(r.ErrOut, "interrupted") {
		t.Errorf("status %d, %q, %q", r.Status, r.Out, r.ErrOut)
	}
}

// TestStandardInput reads one file from standard input.
func TestStandardInput(t *testing.T) {
	dir, run := beir(t)
	want := evalJSON(t, "--qrels", filepath.Join(dir, "qrels", "test.tsv"), "--run", run)
	var got report
	r := mlxrank.MustRun(t, readText(t, run), "eval", "--json", "--qrels", filepath.Join(dir, "qrels", "test.tsv"), "--run", "-")
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil || fmt.Sprint(got.FirstStage.Measures) != fmt.Sprint(want.FirstStage.Measures) {
		t.Errorf("%v: %+v, want %+v", err, got, want)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "eval", "--qrels", "-", "--run", "-"), command.ExitUsage, "both read standard input")
}
