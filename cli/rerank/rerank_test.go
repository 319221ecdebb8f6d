package rerank

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
)

type rankingJSON struct {
	Query   string
	Results []rankedJSON
	Run     output.Summary
}

func rerankJSON(t *testing.T, stdin string, args ...string) rankingJSON {
	t.Helper()
	r := mlxrank.MustRun(t, stdin, append([]string{"rerank", "--json"}, args...)...)
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	var got rankingJSON
	decoder := json.NewDecoder(strings.NewReader(r.Out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%v in %s", err, r.Out)
	}
	return got
}

var passages = []string{
	"london is a city on a river", "the history of water", "what is the score of this page? <b>&</b>", "berlin", "",
}

func TestRerankJSON(t *testing.T) {
	model := clitest.TinyModel(t)
	got := rerankJSON(t, "", append([]string{"--model", model, "--device", "cpu", "--query", "city", "--"}, passages...)...)
	e, err := engine.Open(t.Context(), engine.Config{Model: model, Device: "cpu"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	want, err := e.Rerank(t.Context(), "city", passages, engine.RerankOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Query != "city" || len(got.Results) != len(passages) {
		t.Fatalf("got query %q and %d results", got.Query, len(got.Results))
	}
	for i, r := range got.Results {
		w := want.Items[i]
		if r.Rank != i+1 || r.Index != w.Index || r.Document != passages[w.Index] || r.Line != 0 {
			t.Errorf("result %d: got %+v, want document %d", i, r, w.Index)
		}
		if !clitest.Near(r.Score, w.Score) || !clitest.Near(r.Logit, w.Logit) {
			t.Errorf("result %d: got score %v of logit %v, want %v of %v", i, r.Score, r.Logit, w.Score, w.Logit)
		}
	}
	run := got.Run
	if run.Model != model || run.Device != "cpu" || run.DType != "float32" || run.MaxLength != 128 || run.Activation != "sigmoid" {
		t.Errorf("wrong run: %+v", run)
	}
	if run.Pairs != len(passages) || run.Truncated != 0 || run.Batches < 1 || run.Tokens < 4*len(passages) || run.ComputedTokens < run.Tokens {
		t.Errorf("wrong counts: %+v", run)
	}
	stages := run.InferenceMS + run.TokenizationMS + run.QueueWaitMS + run.OtherMS
	if run.LatencyMS <= 0 || run.InferenceMS <= 0 || math.Abs(stages-run.LatencyMS) > 0.001 || run.StartupMS <= 0 || run.ThroughputPairs <= 0 {
		t.Errorf("wrong times: %+v", run)
	}
}

func TestRerankTable(t *testing.T) {
	model := clitest.TinyModel(t)
	args := append([]string{"--model", model, "--query", "city"}, passages...)
	want := rerankJSON(t, "", args...)
	r := mlxrank.MustRun(t, "", append([]string{"rerank"}, args...)...)
	lines := strings.Split(strings.TrimSuffix(r.Out, "\n"), "\n")
	if len(lines) != 1+len(passages) || strings.Join(strings.Fields(lines[0]), " ") != "rank score arg document" {
		t.Fatalf("got\n%s", r.Out)
	}
	column := strings.Index(lines[0], "document")
	for i, line := range lines[1:] {
		numbers := strings.Fields(line[:column])
		place := want.Results[i].Index
		if len(numbers) != 3 || numbers[0] != strconv.Itoa(i+1) || numbers[2] != strconv.Itoa(place+1) {
			t.Errorf("line %q, want rank %d of argument %d", line, i+1, place+1)
			continue
		}
		if score, err := strconv.ParseFloat(numbers[1], 32); err != nil || math.Abs(score-float64(want.Results[i].Score)) > 0.00006 {
			t.Errorf("line %q: score is not %v", line, want.Results[i].Score)
		}
		if want := cmp.Or(passages[place], "(empty)"); line[column:] != want {
			t.Errorf("line %q: not aligned with the header, or not %q", line, want)
		}
	}
	for _, want := range []string{"model", model, "max length 128", "sigmoid", "device", "float32", "5 (0 truncated)", "real", "start-up", "inference", "tokenization", "queue wait", "other"} {
		if !strings.Contains(r.ErrOut, want) {
			t.Errorf("standard error lacks %q:\n%s", want, r.ErrOut)
		}
	}
}

func TestRerankSources(t *testing.T) {
	model := clitest.TinyModel(t)
	text := "\ufeff\n" + `  {"text": "london is a city"}` + "\n\n" + `{"id": 1, "document": "berlin", "text": "not this"}` + "\n\ufeff" + `{"text": "water\nand history"}` + "\r\n" + `{"text": "` + strings.Repeat("long ", 50_000) + `"}`
	docs := []string{"london is a city", "berlin", "water\nand history", strings.Repeat("long ", 50_000)}
	lines := []int{2, 4, 5, 6}
	file := clitest.WriteFile(t, filepath.Join(t.TempDir(), "docs.txt"), text)
	for _, test := range []struct{ name, stdin, path string }{{"file", "", file}, {"standard input", text, "-"}} {
		t.Run(test.name, func(t *testing.T) {
			got := rerankJSON(t, test.stdin, "--model", model, "--query", "city", "--documents", test.path)
			if len(got.Results) != len(docs) {
				t.Fatalf("got %d results, want %d", len(got.Results), len(docs))
			}
			for _, r := range got.Results {
				if r.Document != docs[r.Index] || r.Line != lines[r.Index] {
					t.Errorf("result %d is of line %d: %.60q", r.Index, r.Line, r.Document)
				}
			}
			if got.Run.Truncated != 1 {
				t.Errorf("%d truncated, want 1", got.Run.Truncated)
			}
		})
	}
	t.Run("table names lines", func(t *testing.T) {
		r := mlxrank.MustRun(t, text, "rerank", "--model", model, "--query", "city", "--documents", "-")
		header, _, _ := strings.Cut(r.Out, "\n")
		if strings.Join(strings.Fields(header), " ") != "rank score line id document" {
			t.Errorf("header %q", header)
		}
		if !strings.Contains(r.ErrOut, "blank     2 lines skipped") || !strings.Contains(r.ErrOut, "input     jsonl since its first line is a JSON object, document from document, text\n") {
			t.Errorf("the summary lacks the blank lines or the format:\n%s", r.ErrOut)
		}
		for _, line := range strings.Split(r.Out, "\n") {
			if width := output.Display.StringWidth(line); width > output.PlainWidth {
				t.Errorf("line of %d columns: %s", width, line)
			}
		}
	})
}

func TestRerankDocumentErrors(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, text string
		words      []string
	}{
		{"empty", "", []string{"no documents"}},
		{"blank", "\n \n", []string{"no documents"}},
		{"malformed object", "{\"text\": \"a\"}\n\n{\"text\": \"b\n", []string{"line 3", "malformed JSON at byte 11", "--format chooses another"}},
		{"text and objects", "a\n\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n", []string{"line 3", "cannot detect the format", "--format lines"}},
		{"UTF-16", "\xff\xfea\x00\n\x00", []string{"looks like UTF-16", "iconv"}},
		{"Latin-1", "a\ncaf\xe9\n", []string{"line 2", "not UTF-8", "ISO-8859-1"}},
		{"neither field", "{\"body\": \"b\"}", []string{"line 1", `"document"`, `"text"`}},
		{"not a string", "{\"text\": 5}", []string{"line 1", `"text" is not a string: 5`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := clitest.WriteFile(t, filepath.Join(dir, "docs.txt"), test.text)
			r := mlxrank.Run(t, "", "rerank", "--model", "builtin", "--query", "q", "--documents", file)
			clitest.CheckFailure(t, r, command.ExitFailure, append(test.words, file)...)
		})
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "q", "--documents", dir), command.ExitFailure, dir, "is a directory")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "q", "--documents", dir+"/none"), command.ExitFailure, dir+"/none", "no such file")
}

func TestRerankFlags(t *testing.T) {
	model := clitest.TinyModel(t)
	all := rerankJSON(t, "", append([]string{"--model", model, "--query", "city"}, passages...)...)
	t.Run("flags after documents", func(t *testing.T) {
		got := rerankJSON(t, "", append(slices.Clone(passages), "--query", "city", "--model", model)...)
		if len(got.Results) != len(all.Results) || got.Results[0].Index != all.Results[0].Index {
			t.Errorf("got %+v, want %+v", got.Results, all.Results)
		}
	})
	t.Run("top-n", func(t *testing.T) {
		for n, want := range map[string]int{"1": 1, "3": 3, "5": 5, "99": 5} {
			got := rerankJSON(t, "", append([]string{"--top-n", n, "--model", model, "--query", "city"}, passages...)...)
			if len(got.Results) != want || got.Run.Pairs != len(passages) {
				t.Fatalf("--top-n %s: %d results of %d pairs, want %d", n, len(got.Results), got.Run.Pairs, want)
			}
			for i := range got.Results {
				if got.Results[i].Index != all.Results[i].Index {
					t.Errorf("--top-n %s: result %d is document %d, want %d", n, i, got.Results[i].Index, all.Results[i].Index)
				}
			}
		}
	})
	t.Run("activation", func(t *testing.T) {
		raw := rerankJSON(t, "", append([]string{"--activation", "raw", "--model", model, "--query", "city"}, passages...)...)
		for i, r := range raw.Results {
			sigmoid := float32(1 / (1 + math.Exp(-float64(r.Logit))))
			if r.Score != r.Logit || !clitest.Near(all.Results[i].Score, sigmoid) {
				t.Errorf("raw %v, logit %v, sigmoid %v", r.Score, r.Logit, all.Results[i].Score)
			}
		}
		if raw.Run.Activation != "raw" {
			t.Errorf("activation %q, want raw", raw.Run.Activation)
		}
	})
	t.Run("maximum length", func(t *testing.T) {
		got := rerankJSON(t, "", append([]string{"--max-length", "6", "--model", model, "--query", "city"}, passages...)...)
		if got.Run.MaxLength != 6 || got.Run.Truncated < 3 || got.Run.Tokens > 6*len(passages) {
			t.Errorf("wrong run: %+v", got.Run)
		}
	})
	t.Run("dtype", func(t *testing.T) {
		for _, dtype := range []string{"float16", "bfloat16"} {
			got := rerankJSON(t, "", append([]string{"--dtype", dtype, "--log-level", "error", "--model", model, "--query", "city"}, passages...)...)
			if got.Run.DType != dtype {
				t.Errorf("dtype %q, want %q", got.Run.DType, dtype)
			}
		}
		// No processor has kernels for float16.
		r := mlxrank.MustRun(t, "", append([]string{"rerank", "--dtype", "float16", "--device", "cpu", "--model", model, "--query", "city"}, passages...)...)
		if !strings.Contains(r.ErrOut, "float32 is faster") {
			t.Errorf("float16 on the CPU is not warned of: %q", r.ErrOut)
		}
	})
	t.Run("log", func(t *testing.T) {
		r := mlxrank.MustRun(t, "", append([]string{"rerank", "--json", "--log-level", "trace", "--log-format", "json", "--model", model, "--query", "city"}, passages...)...)
		for _, line := range strings.Split(strings.TrimSpace(r.ErrOut), "\n") {
			var event map[string]any
			if err := json.Unmarshal([]byte(line), &event); err != nil || event["level"] == nil {
				t.Errorf("not a log event: %q", line)
			}
		}
		if strings.Contains(r.ErrOut, passages[0]) {
			t.Error("the log has the text of a document")
		}
	})
}

// TestRerankBuiltin gives the real model a query with an obvious answer.
func TestRerankBuiltin(t *testing.T) {
	got := rerankJSON(t, "", "--model", "builtin", "--query", "text editor for programmers",
		"A collection of card games such as solitaire, hearts and spades.",
		"An extensible editor for source code with syntax highlighting and plugins.",
		"Daemon that synchronises the clock of the computer over the network.")
	if got.Results[0].Index != 1 {
		t.Errorf("the best document is %d, want 1: %+v", got.Results[0].Index, got.Results)
	}
	if best, next := got.Results[0].Score, got.Results[1].Score; best < 2*next {
		t.Errorf("scores %v and %v are close", best, next)
	}
	if got.Run.MaxLength != 512 {
		t.Errorf("maximum length %d, want 512", got.Run.MaxLength)
	}
}

func TestRerankArray(t *testing.T) {
	model := clitest.TinyModel(t)
	text := "\ufeff \n[\n \"london is a city\",\n {\"id\": 1, \"document\": \"berlin\", \"text\": \"not this\"}, {\"text\": \"water\\nand history\"}, \"\"]\n"
	docs := []string{"london is a city", "berlin", "water\nand history", ""}
	got := rerankJSON(t, text, "--model", model, "--query", "city", "--documents", "-")
	if len(got.Results) != len(docs) {
		t.Fatalf("%d results, want %d", len(got.Results), len(docs))
	}
	for _, r := range got.Results {
		if r.Document != docs[r.Index] || r.Line != 0 {
			t.Errorf("result %d of line %d: %q", r.Index, r.Line, r.Document)
		}
	}
	r := mlxrank.MustRun(t, text, "rerank", "--model", model, "--query", "city", "--documents", "-")
	if header, _, _ := strings.Cut(r.Out, "\n"); strings.Join(strings.Fields(header), " ") != "rank score item id document" {
		t.Errorf("header %q", header)
	}
	bracket := "[1] a footnote\n[two]\n"
	if got := rerankJSON(t, bracket, "--model", model, "--query", "city", "--documents", "-"); len(got.Results) != 2 || got.Results[0].Line == 0 {
		t.Errorf("lines that begin with a bracket are not lines: %+v", got.Results)
	}
	for text, want := range map[string]string{
		`["a", {"text": "b"`:    "item 2",
		`["a" "b"]`:             "item 2",
		`["a", 5]`:              "item 2 of the JSON array: expected a string or an object, found 5",
		`[{"body": "a"}]`:       `fields "document" and "text" are missing; give one`,
		`[]`:                    "no documents",
		`["a"] more`:            "more data follows",
		`["a", {"text": "\ud8"`: "item 2",
	} {
		clitest.CheckFailure(t, mlxrank.Run(t, text, "rerank", "--model", model, "--query", "q", "--documents", "-"), command.ExitFailure, want, "standard input")
	}
}

func TestRerankLongDocuments(t *testing.T) {
	model := clitest.TinyModel(t)
	long := strings.Repeat("Water river history. ", 60) + "London is a city."
	args := []string{"--model", model, "--query", "city", "--explain", long, "berlin"}
	cut := rerankJSON(t, "", args...)
	if cut.Run.Truncated != 1 {
		t.Errorf("%d truncated, want 1", cut.Run.Truncated)
	}
	got := rerankJSON(t, "", append([]string{"--long", "passages"}, args...)...)
	// Only the sentences that the model has read are scored, of 61.
	if got.Run.Truncated != 0 || got.Run.Pairs > 40 || cut.Run.Pairs > 40 {
		t.Errorf("%d truncated of %d pairs; want none of at most 40, and without passages %d", got.Run.Truncated, got.Run.Pairs, cut.Run.Pairs)
	}
	for _, r := range got.Results {
		if p := r.Passage; (p != nil) != (r.Index == 0) || p != nil && (p.Text != long[p.Start:p.End] || p.Score != r.Score || p.Count < 3) {
			t.Errorf("document %d has passage %+v", r.Index, p)
		}
		if s := r.Sentence; s == nil || s.Text != r.Document[s.Start:s.End] || s.Index >= s.Count {
			t.Errorf("document %d has sentence %+v", r.Index, s)
		}
	}
	r := mlxrank.MustRun(t, "", append([]string{"rerank", "--long", "passages"}, args...)...)
	if lines := strings.Split(strings.TrimSpace(r.Out), "\n"); len(lines) != 5 || !strings.Contains(lines[2], "└ ") || strings.Count(r.Out, "[") != 1 {
		t.Errorf("want a passage and two sentences in\n%s", r.Out)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--long", "fold", "--query", "q", "d"), command.ExitUsage, "--long", "truncate, passages")
}

// TestRerankKeepsFields checks that the output has the other fields of a document.
func TestRerankKeepsFields(t *testing.T) {
	model := clitest.TinyModel(t)
	text := `{"_id": "a1", "title": "London", "text": "a city", "metadata": {"n": 1.50, "s": "<\u00e9>"}}` + "\n" + `{"text": " "}` + "\n"
	r := mlxrank.MustRun(t, text, "rerank", "--json", "--model", model, "--query", "city", "--documents", "-")
	var got struct {
		Results []struct {
			ID, Document string
			Line         int
			Empty        bool
			Fields       map[string]json.RawMessage
		}
		Run output.Summary
	}
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil || len(got.Results) != 2 {
		t.Fatalf("%v:\n%s", err, r.Out)
	}
	for _, result := range got.Results {
		switch result.Line {
		case 1:
			var metadata bytes.Buffer
			if err := json.Compact(&metadata, result.Fields["metadata"]); err != nil || metadata.String() != `{"n":1.50,"s":"<\u00e9>"}` {
				t.Errorf("metadata %s, %v", result.Fields["metadata"], err)
			}
			if result.ID != "a1" || result.Document != "London a city" || result.Empty || len(result.Fields) != 2 || string(result.Fields["title"]) != `"London"` {
				t.Errorf("got %+v", result)
			}
		case 2:
			if result.ID != "" || result.Document != " " || !result.Empty || len(result.Fields) != 0 {
				t.Errorf("got %+v", result)
			}
		}
	}
	if got.Run.Empty != 1 || got.Run.Format != "jsonl" || got.Run.Fields != "text, title and text" {
		t.Errorf("run %+v", got.Run)
	}
	table := mlxrank.MustRun(t, text, "rerank", "--model", model, "--query", "city", "--documents", "-")
	for _, want := range []string{"rank   score  line  id  document\n", "  a1  London a city\n", "      (empty)\n"} {
		if !strings.Contains(table.Out, want) {
			t.Errorf("table lacks %q:\n%s", want, table.Out)
		}
	}
	if !strings.Contains(table.ErrOut, "empty     1 document has no text") {
		t.Errorf("the summary lacks the empty document:\n%s", table.ErrOut)
	}
}

// TestRerankFormats checks that --format overrides the guess.
func TestRerankFormats(t *testing.T) {
	model := clitest.TinyModel(t)
	for _, test := range []struct {
		format, text string
		flags        []string
		want         []string // documents by line
	}{
		{"lines", `{"text": "a"}` + "\nb\n", nil, []string{`{"text": "a"}`, "b"}},
		{"jsonl", `{"text": "a"}` + "\n" + `"b"`, nil, []string{"a", "b"}},
		{"json", `["a", {"title": "T", "text": "b"}]`, nil, []string{"a", "T b"}},
		{"tsv", "1\ta\n2\tb\n", nil, []string{"a", "b"}},
		{"tsv", "id\ttext\n2\tb\n", []string{"--header"}, []string{"b"}},
		{"csv", "id,title,text\n2,T,\"b\n\"\"c\"\"\"\n3,,d\n", nil, []string{"T b\n\"c\"", "d"}},
		{"csv", "n;a;b\n2;x;y\n", []string{"--fields", "{b}, {a}", "--id-field", "n"}, []string{"y, x"}},
		{"tsv", "n\ta\tb\n2\tx\ty\n", []string{"--fields", "b,a"}, []string{"y x"}},
		{"json", `[{"n": 2, "a": "x", "b": 7}]`, []string{"--fields", "b,a"}, []string{"7 x"}},
	} {
		args := append([]string{"--model", model, "--query", "city", "--documents", "-", "--format", test.format}, test.flags...)
		got := rerankJSON(t, test.text, args...)
		documents := make([]string, len(test.want))
		for _, r := range got.Results {
			if r.Index < len(documents) {
				documents[r.Index] = r.Document
			}
		}
		if len(got.Results) != len(test.want) || !slices.Equal(documents, test.want) {
			t.Errorf("%s of %q: got %q, want %q", test.format, test.text, documents, test.want)
		}
	}
	about := "JSON objects\nbegin so:\n{\"text\": \"a\"}\n"
	args := []string{"rerank", "--model", model, "--query", "q", "--documents", "-"}
	if r := mlxrank.MustRun(t, about, args...); !strings.Contains(r.ErrOut, "line=3") || !strings.Contains(r.ErrOut, "--format lines or jsonl") {
		t.Errorf("no warning of an object among lines:\n%s", r.ErrOut)
	}
	if r := mlxrank.MustRun(t, about, append(args, "--format", "lines")...); strings.Contains(r.ErrOut, "line=3") {
		t.Errorf("a warning against --format lines:\n%s", r.ErrOut)
	}
	header := "id\ttext\n2\tb\n"
	args = append(args, "--format", "tsv")
	if r := mlxrank.MustRun(t, header, args...); !strings.Contains(r.ErrOut, "looks like the names of columns") {
		t.Errorf("no warning of a header:\n%s", r.ErrOut)
	}
	if r := mlxrank.MustRun(t, header, append(args, "--header=false")...); strings.Contains(r.ErrOut, "looks like the names of columns") {
		t.Errorf("a warning against --header=false:\n%s", r.ErrOut)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "a\n", "rerank", "--query", "q", "--documents", "-", "--header"), command.ExitUsage, "--header", "is lines")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "q", "--documents", "-", "--format", "msmarco"), command.ExitUsage, "--format", "auto, lines, jsonl, json, tsv, csv")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "q", "--format", "lines", "d"), command.ExitUsage, "--format", "--documents FILE")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "q", "a", "caf\xe9"), command.ExitUsage, "document 2: not UTF-8 (byte 0xE9 at column 4")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--query", "caf\xe9", "a"), command.ExitUsage, "--query: not UTF-8 (byte 0xE9 at column 4")
}

func TestRerankThreshold(t *testing.T) {
	model := clitest.TinyModel(t)
	args := append([]string{"--model", model, "--query", "city"}, passages...)
	all := rerankJSON(t, "", args...)
	second := strconv.FormatFloat(float64(all.Results[1].Score), 'g', -1, 32)
	for threshold, want := range map[string]int{second: 2, "1.1": 0, "-1": len(passages)} {
		got := rerankJSON(t, "", append([]string{"--threshold=" + threshold}, args...)...)
		if len(got.Results) != want || got.Run.Pairs != len(passages) {
			t.Errorf("--threshold %s: %d results of %d pairs, want %d", threshold, len(got.Results), got.Run.Pairs, want)
		}
	}
	for _, bad := range []string{"nan", "much"} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--threshold", bad, "--query", "q", "d"), command.ExitUsage, "--threshold")
	}
}

// TestRerankParquet ranks the rows of a Parquet file.
func TestRerankParquet(t *testing.T) {
	model := clitest.TinyModel(t)
	var b bytes.Buffer
	type row struct {
		ID    int64  `parquet:"id"`
		Title string `parquet:"title"`
		Text  string `parquet:"text"`
	}
	if err := parquet.Write(&b, []row{{1 << 60, "T", "a"}, {2, "U", "b"}}); err != nil {
		t.Fatal(err)
	}
	path := clitest.WriteFile(t, filepath.Join(t.TempDir(), "f"), b.String())
	got := rerankJSON(t, "", "--model", model, "--query", "city", "--documents", path)
	slices.SortFunc(got.Results, func(a, b rankedJSON) int { return cmp.Compare(a.Index, b.Index) })
	if r := got.Results; len(r) != 2 || r[0].ID != "1152921504606846976" || r[0].Document != "T a" || r[1].Row != 2 || r[1].Line != 0 || got.Run.Format != "parquet" {
		t.Errorf("got %+v", got)
	}
	piped := rerankJSON(t, b.String(), "--model", model, "--query", "city", "--documents", "-", "--format", "parquet", "--fields", "{text} {id}")
	if len(piped.Results) != 2 || !strings.HasPrefix(piped.Results[0].Document, "a 1152921504606846976") && piped.Results[0].Document != "b 2" {
		t.Errorf("got %+v", piped)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--model", model, "--query", "q", "--documents", path, "--header"), command.ExitUsage, "--header", "only files of columns")
}
