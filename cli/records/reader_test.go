package records

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

// newTexts returns the texts of a file with these contents.
func newTexts(t testing.TB, text string) *Texts {
	t.Helper()
	texts, err := IndexTexts("texts.tsv", TextsOptions{}, strings.NewReader(text), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// readAll reads every record. An error that ends the reading is returned.
func readAll(name, text string, o Options) (*Reader, []Record, error) {
	r, err := NewReader(name, strings.NewReader(text), o)
	if err != nil {
		return nil, nil, err
	}
	var all []Record
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r, all, nil
		}
		if err != nil {
			return r, all, err
		}
		all = append(all, record)
	}
}

// render writes the records with scores of 0.5, 1.5, ...
func render(t testing.TB, layout Layout, all []Record) string {
	t.Helper()
	var out []byte
	var err error
	for i := range all {
		switch {
		case all[i].Err != nil:
			out, err = layout.AppendFailed(out, &all[i])
		case all[i].Header:
			out = layout.AppendHeader(out, &all[i])
		default:
			out, err = layout.AppendScored(out, &all[i], Value{Score: float32(i) + 0.5, Logit: float32(i) - 0.5, Empty: all[i].Document == ""})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return string(out)
}

// show formats a record.
func show(r Record) string {
	if r.Err != nil {
		return fmt.Sprintf("%d error %v", r.Line, r.Err)
	}
	if r.Header {
		return fmt.Sprintf("%d header", r.Line)
	}
	return fmt.Sprintf("%d %s|%s|%s|%s", r.Line, r.QueryID, r.DocumentID, r.Query, r.Document)
}

const otherQuery = `query id "1" has a different query in line 1; give each query its own id`

func TestReader(t *testing.T) {
	queries, documents := newTexts(t, "q1\tcity\nq2\twater"), newTexts(t, "d1\tlondon\nd2\triver\r\n")
	for _, test := range []struct {
		name, text string
		options    Options
		records    string
		scored     string
	}{
		{"JSONL with mixed line ends", "\ufeff{\"query\":\"q\",\"document\":\"d\"}\r\n\r\n{\"document\" : \"\\u00e9\",\"query\":\"\"} \n", Options{Format: JSONL},
			"1 ||q|d\n3 |||é\n",
			"{\"query\":\"q\",\"document\":\"d\", \"score\": 0.5}\r\n{\"document\" : \"\\u00e9\",\"query\":\"\", \"score\": 1.5} \n"},
		{"JSONL with errors", "{\"query\":\"q\"}\n{\"query\":\"q\",\"document\":\"d\"}\nx", Options{Format: JSONL},
			"1 error fields \"document\" and \"text\" are missing; give one\n2 ||q|d\n3 error not a JSON object: it starts with 'x'; each line must be an object such as {\"query\": \"...\", \"document\": \"...\"}\n",
			`{"error":"fields \"document\" and \"text\" are missing; give one","line":1}` + "\n" + `{"query":"q","document":"d", "score": 1.5}` + "\n" +
				`{"error":"not a JSON object: it starts with 'x'; each line must be an object such as {\"query\": \"...\", \"document\": \"...\"}","line":3}` + "\n"},
		{"JSONL with scores", `{"score":7,"query":"q","document":"d","score":null}` + "\n" + `{"query":"q","document":"d"}`, Options{Format: JSONL, Score: ReplaceScore},
			"1 ||q|d\n2 ||q|d\n",
			`{"score":0.5,"query":"q","document":"d","score":0.5}` + "\n" + `{"query":"q","document":"d", "score": 1.5}` + "\n"},
		{"JSONL with a score", `{"query":"q","document":"d","score":null}`, Options{Format: JSONL},
			"1 error field \"score\" exists already; rename or remove it, or give --overwrite-score\n", ""},
		{"JSONL with ids", `{"query":"q","document":"d","query_id":"a","document_id":-12}`, Options{Format: JSONL, IDs: true},
			"1 a|-12|q|d\n", `{"query":"q","document":"d","query_id":"a","document_id":-12, "score": 0.5}` + "\n"},
		{"JSONL without ids", `{"query":"q","document":"d","query_id":"a b","document_id":1}` + "\n" + `{"query":"q","document":"d","query_id":[]}` + "\n" + `{"query":"q","document":"d","query_id":1}`, Options{Format: JSONL, IDs: true},
			"1 error the query id \"a b\" contains white space, which a TREC run cannot represent\n2 error field \"query_id\" is not a string: []\n3 error field \"document_id\" is missing\n", ""},
		{"TSV", "\ufeffq\td\r\r\n\n\t\n a \tb\u2028\f\r c\n\r\nq", Options{Format: TSV},
			"1 ||q|d\n3 |||\n4 || a |b\u2028\f\r c\n6 error 1 column, expected 2 (query, document)\n",
			"q\td\t0.5\r\r\n\t\t1.5\n a \tb\u2028\f\r c\t2.5\n\t\terror: line 6: 1 column, expected 2 (query, document)\n"},
		{"TSV that is no text", "q\td\nq\t\xe9t\xe9\nq\ta\x00b\nq\tsome \u00e9\x80\n", Options{Format: TSV},
			"1 ||q|d\n2 error not UTF-8 (byte 0xE9 at column 3; Latin-1?); convert it with iconv -f ISO-8859-1 -t UTF-8\n" +
				"3 error NUL byte at column 4: not text, but binary data or UTF-16\n" +
				"4 error not UTF-8 (byte 0x80 at column 9; Windows-1252?); convert it with iconv -f WINDOWS-1252 -t UTF-8\n", ""},
		{"joined files", "\ufeffq\td\n\ufeffa\tb\n\ufeff\n", Options{Format: TSV}, "1 ||q|d\n2 ||a|b\n", "q\td\t0.5\na\tb\t1.5\n"},
		{"JSONL of joined files", "{\"query\":\"q\",\"document\":\"d\"}\n\ufeff{\"query\":\"q\",\"document\":\"d\"}", Options{Format: JSONL},
			"1 ||q|d\n2 ||q|d\n", ""},
		{"JSONL with text and title", `{"query":"q","text":"t","title":"T"}` + "\n" + `{"query":"q","text":"","title":""}` + "\n" + `{"query":"q","text":" t ","title":null}` + "\n" +
			`{"query":"q","document":"d","text":"t","title":"T"}` + "\n" + `{"query":"q","text":"t","title":1}`, Options{Format: JSONL},
			"1 ||q|T t\n2 ||q|\n3 ||q| t \n4 ||q|d\n5 error field \"title\" is not a string: 1\n",
			`{"query":"q","text":"t","title":"T", "score": 0.5}` + "\n" + `{"query":"q","text":"","title":"", "score": 1.5, "empty": true}` + "\n" + `{"query":"q","text":" t ","title":null, "score": 2.5}` + "\n" +
				`{"query":"q","document":"d","text":"t","title":"T", "score": 3.5}` + "\n" + `{"error":"field \"title\" is not a string: 1","line":5}` + "\n"},
		{"JSONL marked as empty", `{"query":"q","document":"","score":1,"empty":true}`, Options{Format: JSONL, Score: ReplaceScore},
			"1 ||q|\n", `{"query":"q","document":"","score":0.5,"empty":true}` + "\n"},
		{"header of TSV", "\n\ufeffquery\tdocument\r\nquery\tdocument\n", Options{Format: TSV, Header: SkipHeader},
			"2 header\n3 ||query|document\n", "query\tdocument\tscore\r\nquery\tdocument\t1.5\n"},
		{"header with a score", "q\tp\tscore\na\tb\t7\n", Options{Format: TSV, Header: SkipHeader, Score: ReplaceScore},
			"1 header\n2 ||a|b\n", "q\tp\tscore\na\tb\t1.5\n"},
		{"header of MS MARCO", "qid\tpid\tquery\tpassage\n1\t2\ta\tb\n", Options{Format: MSMARCO, Header: SkipHeader, IDs: true},
			"1 header\n2 1|2|a|b\n", "qid\tpid\tquery\tpassage\tscore\n1\t2\ta\tb\t1.5\n"},
		{"header of other columns", "query\na\tb\n", Options{Format: TSV, Header: SkipHeader},
			"1 error the header row has 1 column, expected 2 (query, document)\n2 ||a|b\n", ""},
		{"TSV with too many columns", "a\tb\t1\na\tb\tc\td", Options{Format: TSV},
			"1 error 3 columns, expected 2 (query, document); if the last is a score, give --overwrite-score\n2 error 4 columns, expected 2 (query, document)\n", ""},
		{"TSV with scores", "a\tb\t1\r\na\tb\na\tb\tc\na\tb\t\n", Options{Format: TSV, Score: ReplaceScore},
			"1 ||a|b\n2 ||a|b\n3 error 3 columns, expected 2 (query, document); the last is not a score: \"c\"\n4 error 3 columns, expected 2 (query, document); the last is not a score: \"\"\n",
			"a\tb\t0.5\r\na\tb\t1.5\n\t\terror: line 3: 3 columns, expected 2 (query, document); the last is not a score: \"c\"\n\t\terror: line 4: 3 columns, expected 2 (query, document); the last is not a score: \"\"\n"},
		{"MS MARCO", "1\t2\tq\tp\nx\ty\tz\n", Options{Format: MSMARCO},
			"1 1|2|q|p\n2 error 3 columns, expected 4 (qid, pid, query, passage)\n",
			"1\t2\tq\tp\t0.5\n\t\t\t\terror: line 2: 3 columns, expected 4 (qid, pid, query, passage)\n"},
		{"MS MARCO without ids", "\t2\tq\tp\n1\t2\u00a03\tq\tp\n", Options{Format: MSMARCO, IDs: true},
			"1 error the query id is empty; a TREC run needs one\n2 error the document id \"2\\u00a03\" contains white space, which a TREC run cannot represent\n", ""},
		{"TREC", "q1 Q0 d2 1 3.5 bm25\r\nq2\tQ0\td1\t1\t-1e3\tbm25\n", Options{Format: TREC, Queries: queries, Documents: documents},
			"1 q1|d2|city|river\n2 q2|d1|water|london\n", "q1 d2 -0.5 1\nq2 d1 0.5 2\n"},
		{"run of MS MARCO", "q1\td2\t1\nq2 d1 2\nq1\td2\tx\n", Options{Format: TREC, Queries: queries, Documents: documents},
			"1 q1|d2|city|river\n2 q2|d1|water|london\n3 error rank \"x\" is not an integer; expected a run qid pid rank\n", "q1 d2 -0.5 1\nq2 d1 0.5 2\n"},
		{"TREC with short lines", "q1 Q0 d2 1 3.5 bm25\nq1 d1 1\nq1 Q0 1\n", Options{Format: TREC, Queries: queries, Documents: documents},
			"1 q1|d2|city|river\n2 error 3 columns, expected 6 (qid Q0 docid rank score tag)\n3 error 3 columns, expected 6 (qid Q0 docid rank score tag)\n", "q1 d2 -0.5 1\n"},
		{"run of MS MARCO with long lines", "\n\ufeffq1\td2\t1\nq1 Q0 d2 1 3.5 bm25\nq2\td1\t1\n", Options{Format: TREC, Queries: queries, Documents: documents},
			"2 q1|d2|city|river\n3 error 6 columns, expected 3 (qid pid rank) as in the first line\n4 q2|d1|water|london\n", ""},
		{"ids of equal texts", "1\t2\ta\tx\n1\t2\ta\tx\n1\t3\ta\ty\n2\t2\tb\tz\n", Options{Format: MSMARCO, IDs: true},
			"1 1|2|a|x\n2 1|2|a|x\n3 1|3|a|y\n4 2|2|b|z\n", ""},
		{"ids of different texts", "1\t2\ta\tx\n1\t2\tb\tx\n1\t3\tb\tx\n1\t2\ta\ty\n1\t3\ta\ty\n", Options{Format: MSMARCO, IDs: true},
			"1 1|2|a|x\n2 error " + otherQuery + "\n3 error " + otherQuery + "\n" +
				"4 error document id \"2\" of query id \"1\" has a different text in line 1; give each document its own id\n5 1|3|a|y\n", ""},
		{"ids of different texts in JSONL", `{"query":"a","document":"x","query_id":1,"document_id":2}` + "\n" + `{"query":"b","document":"x","query_id":"1","document_id":3}`, Options{Format: JSONL, IDs: true},
			"1 1|2|a|x\n2 error " + otherQuery + "\n", ""},
		{"ids that no run merges", "1\t2\ta\tx\n1\t2\tb\ty\n", Options{Format: MSMARCO}, "1 1|2|a|x\n2 1|2|b|y\n", ""},
		{"TREC with errors", "q1 Q0 d9 1 3.5 bm25\nq9 Q0 d1 1 3 bm25\nq1 Q0 d1 1 3\nq1 Q0 d1 1 3 bm25", Options{Format: TREC, Queries: queries, Documents: documents},
			"1 error id \"d9\" is not in texts.tsv\n2 error id \"q9\" is not in texts.tsv\n3 error 5 columns, expected 6 (qid Q0 docid rank score tag)\n4 q1|d1|city|london\n", "q1 d1 2.5 4\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, all, err := readAll("f", test.text, test.options)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, record := range all {
				got.WriteString(show(record) + "\n")
			}
			if got.String() != test.records {
				t.Errorf("got\n%s\nwant\n%s", got.String(), test.records)
			}
			if scored := render(t, r.Layout(), all); test.scored != "" && scored != test.scored {
				t.Errorf("scored\n%q\nwant\n%q", scored, test.scored)
			}
		})
	}
}

// TestReaderSkipKeepsIDs compares texts with the texts of the lines before the position
// at which it continues.
func TestReaderSkipKeepsIDs(t *testing.T) {
	const text = "qid\tpid\tquery\tpassage\n\n1\t2\ta\tx\nbad\n1\t3\tb\ty\n1\t3\ta\ty\n"
	o := Options{Format: MSMARCO, IDs: true, Header: SkipHeader}
	_, want, err := readAll("f", text, o)
	if err != nil || len(want) != 5 || want[3].Err == nil {
		t.Fatalf("%v, %v", want, err)
	}
	first, err := NewReader("f", strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	changed := errors.New("changed")
	for i := range want {
		if _, err := first.Next(); err != nil {
			t.Fatal(err)
		}
		second, err := NewReader("f", strings.NewReader(text), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Skip(first.Position(), changed); err != nil {
			t.Fatal(err)
		}
		for _, record := range want[i+1:] {
			if got, err := second.Next(); err != nil || show(got) != show(record) {
				t.Errorf("behind record %d: got %s, %v, want %s", i, show(got), err, show(record))
			}
		}
		for _, other := range []string{strings.Replace(text, "x", "z", 1), text[:i]} {
			third, err := NewReader("f", strings.NewReader(other), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := third.Skip(first.Position(), changed); i > 0 && !errors.Is(err, changed) {
				t.Errorf("behind record %d of another file: %v", i, err)
			}
		}
	}
}

func TestReaderLongLine(t *testing.T) {
	text := "a\tb\n" + strings.Repeat("x", 100<<20) + "\nc\td\n"
	r, all, err := readAll("f", text, Options{Format: TSV})
	if err != nil || len(all) != 3 {
		t.Fatalf("%d records, %v, want 3", len(all), err)
	}
	want := "a\tb\t0.5\n\t\terror: line 2: longer than 64 MiB; is it text, one entry per line?\nc\td\t2.5\n"
	if got := render(t, r.Layout(), all); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDetect(t *testing.T) {
	texts := newTexts(t, "a\tA\n")
	for _, test := range []struct {
		name, line string
		scored     bool
		want       Format
		err        []string
	}{
		{"f", "{a}\tb", false, TSV, nil},
		{"f", "{\tb", false, TSV, nil},
		{"f", "{\"query\":\t\"q\"}", false, JSONL, nil},
		{"f", "{a}", false, JSONL, nil}, // and the line is an error
		{"texts given", "q\tp\t1", false, TREC, nil},
		{"texts given", "q p 12", false, TREC, nil},
		{"texts given", "q p x", false, "", []string{"1 column"}},
		{"texts given.tsv", "7\t1\t1", false, TREC, nil},
		{"texts given.tsv", "q\tp\t1\r", true, TREC, nil},
		{"texts given.tsv", "q\tQ0\tp\t1\t0.5\tx", false, TREC, nil},
		{"texts given.tsv", "q\tp", false, TSV, nil}, // which the caller refuses
		{"f.tsv", "q\tQ0\tp\t1\t0.5\tx", false, TREC, nil},
		{"f.tsv", "grade 0 a b\tc d", false, TSV, nil},
		{"f.tsv", "grade 0\ta 1", false, TSV, nil},
		{"f", "grade 0\ta 1", false, TSV, nil},
		{"f", "1 2\t3", false, TSV, nil},
		{"f.tsv", "1\t0\td\t1", false, "", []string{"qrels"}},
		{"f.tsv", "7\t1\t1", false, "", []string{"3 columns", "a run (qid pid rank) needs --queries and --documents"}},
		{"f.tsv", "7\t1\t1", true, "", []string{"a run (qid pid rank) needs --queries and --documents"}},
		{"f", "7\t1\t1", true, "", []string{"a run (qid pid rank) needs --queries and --documents"}},
		{"f.tsv", "two words\tb\t1", false, "", []string{"3 columns", "--overwrite-score"}},
		{"f", "q\tp\t1", false, "", []string{"3 columns", "a run (qid pid rank) needs --queries and --documents"}},
		{"f", "1\t0\td\t1", false, "", []string{"qrels", "not pairs"}},
		{"f.csv", "a\tb", false, CSV, nil},
		{"f", "1 0 d 1", false, "", []string{"qrels"}},
		{"f", "[{\"query\":\"q\"}]", false, "", []string{"JSON array", "jq -c '.[]'"}},
		{"f", "", false, JSONL, nil},
		{"f", `{"query":`, false, JSONL, nil},
		{"f.txt", ` { "query":`, false, JSONL, nil},
		{"F.JSONL.GZ", "a\tb", false, JSONL, nil},
		{"f.ndjson.zst", "a\tb", false, JSONL, nil},
		{"f.tsv", "{a}\tb\r", false, TSV, nil},
		{"f.tsv.gz", "a\tb\tc\td", false, MSMARCO, nil},
		{"f", "a\tb", false, TSV, nil},
		{"f", "a\tb\tc\td", false, MSMARCO, nil},
		{"f", "a\tb\t1", true, TSV, nil},
		{"f", "a\tb\tc\td\t1", true, MSMARCO, nil},
		{"f", "1 Q0 2 1 0.5 x", false, TREC, nil},
		{"f", "1\t0\t2\t1\t0.5\tx\r", false, TREC, nil},
		{"f.run", "a\tb", false, TREC, nil},
		{"f.trec.zst", "a\tb", false, TREC, nil},
		{"f", "a b\tb\t1", false, "", []string{"f: cannot detect", "3 columns", `"a b\tb\t1"`, "--format", "--overwrite-score"}},
		{"f", "hello", false, "", []string{"1 column", `"hello"`}},
		{"f.tsv", "1 Q0 2 1 0.5 x", false, TREC, nil},
		{"f", strings.Repeat("long ", 1000), false, "", []string{"..."}},
	} {
		o := Options{}
		if test.scored {
			o.Score = ReplaceScore
		}
		if strings.HasPrefix(test.name, "texts given") {
			o.Queries, o.Documents = texts, texts
		}
		got, err := detect(test.name, []byte(test.line), true, o)
		if got != test.want || (err == nil) != (test.err == nil) {
			t.Errorf("%s with %.40q: got %q, %v, want %q", test.name, test.line, got, err, test.want)
		}
		if message := fmt.Sprint(err); strings.Contains(message, "--overwrite-score") && strings.Contains(message, "a run (qid") {
			t.Errorf("%s with %.40q: ids are to be scored as texts: %v", test.name, test.line, err)
		}
		for _, word := range test.err {
			if !strings.Contains(fmt.Sprint(err), word) || len(err.Error()) > 450 {
				t.Errorf("%s with %.40q: error %v lacks %q", test.name, test.line, err, word)
			}
		}
	}
}

// TestReaderAuto finds the format after blank and long lines, and then reads
// these lines too.
func TestReaderAuto(t *testing.T) {
	for _, test := range []struct {
		text    string
		format  Format
		records int
	}{
		{"", JSONL, 0},
		{"\n\r\n \n", JSONL, 0},
		{"\ufeff\r\n\n{\"query\":\"q\",\"document\":\"" + strings.Repeat("x", 200<<10) + "\"}", JSONL, 1},
		{"q\t" + strings.Repeat("x", 200<<10) + "\na\tb", TSV, 2},
		{"\na\tb\tc\td", MSMARCO, 1},
	} {
		r, all, err := readAll("f", test.text, Options{Format: Auto})
		if err != nil || r.Format != test.format || len(all) != test.records {
			t.Errorf("%.40q: %v, %d records, want %s and %d", test.text, err, len(all), test.format, test.records)
			continue
		}
		for _, record := range all {
			if record.Err != nil {
				t.Errorf("%.40q: line %d: %v", test.text, record.Line, record.Err)
			}
		}
	}
}

// TestReaderReadsLittle checks that a reader reads no more than the format needs.
func TestReaderReadsLittle(t *testing.T) {
	text := io.MultiReader(strings.NewReader("a\t"), strings.NewReader("b\n"), readerFunc(func([]byte) (int, error) {
		t.Error("read on behind the first line")
		return 0, io.EOF
	}))
	if _, err := NewReader("f", text, Options{Format: Auto}); err != nil {
		t.Error(err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReaderRefuses(t *testing.T) {
	if _, err := NewReader("f", strings.NewReader("a\tb"), Options{Format: Auto, IDs: true}); err == nil || !strings.Contains(err.Error(), "needs ids") {
		t.Errorf("TSV with ids: %v", err)
	}
	if _, err := NewReader("f", strings.NewReader(""), Options{Format: "xml"}); err == nil {
		t.Error("no error for xml")
	}
}

func TestScoreIsJSON(t *testing.T) {
	r := Record{Line: 7, Text: []byte("a\tb"), QueryID: "q", DocumentID: "d"}
	for score, want := range map[float32]string{0: "0", 1: "1", -11.125: "-11.125", 1e-7: "1e-7", 0.1: "0.1", 16777216: "16777216"} {
		got, err := Scored{}.AppendScored(nil, &r, Value{Logit: score})
		if err != nil || string(got) != "q d "+want+" 7\n" {
			t.Errorf("%v: got %q, %v, want %s", score, got, err, want)
		}
	}
	for _, layout := range []Layout{jsonl{}, columns{names: columnsOf[TSV]}, Scored{}} {
		if _, err := layout.AppendScored(nil, &r, Value{Score: float32(math.NaN()), Logit: float32(math.NaN())}); err == nil {
			t.Errorf("%T writes NaN", layout)
		}
	}
}

// TestSkipAfterLongLine checks that a reader continues after a line that is too long, and
// not in it.
func TestSkipAfterLongLine(t *testing.T) {
	text := strings.Repeat("x", maxLine+2<<20) + "\na\tb\n"
	open := func() *Reader {
		r, err := NewReader("in", strings.NewReader(text), Options{Format: TSV})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := open()
	if r, err := first.Next(); err != nil || !errors.Is(r.Err, errTooLong) {
		t.Fatalf("got %v, %v", r.Err, err)
	}
	second := open()
	if err := second.Skip(first.Position(), errors.New("changed")); err != nil {
		t.Fatal(err)
	}
	for _, reader := range []*Reader{first, second} {
		if r, err := reader.Next(); err != nil || r.Line != 2 || r.Document != "b" {
			t.Errorf("got %+v, %v", r, err)
		}
	}
}
