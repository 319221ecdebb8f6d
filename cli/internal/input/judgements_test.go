package input

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// TestReadJudgements reads judgements and runs as lines and as tables.
func TestReadJudgements(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []struct {
		Query    string `parquet:"query-id"`
		Document int64  `parquet:"corpus-id"`
		Score    int32  `parquet:"score"`
	}{{"q", 1 << 60, 2}, {"q", 7, -1}}); err != nil {
		t.Fatal(err)
	}
	qrels := measures.Qrels{"q": {"1152921504606846976": 2, "7": -1}}
	run := measures.Run{"q": {{ID: "1152921504606846976", Score: 2}, {ID: "7", Score: -1}}}
	for _, path := range []string{
		write("a.parquet", b.String()), write("a", b.String()), write("a.csv", "query-id,corpus-id,score\n\"q\",1152921504606846976,2\n\nq,7,-1\n"),
		write("b.csv", "qid;docno;score\nq;1152921504606846976;2\nq;7;-1\n"),
	} {
		if got, err := ReadQrels(t.Context(), path, nil); err != nil || !reflect.DeepEqual(got, qrels) {
			t.Errorf("%s: got %v, %v", filepath.Base(path), got, err)
		}
		if got, err := ReadRun(t.Context(), path, nil); err != nil || !reflect.DeepEqual(got, run) {
			t.Errorf("%s: got %v, %v", filepath.Base(path), got, err)
		}
	}
	if got, err := ReadQrels(t.Context(), write("q.tsv", "q\t7\t1\n"), nil); err != nil || got["q"]["7"] != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, test := range []struct{ name, text, want string }{
		{"a.csv", "", "a.csv: it is empty"},
		{"b.csv", "qid,docid,label\n", "b.csv has no judgements"},
		{"c.csv", "qid,docid,label\n1,2,3\n1,2,4\n", `c.csv: line 3: query "1" and document "2" are also in line 2`},
		{"d.csv", "qid,docid,label\n1,2,0.5\n", "d.csv: line 2: label \"0.5\" is not a whole number"},
		{"e.csv", "qid,docid,label\n1,2,\n", "e.csv: line 2: the relevance is missing"},
		{"f.csv", "qid,text,label\n1,2,1\n", "f.csv: line 2: no column document_id, doc_id"},
		{"g.csv", "qid,docid,label\n1,,1\n", `g.csv: line 2: column "docid" is empty`},
		{"h.csv", "qid,docid,label\n1,2\n", "h.csv: line 2: 2 columns, expected 3"},
		{"i.parquet", "PAR1", "i.parquet: not a readable Parquet file"},
		{"j.csv", "qid,docid,label\n1,caf\xe9,1\n", "j.csv: line 2: not UTF-8"},
	} {
		if _, err := ReadQrels(t.Context(), write(test.name, test.text), nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := ReadRun(t.Context(), write("k.csv", "qid,docid,score\n1,2,nan\n"), nil); err == nil || !strings.Contains(err.Error(), `line 2: score "\"nan\"" is not`) && !strings.Contains(err.Error(), `score "nan" is not a finite number`) {
		t.Errorf("got %v", err)
	}
}
