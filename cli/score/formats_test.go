package score

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// testPairs returns n different pairs.
func testPairs(n int) []engine.Pair {
	pairs := make([]engine.Pair, n)
	for i := range pairs {
		pairs[i] = engine.Pair{Query: []string{"city", "water", "data"}[i%3], Document: fmt.Sprintf("page %d of %d", i, i*i)}
	}
	return pairs
}

// writePacked writes a file, compressed if its name ends in .gz or .zst.
func writePacked(t *testing.T, path, text string) string {
	t.Helper()
	c, err := records.NewCompressor(path)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := c.Compress([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return clitest.WriteFile(t, path, string(packed))
}

func readPacked(t *testing.T, path string) string {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(records.Decompress(bytes.NewReader(packed)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// takeScores cuts the number after the last mark off every line.
func takeScores(t *testing.T, text, mark string) (rest string, scores []float32) {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(text) {
		i := strings.LastIndex(line, mark)
		if i < 0 {
			t.Fatalf("no score: %s", line)
		}
		number := strings.TrimRight(line[i+len(mark):], "}\r\n")
		score, err := strconv.ParseFloat(number, 32)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		b.WriteString(line[:i] + line[i+len(mark)+len(number):])
		scores = append(scores, float32(score))
	}
	return b.String(), scores
}

func checkScores(t *testing.T, e *engine.Engine, pairs []engine.Pair, got []float32) {
	t.Helper()
	want, err := e.Score(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want.Scores) {
		t.Fatalf("%d scores, want %d", len(got), len(want.Scores))
	}
	for i := range got {
		if !clitest.Near(got[i], want.Scores[i]) {
			t.Fatalf("score %d is %v, want %v", i, got[i], want.Scores[i])
		}
	}
}

// TestScoreFormats scores every format with every compression of input and output.
func TestScoreFormats(t *testing.T) {
	model := clitest.TinyModel(t)
	e := clitest.OpenEngine(t, model)
	pairs := testPairs(20)
	var jsonl, tsv, msmarco strings.Builder
	for i, p := range pairs {
		end := []string{"\n", "\r\n"}[i%2]
		fmt.Fprintf(&jsonl, `{"document":%q,"query":%q}%s`, p.Document, p.Query, end)
		fmt.Fprintf(&tsv, "%s\t%s%s", p.Query, p.Document, end)
		fmt.Fprintf(&msmarco, "%d\t%d\t%s\t%s%s", i/7, i, p.Query, p.Document, end)
	}
	for name, text := range map[string]string{"pairs.jsonl": jsonl.String(), "pairs.tsv": tsv.String(), "top1000": msmarco.String()} {
		for _, in := range []string{"", ".gz", ".zst"} {
			for _, out := range []string{"", ".gz", ".zst"} {
				dir := t.TempDir()
				input, output := writePacked(t, filepath.Join(dir, name+in), text), filepath.Join(dir, "out"+out)
				mlxrank.MustRun(t, "", "score", "--model", model, "--input", input, "--output", output)
				mark := "\t"
				if name == "pairs.jsonl" {
					mark = `, "score": `
				}
				rest, scores := takeScores(t, readPacked(t, output), mark)
				if rest != text {
					t.Errorf("%s%s to %s: bytes changed:\n%q\n%q", name, in, out, text, rest)
				}
				checkScores(t, e, pairs, scores)
				if packed, err := os.ReadFile(output); err != nil || records.Compressed(packed) != (out != "") {
					t.Errorf("out%s is compressed: %v, %v", out, out == "", err)
				}
			}
		}
		r := mlxrank.MustRun(t, text, "score", "--model", model, "--input", "-", "--output", "-", "--format", "auto")
		if strings.Count(r.Out, "\n") != len(pairs) {
			t.Errorf("%s from standard input: got %s", name, r.Out)
		}
		// gzip is recognised by its first bytes, whatever the name.
		if got := mlxrank.MustRun(t, gzipped(text), "score", "--model", model, "--input", "-", "--output", "-"); got.Out != r.Out {
			t.Errorf("%s unpacked from standard input: got %s, want %s", name, got.Out, r.Out)
		}
	}
}

func TestScoreEmpty(t *testing.T) {
	model := clitest.TinyModel(t)
	for _, in := range []string{"in", "in.tsv", "in.gz", "in.zst"} {
		for _, text := range []string{"", "\n\r\n", "\ufeff"} {
			for _, out := range []string{"out", "out.gz", "out.zst"} {
				for _, format := range []string{"same", "trec"} {
					dir := t.TempDir()
					input, output := writePacked(t, filepath.Join(dir, in), text), filepath.Join(dir, out)
					mlxrank.MustRun(t, "", "score", "--model", model, "--input", input, "--output", output, "--output-format", format)
					if got := readPacked(t, output); got != "" {
						t.Errorf("%q in %s: got %q", text, in, got)
					}
					if packed, err := os.ReadFile(output); err != nil || records.Compressed(packed) != (out != "out") {
						t.Errorf("%s holds %q, %v", out, packed, err)
					}
					if len(clitest.Contents(t, dir)) != 2 {
						t.Errorf("left: %v", clitest.Contents(t, dir))
					}
				}
			}
		}
	}
}

func TestScoreOverwrites(t *testing.T) {
	model := clitest.TinyModel(t)
	dir := t.TempDir()
	once := filepath.Join(dir, "once")
	for _, text := range []string{
		clitest.PairLines(3) + `{"score":1,"query":"q","document":"d","sc\u006fre":[1]}` + "\n",
		"q\td\r\ncity\tlondon\n",
	} {
		clean := strings.ReplaceAll(text, `"score":1,`, "")
		clean = strings.ReplaceAll(clean, `,"sc\u006fre":[1]`, "")
		mlxrank.MustRun(t, "", "score", "--model", model, "--input", clitest.WriteFile(t, filepath.Join(dir, "clean"), clean), "--output", once)
		scored := readPacked(t, once)
		clitest.CheckFailure(t, mlxrank.Run(t, scored, "score", "--model", model, "--input", "-", "--output", "-"), command.ExitFailure, "--overwrite-score")
		stale := regexp.MustCompile(`(, "score": |\t)0\.\d+`).ReplaceAllString(scored, "${1}77")
		r := mlxrank.MustRun(t, stale, "score", "--model", model, "--input", "-", "--output", "-", "--overwrite-score")
		if r.Out != scored || stale == scored {
			t.Errorf("overwritten:\n%s\nwant\n%s", r.Out, scored)
		}
	}
	r := mlxrank.MustRun(t, `{"score":1,"query":"q","document":"d","sc\u006fre":[1]}`, "score", "--model", model, "--input", "-", "--output", "-", "--overwrite-score")
	if !regexp.MustCompile(`^\{"score":(0\.\d+),"query":"q","document":"d","sc\\u006fre":(0\.\d+)\}\n$`).MatchString(r.Out) {
		t.Errorf("got %s", r.Out)
	}
}

func TestScoreSkips(t *testing.T) {
	model := clitest.TinyModel(t)
	long := strings.Repeat("█", 1<<20) // has no boundary to cut at, so the engine rejects it
	for _, test := range []struct {
		name, text string
		flags      []string
		want       string // a pattern
		skipped    int
	}{
		{"JSONL", "{\"query\":\"q\",\"document\":\"d\"}\n\nhello\n{\"query\":\"q\",\"document\":\"" + long + "\"}\n{\"query\":\"q\",\"document\":\"d\"}\n", nil,
			`^\{"query":"q","document":"d", "score": 0\.\d+\}\n\{"error":"not a JSON object[^\n]*","line":3\}\n\{"error":"[^\n]*bytes[^\n]*","line":4\}\n\{"query":"q","document":"d", "score": 0\.\d+\}\n$`, 2},
		{"TSV", "q\td\nq\nq\td\n", []string{"--format", "tsv"}, `^q\td\t0\.\d+\n\t\terror: line 2: 1 column, [^\t\n]*\nq\td\t0\.\d+\n$`, 1},
		{"MS MARCO", "1\t2\tq\td\n1\t2\tq\n", nil, `^1\t2\tq\td\t0\.\d+\n\t\t\t\terror: line 2: 3 columns, [^\t\n]*\n$`, 1},
		{"MS MARCO to a run", "1\t2\tq\td\n1\t2\tq\n1\t \tq\td\n", []string{"--output-format", "trec"}, `^1 Q0 2 1 -?\d+\.\d+ mlxrank\n$`, 2},
		{"ids of other texts to a run", "1\t2\tq\td\n1\t3\tother\td\n1\t2\tq\tother\n1\t2\tq\td\n", []string{"--output-format", "trec"}, `^1 Q0 2 1 -?\d+\.\d+ mlxrank\n$`, 2},
		{"not UTF-8", "q\td\nq\tcaf\xe9\nq\ta\x00b\n", []string{"--format", "tsv"}, `^q\td\t0\.\d+\n\t\terror: line 2: not UTF-8 \(byte 0xE9 at column 6; Latin-1\?\)[^\t\n]*\n\t\terror: line 3: NUL byte at column 4[^\t\n]*\n$`, 2},
		{"all", "{}\n[]\n", nil, `^\{"error":.*,"line":1\}\n\{"error":.*,"line":2\}\n$`, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			input, out := clitest.WriteFile(t, filepath.Join(dir, "in"), test.text), filepath.Join(dir, "out")
			args := append([]string{"score", "--model", model, "--input", input, "--output", out, "--on-error", "skip"}, test.flags...)
			r := mlxrank.MustRun(t, "", args...)
			if got := readPacked(t, out); !regexp.MustCompile(test.want).MatchString(got) {
				t.Errorf("got %.2000q", got)
			}
			for _, want := range []string{fmt.Sprintf("skipped=%d", test.skipped), "skipped   " + output.Count(test.skipped, "line", "lines")} {
				if !strings.Contains(r.ErrOut, want) {
					t.Errorf("standard error lacks %q:\n%s", want, r.ErrOut)
				}
			}
			if r := mlxrank.MustRun(t, "", slices.Concat(args, []string{"--log-level", "info"})...); strings.Count(r.ErrOut, "line=") != test.skipped {
				t.Errorf("the log does not name %d lines:\n%s", test.skipped, r.ErrOut)
			}
			fail := slices.Clone(args)
			fail[slices.Index(fail, "skip")] = "fail"
			clitest.CheckFailure(t, mlxrank.Run(t, "", fail...), command.ExitFailure, input+": line ")
		})
	}
}

// TestScoreErrorHasLine checks that the error has the line of a pair that the engine rejects.
func TestScoreErrorHasLine(t *testing.T) {
	text := clitest.PairLines(2) + `{"query":"q","document":"` + strings.Repeat("█", 1<<20) + `"}`
	r := mlxrank.Run(t, text, "score", "--model", clitest.TinyModel(t), "--input", "-", "--output", filepath.Join(t.TempDir(), "out"))
	clitest.CheckFailure(t, r, command.ExitFailure, "standard input: line 3: ", "bytes")
	if len(r.ErrOut) > 500 {
		t.Errorf("message of %d bytes", len(r.ErrOut))
	}
}

const (
	testRun       = "q2 Q0 d3 1 9 bm25\r\nq1 Q0 d1 1 3 bm25\n\nq2 Q0 d1 2 8 bm25\nq1 Q0 d2 2 2 bm25"
	testShortRun  = "q2\td3\t1\nq1\td1\t1\nq2\td1\t2\nq1\td2\t2\n"
	testQueries   = "q1\tcity\nq2\twater\n"
	testDocuments = "d1\tlondon\nd2\tpage 2 of 3\nd3\triver\n"
)

// checkRun checks the layout of a TREC run byte by byte, except the logits:
// queries in the order of the input, documents by logit.
func checkRun(t *testing.T, e *engine.Engine, got string, texts map[string]string) {
	t.Helper()
	line := regexp.MustCompile(`^(q\d) Q0 (d\d) (\d+) (-?\d+(?:\.\d+)?(?:e-\d+)?) mlxrank\n$`)
	var pairs []engine.Pair
	var ids []string
	var logits []float32
	for text := range strings.Lines(got) {
		match := line.FindStringSubmatch(text)
		if match == nil {
			t.Fatalf("not a line of a run: %q", text)
		}
		logit, err := strconv.ParseFloat(match[4], 32)
		if err != nil {
			t.Fatal(err)
		}
		place := len(logits)%2 + 1
		if match[3] != strconv.Itoa(place) || place > 1 && float32(logit) > logits[len(logits)-1] {
			t.Errorf("rank %s with logit %s is at place %d:\n%s", match[3], match[4], place, got)
		}
		ids = append(ids, match[1]+match[2])
		pairs, logits = append(pairs, engine.Pair{Query: texts[match[1]], Document: texts[match[2]]}), append(logits, float32(logit))
	}
	want, err := e.Score(t.Context(), pairs)
	if err != nil || len(pairs) != 4 || ids[0][:2] != "q2" || ids[1][:2] != "q2" {
		t.Fatalf("%v: queries are not in the order they came in:\n%s", err, got)
	}
	for i := range logits {
		if !clitest.Near(logits[i], want.Logits[i]) {
			t.Errorf("logit %d is %v, want %v", i, logits[i], want.Logits[i])
		}
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"q1d1", "q1d2", "q2d1", "q2d3"}) {
		t.Errorf("got %q", ids)
	}
}

func TestScoreTREC(t *testing.T) {
	model := clitest.TinyModel(t)
	e := clitest.OpenEngine(t, model)
	texts := map[string]string{"q1": "city", "q2": "water", "d1": "london", "d2": "page 2 of 3", "d3": "river"}
	dir := t.TempDir()
	for _, kind := range []string{"", ".gz", ".zst"} {
		input := writePacked(t, filepath.Join(dir, "bm25"+kind), testRun)
		queries := writePacked(t, filepath.Join(dir, "queries"+kind), testQueries)
		documents := writePacked(t, filepath.Join(dir, "documents"+kind), testDocuments)
		output := filepath.Join(dir, "out"+kind)
		mlxrank.MustRun(t, "", "score", "--model", model, "--input", input, "--queries", queries, "--documents", documents, "--output", output)
		checkRun(t, e, readPacked(t, output), texts)
		r := mlxrank.MustRun(t, testRun, "score", "--model", model, "--input", "-", "--queries", queries, "--documents", documents, "--output", "-")
		if r.Out != readPacked(t, output) {
			t.Errorf("on standard output:\n%s", r.Out)
		}
		short := mlxrank.MustRun(t, testShortRun, "score", "--model", model, "--input", "-", "--queries", queries, "--documents", documents, "--output", "-")
		if short.Out != r.Out {
			t.Errorf("of a run as MS MARCO writes it:\n%s", short.Out)
		}
		tsv := filepath.Join(dir, "run.dev.tsv"+kind)
		for _, text := range []string{testShortRun, strings.ReplaceAll(strings.ReplaceAll(testRun, "\n\n", "\n"), " ", "\t")} {
			named := mlxrank.MustRun(t, "", "score", "--model", model, "--input", writePacked(t, tsv, text), "--queries", queries, "--documents", documents, "--output", "-")
			if named.Out != r.Out {
				t.Errorf("of a run named .tsv:\n%s", named.Out)
			}
		}
		tagged := mlxrank.MustRun(t, testRun, "score", "--model", model, "--input", "-", "--queries", queries, "--documents", documents, "--output", "-", "--run-tag", "mine")
		if tagged.Out != strings.ReplaceAll(r.Out, " mlxrank\n", " mine\n") {
			t.Errorf("with a tag:\n%s", tagged.Out)
		}
	}
	for _, tag := range []string{"", "two words", "a\tb", "\x01"} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--input", "-", "--output", "-", "--run-tag="+tag), command.ExitUsage, "--run-tag", "one word")
	}
	clitest.CheckFailure(t, mlxrank.Run(t, clitest.PairLines(1), "score", "--model", model, "--input", "-", "--output", "-", "--run-tag", "a"), command.ExitUsage, "--run-tag needs a TREC run", "jsonl")
	var jsonl, msmarco strings.Builder
	for _, line := range strings.Fields(strings.ReplaceAll(testRun, " Q0 ", ":")) {
		if q, d, ok := strings.Cut(line, ":"); ok {
			fmt.Fprintf(&jsonl, `{"query_id":%q,"document_id":%q,"query":%q,"document":%q}`+"\n", q, d, texts[q], texts[d])
			fmt.Fprintf(&msmarco, "%s\t%s\t%s\t%s\n", q, d, texts[q], texts[d])
		}
	}
	for _, text := range []string{jsonl.String(), msmarco.String()} {
		r := mlxrank.MustRun(t, text, "score", "--model", model, "--input", "-", "--output", "-", "--output-format", "trec")
		checkRun(t, e, r.Out, texts)
	}
}

// gzipped returns a text compressed with gzip.
func gzipped(text string) string {
	var b strings.Builder
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func TestScoreBadFormats(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	queries, documents := clitest.WriteFile(t, filepath.Join(dir, "queries"), testQueries), clitest.WriteFile(t, filepath.Join(dir, "documents"), testDocuments)
	texts := []string{"--queries", queries, "--documents", documents}
	for _, test := range []struct {
		name, text string
		flags      []string
		status     int
		words      []string
	}{
		{"nothing known", "hello world\n", nil, command.ExitFailure, []string{"cannot detect the format", "1 column", `"hello world"`, "--format"}},
		{"three columns", "a\tb\tc\n", nil, command.ExitFailure, []string{"cannot detect the format", "3 columns", `"a\tb\tc"`}},
		{"run without texts", testRun, nil, command.ExitUsage, []string{"is a TREC run", "--queries FILE and --documents FILE"}},
		{"texts on standard input", testRun, []string{"--queries", "-", "--documents", documents}, command.ExitUsage, []string{"--queries needs a file"}},
		{"run without documents", testRun, texts[:2], command.ExitUsage, []string{"is a TREC run"}},
		{"texts for JSONL", clitest.PairLines(1), texts, command.ExitUsage, []string{"jsonl", "--queries and --documents are for TREC runs"}},
		{"document not there", testRun + "\nq1 Q0 d9 3 1 bm25", texts, command.ExitFailure, []string{"line 6", `"d9" is not in ` + documents}},
		{"texts are none", testRun, []string{"--queries", queries, "--documents", dir + "/none"}, command.ExitFailure, []string{"--documents: ", dir + "/none", "no such file"}},
		{"texts with one column", testRun, []string{"--queries", queries, "--documents", clitest.WriteFile(t, filepath.Join(dir, "bad"), "d1\n")}, command.ExitFailure, []string{"--documents: ", dir + "/bad: line 1: 1 column"}},
		{"run of TSV", "a\tb\n", []string{"--output-format", "trec"}, command.ExitFailure, []string{"needs ids", "--format msmarco"}},
		{"run of TSV by name", "a\tb\n", []string{"--output-format", "trec", "--format", "tsv"}, command.ExitUsage, []string{"needs ids"}},
		{"run of JSONL without ids", clitest.PairLines(1), []string{"--output-format", "trec"}, command.ExitFailure, []string{"line 1", `"query_id" is missing`}},
		{"JSONL for TSV", clitest.PairLines(1), []string{"--format", "tsv"}, command.ExitFailure, []string{"line 1: 1 column, expected 2"}},
		{"no such format", "", []string{"--format", "xml"}, command.ExitUsage, []string{`--format "xml"`, "auto, jsonl, tsv, msmarco, trec"}},
		{"no such output format", "", []string{"--output-format", "csv"}, command.ExitUsage, []string{`--output-format "csv"`, "same, trec"}},
		{"no such action", "", []string{"--on-error", "warn"}, command.ExitUsage, []string{`--on-error "warn"`, "fail, skip"}},
		{"Parquet", "PAR1\x15\x04\x15\x1e\x15", []string{"--on-error", "skip"}, command.ExitFailure, []string{"a", "Parquet file"}},
		{"UTF-16 with --format", "\xff\xfea\x00\t\x00b\x00\n\x00", []string{"--format", "tsv"}, command.ExitFailure, []string{"looks like UTF-16"}},
		{"Parquet as documents", testRun, []string{"--queries", queries, "--documents", clitest.WriteFile(t, filepath.Join(dir, "parquet"), "PAR1\x15\x04\x15\x1e\x15")}, command.ExitFailure, []string{"--documents: ", "not a readable Parquet file"}},
		{"Latin-1 as documents", testRun, []string{"--queries", queries, "--documents", clitest.WriteFile(t, filepath.Join(dir, "latin"), testDocuments[:10]+"d2\tcaf\xe9\nd3\tx\n")}, command.ExitFailure, []string{"line 5: ", dir + "/latin: line 2: not UTF-8"}},
		{"an id twice", testRun, []string{"--queries", queries, "--documents", clitest.WriteFile(t, filepath.Join(dir, "twice"), testDocuments+"d2\tother\n")}, command.ExitFailure, []string{"line 5: ", `"d2" has different texts in lines 2 and 4 of ` + dir + "/twice"}},
		{"qrels", "1\t0\td1\t1\n", nil, command.ExitFailure, []string{"looks like TREC qrels"}},
		{"run of MS MARCO without texts", testShortRun, nil, command.ExitFailure, []string{"cannot detect the format", "a run (qid pid rank) needs --queries and --documents"}},
		{"whole numbers to be overwritten", "7\t1\t1\n", []string{"--overwrite-score"}, command.ExitFailure, []string{"cannot detect the format", "a run (qid pid rank) needs --queries and --documents"}},
		{"short line in a TREC run", "q1 Q0 d1 1 3 bm25\nq1 d1 1\n", texts, command.ExitFailure, []string{"line 2: 3 columns, expected 6"}},
		{"two queries of an id", "1\t2\tedit photos\tx\n1\t3\tbread\tx\n", []string{"--output-format", "trec"}, command.ExitFailure, []string{"line 2: query id \"1\" has a different query in line 1"}},
		{"two passages of a pair of ids", "1\t2\tbread\tx\n1\t2\tbread\ty\n", []string{"--output-format", "trec"}, command.ExitFailure, []string{"line 2: document id \"2\" of query id \"1\" has a different text in line 1"}},
		{"text after gzip", gzipped("a\tb\n") + "c\td\n", nil, command.ExitFailure, []string{": data that is not gzip follows the compressed data"}},
		{"two bytes of gzip", "\x1f\x8b", nil, command.ExitFailure, []string{"line 1: the gzip data is truncated: unexpected EOF\n"}},
		{"header of JSONL", clitest.PairLines(1), []string{"--header"}, command.ExitUsage, []string{"--header", "is jsonl"}},
		{"broken gzip", "\x1f\x8b\x08\x00garbage", nil, command.ExitFailure, []string{"the gzip data is truncated"}},
		{"broken zstd", "\x28\xb5\x2f\xfdgarbage garbage", nil, command.ExitFailure, []string{"the zstd data is"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			input := clitest.WriteFile(t, filepath.Join(dir, "in"), test.text)
			output := clitest.WriteFile(t, filepath.Join(dir, "out"), "old")
			left := map[string]string{"in": test.text, "out": "old"}
			for _, skip := range []string{"fail", "skip"} {
				flags := []string{"score", "--model", model, "--output", output, "--on-error", skip, "--input", input}
				if slices.Contains(test.flags, "--on-error") {
					flags = slices.Delete(flags, 5, 7)
				}
				if skip == "skip" && (strings.Contains(strings.Join(test.words, " "), "line ") || test.name == "no such action") && !strings.HasPrefix(test.name, "texts") {
					continue
				}
				clitest.CheckFailure(t, mlxrank.Run(t, "", append(flags, test.flags...)...), test.status, test.words...)
				clitest.CheckDir(t, dir, left)
				flags[len(flags)-1] = "-"
				clitest.CheckFailure(t, mlxrank.Run(t, test.text, append(flags, test.flags...)...), test.status, test.words...)
				clitest.CheckDir(t, dir, left)
			}
		})
	}
}

// TestScoreRefusesInputAsOutput checks that an output that is an input under any name is refused.
func TestScoreRefusesInputAsOutput(t *testing.T) {
	dir := t.TempDir()
	input := clitest.WriteFile(t, filepath.Join(dir, "pairs"), clitest.PairLines(1))
	soft, hard := filepath.Join(dir, "soft"), filepath.Join(dir, "hard")
	if err := os.Symlink(input, soft); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(input, hard); err != nil {
		t.Fatal(err)
	}
	before := clitest.Contents(t, dir)
	for _, output := range []string{input, soft, hard, dir + "/./pairs"} {
		for _, in := range []string{input, soft} {
			clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--input", in, "--output", output), command.ExitUsage, output, in, "name another")
			clitest.CheckDir(t, dir, before)
		}
		file, err := os.Open(input)
		if err != nil {
			t.Fatal(err)
		}
		clitest.CheckFailure(t, mlxrank.RunContext(t.Context(), t, file, "score", "--input", "-", "--output", output), command.ExitUsage, output, "standard input")
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		clitest.CheckDir(t, dir, before)
	}
	texts := clitest.WriteFile(t, filepath.Join(dir, "texts"), testDocuments)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--input", "-", "--queries", texts, "--documents", texts, "--output", texts), command.ExitUsage, texts, "name another")
	partial := clitest.WriteFile(t, filepath.Join(dir, "out"+scored.PartialSuffix), clitest.PairLines(1))
	clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--input", partial, "--output", filepath.Join(dir, "out")), command.ExitUsage, partial, "name another")
}

// TestScoreDuplicates checks that a run has each pair once and that duplicates are reported.
func TestScoreDuplicates(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	args := []string{"score", "--model", model, "--queries", clitest.WriteFile(t, filepath.Join(dir, "queries"), testQueries),
		"--documents", clitest.WriteFile(t, filepath.Join(dir, "documents"), testDocuments+"d1\tlondon\r\n"), "--input", "-", "--output"}
	want := mlxrank.MustRun(t, testRun, append(args, "-")...)
	if strings.Contains(want.ErrOut, "left_out") {
		t.Errorf("a warning without duplicates:\n%s", want.ErrOut)
	}
	output := filepath.Join(dir, "out")
	for _, to := range []string{"-", output} {
		r := mlxrank.MustRun(t, testRun+"\nq1 Q0 d1 3 1 bm25\n", append(args, to)...)
		if to == output {
			r.Out = readPacked(t, output)
		}
		if r.Out != want.Out {
			t.Errorf("to %s: got\n%s\nwant\n%s", to, r.Out, want.Out)
		}
		for _, word := range []string{"left_out=1", "query q1, document d1: line 6 left out for line 2"} {
			if !strings.Contains(r.ErrOut, word) {
				t.Errorf("to %s: the log lacks %q:\n%s", to, word, r.ErrOut)
			}
		}
	}
}

// TestScoreBEIR scores a run with the texts and titles of a BEIR collection.
func TestScoreBEIR(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	e := clitest.OpenEngine(t, model)
	queries := clitest.WriteFile(t, filepath.Join(dir, "queries.jsonl"), `{"_id": "q1", "text": "city", "metadata": {}}`+"\n"+`{"_id": "q2", "text": "water"}`)
	corpus := clitest.WriteFile(t, filepath.Join(dir, "corpus.jsonl"), `{"_id": "d1", "title": "england", "text": "london"}`+"\n"+`{"_id": "d2", "title": "", "text": "page 2 of 3"}`+"\n"+`{"_id": "d3", "text": "river"}`)
	documents := clitest.WriteFile(t, filepath.Join(dir, "docs.tsv"), "d1\thttp://a\tengland\tlondon\nd2\thttp://b\t\tpage 2 of 3\nd3\thttp://c\t\triver\n")
	texts := map[string]string{"q1": "city", "q2": "water", "d1": "england london", "d2": "page 2 of 3", "d3": "river"}
	for path, source := range map[string]string{corpus: "text, title and text", documents: "title and body"} {
		r := mlxrank.MustRun(t, testRun, "score", "--model", model, "--input", "-", "--queries", queries, "--documents", path, "--output", "-")
		checkRun(t, e, r.Out, texts)
		if !strings.Contains(r.ErrOut, "input     trec, document from "+source+"\n") {
			t.Errorf("the summary does not say what documents are made of:\n%s", r.ErrOut)
		}
	}
}

// TestScoreText checks that score reads "text" and "title" as rerank does, and marks
// empty documents.
func TestScoreText(t *testing.T) {
	model := clitest.TinyModel(t)
	e := clitest.OpenEngine(t, model)
	text := `{"query":"city","text":"london"}` + "\n" + `{"query":"city","title":"england","text":"london"}` + "\n\n" + `{"query":"city","document":"\t"}` + "\n"
	r := mlxrank.MustRun(t, text, "score", "--model", model, "--input", "-", "--output", "-")
	lines := strings.SplitAfter(strings.ReplaceAll(r.Out, `, "empty": true}`, "}"), "\n")
	_, scores := takeScores(t, strings.Join(lines, ""), `, "score": `)
	checkScores(t, e, []engine.Pair{{Query: "city", Document: "london"}, {Query: "city", Document: "england london"}, {Query: "city", Document: "\t"}}, scores)
	if strings.Count(r.Out, `"empty"`) != 1 || !strings.HasSuffix(r.Out, `, "empty": true}`+"\n") {
		t.Errorf("got\n%s", r.Out)
	}
	for _, want := range []string{"empty     1 document has no text", "blank     1 line skipped", "input     jsonl, document from document, text, title and text"} {
		if !strings.Contains(r.ErrOut, want) {
			t.Errorf("the summary lacks %q:\n%s", want, r.ErrOut)
		}
	}
}
