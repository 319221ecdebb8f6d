package records

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/measures"
)

func TestReadQrels(t *testing.T) {
	for _, test := range []struct {
		title, text string
		want        measures.Qrels
	}{
		{"TREC", "301 0 d1 1\n301\t0\td2  0\r\n\n 302 Q0 d1 -2 \n", measures.Qrels{"301": {"d1": 1, "d2": 0}, "302": {"d1": -2}}},
		{"BEIR with a header", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td 2\t0\n", measures.Qrels{"q1": {"d1": 2, "d 2": 0}}},
		{"BEIR with another header", "qid docid relevance\nq1 d1 2\n", measures.Qrels{"q1": {"d1": 2}}},
		{"BEIR without a header", "\ufeffq1\td1\t2\n", measures.Qrels{"q1": {"d1": 2}}},
		{"long numbers", "12345678901234567890 0 00012 1\n", measures.Qrels{"12345678901234567890": {"00012": 1}}},
	} {
		got, err := ReadQrels("f", strings.NewReader(test.text))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.title, got, err, test.want)
		}
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write([]byte("1 0 a 1\n"))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadQrels("f", Decompress(&packed)); err != nil || got["1"]["a"] != 1 {
		t.Errorf("compressed: %v, %v", got, err)
	}
}

func TestReadQrelsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "f has no judgements; expected lines qid 0 docid relevance",
		"\n \n":                               "f has no judgements",
		"query-id\tcorpus-id\tscore\n":        "f has no judgements",
		"1 0 a 1\n\n1 0 a 0\n":                `f: line 3: query "1" and document "a" are also in line 1`,
		"1 0 a 1.5\n":                         `f: line 1: relevance "1.5" is not a whole number`,
		"1 0 a 1\n1 0 b\n":                    "f: line 2: 3 columns, expected 4 (qid 0 docid relevance)",
		"1 Q0 a 1 2.5 bm25\n":                 "f: line 1: 6 columns, expected 4 (qid 0 docid relevance); it looks like a run",
		"1\ta\t1\n1\ta\n":                     "f: line 2: 2 columns, expected 3 (query-id, corpus-id, score)",
		"1\t\t1\n":                            "f: line 1: column corpus-id is empty",
		"query-id\tcorpus-id\tscore\na\tb\tc": `f: line 2: relevance "c" is not`,
		"1 0 a 1\ncaf\xe9 0 a 1\n":            "f: line 2: not UTF-8",
		"PAR1\x15\x04":                        "f: looks like a Parquet file",
	} {
		if _, err := ReadQrels("f", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestReadRun(t *testing.T) {
	run := "1 Q0 a 1 2.5 x\n2 Q0 a 7 -1e3 x\r\n\n1\tQ0\tb\t1\t2.5\tx\n"
	want := measures.Run{"1": {{ID: "a", Score: 2.5}, {ID: "b", Score: 2.5}}, "2": {{ID: "a", Score: -1000}}}
	if got, err := ReadRun("f", strings.NewReader(run)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	want = measures.Run{"1": {{ID: "a", Score: -1}, {ID: "b", Score: -2}}}
	if got, err := ReadRun("f", strings.NewReader("1\ta\t1\n1\tb\t2\n")); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestReadRunErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "f has no lines; expected qid Q0 docid rank score tag, or qid pid rank",
		"1 Q0 a 1 NaN x\n":      `f: line 1: score "NaN" is not a finite number`,
		"1 Q0 a 1 -inf x\n":     `score "-inf" is not a finite number`,
		"1 Q0 a 1 high x\n":     `score "high" is not a finite number`,
		"1 Q0 a 1 1e999 x\n":    `score "1e999" is not a finite number`,
		"1 Q0 a 1 1 x\n1 a 2\n": "f: line 2: 3 columns, expected 6",
		"1 a 1\n1 Q0 a 1 1 x\n": "f: line 2: 6 columns, expected 3 (qid pid rank)",
		"1 a one\n":             `f: line 1: rank "one" is not a whole number`,
		"1 0 a 1\n":             "f: line 1: 4 columns, expected 6 (qid Q0 docid rank score tag); it looks like qrels",
		"1 Q0 b 1 5 x\n1 Q0 a 1 5 x\n2 Q0 a 1 1 x\n2 Q0 a 1 1 x\n1 Q0 b 2 4 x\n": `f: line 4: query "2" and document "a" are also in line 3`,
	} {
		if _, err := ReadRun("f", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// FuzzQrelsAndRun checks that any bytes make judgements and a run, or a short error. A
// query has documents, and a document has an id and a finite score.
func FuzzQrelsAndRun(f *testing.F) {
	for _, seed := range []string{"1 0 a 1\n", "query-id\tcorpus-id\tscore\nq\td\t1\n", "1 Q0 a 1 2.5 x\n", "1\ta\t1\n", "1\t\t1\n", "\x1f\x8b"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		qrels, err := ReadQrels("f", bytes.NewReader(data))
		checkFuzzed(t, err, len(qrels))
		for query, judged := range qrels {
			if query == "" || len(judged) == 0 {
				t.Errorf("query %q has %d judgements", query, len(judged))
			}
		}
		run, err := ReadRun("f", Decompress(bytes.NewReader(data)))
		if checkFuzzed(t, err, len(run)); err != nil {
			return
		}
		for query, documents := range run {
			ids := make(map[string]bool)
			for _, d := range documents {
				if d.ID == "" || d.Score-d.Score != 0 || ids[d.ID] {
					t.Errorf("query %q has document %+v", query, d)
				}
				ids[d.ID] = true
			}
		}
	})
}

func checkFuzzed(t *testing.T, err error, n int) {
	t.Helper()
	if err == nil && n == 0 || err != nil && (len(err.Error()) > 700 || errors.Is(err, io.EOF)) {
		t.Errorf("%d queries and error %v", n, err)
	}
}
