package score

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// TestScoreCSV scores a table with named columns and compares the scores with the
// engine's. All other bytes stay.
func TestScoreCSV(t *testing.T) {
	model := clitest.TinyModel(t)
	dir := t.TempDir()
	text := "n,question,title,body,note\r\n1,city,T,\"a \"\"b\"\"\nc\",\r\n\r\n2,water,,rain,\"x,y\"\r\n"
	in := clitest.WriteFile(t, filepath.Join(dir, "pairs.csv"), text)
	out := filepath.Join(dir, "scores.csv.gz")
	r := mlxrank.MustRun(t, "", "score", "--model", model, "--input", in, "--output", out, "--query-fields", "question", "--fields", "{title}: {body}")
	if !strings.Contains(r.ErrOut, "title and body") {
		t.Errorf("the summary does not name the columns:\n%s", r.ErrOut)
	}
	lines := strings.SplitAfter(strings.ReplaceAll(readPacked(t, out), "b\"\"\n", "b\"\"\\n"), "\n")
	if len(lines) != 4 || lines[0] != "n,question,title,body,note,score\r\n" {
		t.Fatalf("got %q", lines)
	}
	rest, scores := takeScores(t, lines[1]+lines[2], ",")
	if rest != "1,city,T,\"a \"\"b\"\"\\nc\",\r\n2,water,,rain,\"x,y\"\r\n" {
		t.Errorf("got %q", rest)
	}
	checkScores(t, clitest.OpenEngine(t, model), []engine.Pair{{Query: "city", Document: "T: a \"b\"\nc"}, {Query: "water", Document: ": rain"}}, scores)
}

func TestScoreFieldErrors(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	for _, test := range []struct {
		name, text string
		flags      []string
		status     int
		words      []string
	}{
		{"f.csv", "query,document\nq,d,e\n", nil, command.ExitFailure, []string{"f.csv: line 2: 3 columns, expected 2 (query, document)"}},
		{"f.csv", "query,document\n\"q,d\n", nil, command.ExitFailure, []string{"line 2: malformed CSV"}},
		{"f.csv", "query,document\n", []string{"--fields", "body"}, command.ExitFailure, []string{`no column "body"; the header row has query, document`}},
		{"f.csv", "query,document\n", []string{"--header=false"}, command.ExitUsage, []string{"--header=false: ", "the columns are found by the names"}},
		{"f.csv", "query,document\n", []string{"--fields", "{body"}, command.ExitUsage, []string{"--fields: ", "has a brace without a field's name"}},
		{"f.jsonl", `{"query":"q","document":"d"}`, []string{"--query-fields", "question"}, command.ExitFailure, []string{`line 1: field "question" is missing; found document, query`}},
		{"f.tsv", "1\t2\tq\td\n", []string{"--format", "msmarco", "--id-field", "x"}, command.ExitFailure, []string{"its columns have no names"}},
	} {
		args := append([]string{"score", "--model", model, "--input", clitest.WriteFile(t, filepath.Join(dir, test.name), test.text), "--output", "-"}, test.flags...)
		clitest.CheckFailure(t, mlxrank.Run(t, "", args...), test.status, test.words...)
	}
}

// TestScoreRunOfTables scores a run whose texts are in tables, whose columns are named
// by flags. The scores equal the scores of the same texts in lines.
func TestScoreRunOfTables(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	file := func(name, text string) string { return clitest.WriteFile(t, filepath.Join(dir, name), text) }
	run := file("f.run", "0 Q0 36028797018963968 1 2 x\n0 Q0 0 2 1 x\n")
	score := func(queries, documents string, flags ...string) string {
		return mlxrank.MustRun(t, "", append([]string{"score", "--model", model, "--input", run, "--output", "-", "--queries", queries, "--documents", documents}, flags...)...).Out
	}
	pairs := testPairs(2)
	want := score(file("q.tsv", "0\tcity\n"), file("d.tsv", "0\t"+pairs[0].Document+"\n36028797018963968\t"+pairs[1].Document+"\n"))
	if strings.Count(want, "\n") != 2 {
		t.Fatalf("got %q", want)
	}
	parquet := writeParquet(t, filepath.Join(dir, "d.parquet"), pairs)
	flags := []string{"--query-fields", "question", "--query-id-field", "n", "--fields", "body", "--id-field", "n"}
	for _, queries := range []string{parquet, file("q.csv", "n,\"question\"\n\n0,\"city\"\n"), file("q2.tsv", "question\tn\ncity\t0\n"), file("q.jsonl", `{"n": 0, "question": "city"}`)} {
		if got := score(queries, parquet, flags...); got != want {
			t.Errorf("%s: got %q, want %q", filepath.Base(queries), got, want)
		}
	}
	bad := file("bad.csv", "n,body\n0,\"a\nb\"\n36028797018963968,b,c\n")
	clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"score", "--model", model, "--input", run, "--output", "-", "--queries", parquet, "--documents", bad}, flags...)...),
		command.ExitFailure, "--documents: ", "bad.csv: line 4: 3 columns, expected 2 (n, body)")
	missing := file("missing.csv", "n,text\n0,\"a\nb\"\n36028797018963968,b\n")
	clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"score", "--model", model, "--input", run, "--output", "-", "--queries", parquet, "--documents", missing}, flags...)...),
		command.ExitFailure, "missing.csv: line 4: field \"body\" is missing; found n, text")
}

// TestScoreTopics scores a run with TREC topics, and with a part that a flag names.
func TestScoreTopics(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	file := func(name, text string) string { return clitest.WriteFile(t, filepath.Join(dir, name), text) }
	args := []string{"score", "--model", model, "--input", file("f.run", "51 Q0 d 1 1 x\n"), "--documents", file("d.tsv", "d\tpage\n"), "--output", "-"}
	topics := file("topics.gz", gzipped("<top>\n<num> Number: 051\n<title> Topic: city\n<desc> Description:\nwater\n</top>\n"))
	for flags, query := range map[string]string{"": "city", "--query-fields desc": "water", "--query-fields title,desc": "city water"} {
		got := mlxrank.MustRun(t, "", append(args, append([]string{"--queries", topics}, strings.Fields(flags)...)...)...)
		want := mlxrank.MustRun(t, "", append(args, "--queries", file("q.tsv", "51\t"+query+"\n"))...)
		if got.Out != want.Out || got.Out == "" {
			t.Errorf("%s: got %q, want %q", flags, got.Out, want.Out)
		}
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", append(args, "--queries", topics, "--query-fields", "narr")...), command.ExitFailure, `line 1: field "narr" is missing; found _id, desc, num, query, title`)
	clitest.CheckFailure(t, mlxrank.Run(t, "", append(args, "--queries", file("cut", "<top>\n<num> 51 <title> a"))...), command.ExitFailure, "cut: line 1: the topic does not end")
}

// TestScoreOutputName refuses a name of another format.
func TestScoreOutputName(t *testing.T) {
	for _, test := range []struct {
		output string
		format records.Format
		run    bool
		ok     bool
	}{
		{"f.csv.gz", records.CSV, false, true}, {"f.parquet", records.Parquet, false, true}, {"f", records.Parquet, false, true}, {"-", records.CSV, false, true},
		{"f.jsonl", records.TSV, false, true}, {"f.run", records.CSV, true, true}, {"f.txt", records.Parquet, false, true},
		{"f.csv", records.JSONL, false, false}, {"f.parquet", records.JSONL, false, false}, {"f.jsonl", records.Parquet, false, false}, {"f.run", records.CSV, false, false}, {"f.csv", records.CSV, true, false}, {"f.parquet", records.TREC, false, false},
	} {
		if err := scored.CheckName(test.output, test.format, test.run); (err == nil) != test.ok {
			t.Errorf("%s for %s: %v", test.output, test.format, err)
		}
	}
	model, dir := clitest.TinyModel(t), t.TempDir()
	in := clitest.WriteFile(t, filepath.Join(dir, "f.csv"), "query,document\nq,d\n")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--model", model, "--input", in, "--output", filepath.Join(dir, "f.parquet")),
		command.ExitUsage, "f.parquet has the name of parquet, but the output of csv is csv too")
	clitest.CheckDir(t, dir, map[string]string{"f.csv": "query,document\nq,d\n"})
}

// TestScoreOtherColumns fails at the header row, also if lines may be skipped.
func TestScoreOtherColumns(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	table := clitest.WriteFile(t, filepath.Join(dir, "t.csv"), "question,text2\na,b\n")
	rows := writeParquet(t, filepath.Join(dir, "t.parquet"), testPairs(2))
	for _, test := range []struct {
		flags string
		words []string
	}{
		{"--input " + table, []string{"t.csv: line 1: no column \"query\"", "question, text2", "--query-fields"}},
		{"--input " + table + " --query-fields question --on-error skip", []string{`line 1: no column "document" or "text"`, "question, text2", "--fields"}},
		{"--input " + table + " --query-fields question --fields text2 --output-format trec", []string{`no column "query_id"`, "--query-id-field"}},
		{"--input " + rows + " --on-error skip", []string{`t.parquet: no column "query"`, "n, question, body", "--query-fields"}},
	} {
		r := mlxrank.Run(t, "", append([]string{"score", "--model", model, "--output", "-"}, strings.Fields(test.flags)...)...)
		clitest.CheckFailure(t, r, command.ExitFailure, test.words...)
	}
}
