package records

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/measures"
)

func TestReadCandidates(t *testing.T) {
	texts := newTexts(t, "q\tQ\na\tA\nb\tB\n")
	for _, test := range []struct {
		title, name, text string
		order             CandidateOrder
		run               measures.Run
		qrels             measures.Qrels
		document          [2]string // an id and its text
	}{
		{"run", "f.run", "q Q0 b 1 0.5 x\n\nq Q0 a 2 0.75 x\n", ByScore, measures.Run{"q": {{ID: "b", Score: .5}, {ID: "a", Score: .75}}}, nil, [2]string{"a", "A"}},
		{"short run", "f", "q\tb\t1\n", ByScore, measures.Run{"q": {{ID: "b", Score: -1}}}, nil, [2]string{"b", "B"}},
		{"MS MARCO", "f.tsv", "1\t7\tq\tone\n2\t7\tr\tone\n1\t8\tq\ttwo\n", ByPosition,
			measures.Run{"1": {{ID: "7", Score: -1}, {ID: "8", Score: -2}}, "2": {{ID: "7", Score: -1}}}, nil, [2]string{"8", "two"}},
		{"objects", "f.jsonl", `{"query":"q","document":"a","label":1}` + "\n" + `{"query":"r","title":"T","text":"b","relevance":"0","docid":12345678901234567890}` + "\n" + `{"query":"q","document":"c","label":null}`, ByPosition,
			measures.Run{"1": {{ID: "1", Score: -1}, {ID: "3", Score: -2}}, "2": {{ID: "12345678901234567890", Score: -1}}},
			measures.Qrels{"1": {"1": 1}, "2": {"12345678901234567890": 0}}, [2]string{"12345678901234567890", "T b"}},
		{"objects with scores", "f", `{"query":"q","query_id":7,"document":"a","document_id":"x","score":1.5}`, ByScore, measures.Run{"7": {{ID: "x", Score: 1.5}}}, nil, [2]string{"x", "a"}},
		{"positives and negatives", "f", `{"query":"q","positive":"a","negative":["b",{"text":"c","_id":3}]}`, Unordered,
			measures.Run{"1": {{ID: "1.1"}, {ID: "1.n1"}, {ID: "3"}}}, measures.Qrels{"1": {"1.1": 1, "1.n1": 0, "3": 0}}, [2]string{"3", "c"}},
		{"documents and labels", "f", `{"query":"q","docs":["a","b"],"labels":[0,2.0]}`, ByPosition,
			measures.Run{"1": {{ID: "1.1", Score: -1}, {ID: "1.2", Score: -2}}}, measures.Qrels{"1": {"1.1": 0, "1.2": 2}}, [2]string{"1.2", "b"}},
	} {
		got, err := ReadCandidates(test.name, strings.NewReader(test.text), Options{Format: Auto, Queries: texts, Documents: texts})
		if err != nil {
			t.Errorf("%s: %v", test.title, err)
			continue
		}
		if got.Order != test.order || !reflect.DeepEqual(got.Run, test.run) || !reflect.DeepEqual(got.Qrels, test.qrels) {
			t.Errorf("%s: got %s %v %v", test.title, got.Order, got.Run, got.Qrels)
		}
		if text, err := got.Document(test.document[0]); err != nil || text != test.document[1] {
			t.Errorf("%s: document %s is %q, %v", test.title, test.document[0], text, err)
		}
		for id := range got.Run {
			if text, err := got.Query(id); err != nil || text == "" {
				t.Errorf("%s: query %s is %q, %v", test.title, id, text, err)
			}
		}
	}
}

func TestReadCandidatesErrors(t *testing.T) {
	texts := newTexts(t, "q\tQ\na\tA\nb\tB\n")
	for _, test := range []struct{ name, text, want string }{
		{"f", "", "f has no candidates"},
		{"f.run", "q Q0 a 1 1 x\nq Q0 c 2 1 x\n", `f.run: line 2: id "c" is not in texts.tsv`},
		{"f.run", "p Q0 a 1 1 x\n", `f.run: line 1: id "p" is not in texts.tsv`},
		{"f.run", "q Q0 a 1 nan x\n", `f.run: line 1: score "nan" is not a finite number`},
		{"f.run", "q Q0 a 1 1 x\nq Q0 a 2 1 x\n", `f.run: line 2: query "q" and document "a" are also in line 1`},
		{"f.tsv", "q\td\n", "tsv has none; use msmarco"},
		{"f.tsv", "1\t2\tq\td\n1\t3\tr\td\n", `line 2: query id "1" has a different text in line 1`},
		{"f.tsv", "1\t2\tq\td\n3\t2\tr\te\n", `line 2: document id "2" has a different text in line 1`},
		{"f.tsv", "\t2\tq\td\n", "line 1: an id is empty"},
		{"f", `{"query":"q","document":"a","label":0.5}`, `f: line 1: field "label": label 0.5 is not a whole number`},
		{"f", `{"query":"q","document":"a","score":1}` + "\n" + `{"query":"q","document":"b"}`, `f: line 2: some objects have "score"`},
		{"f", `{"query":"q","documents":["a","b"],"labels":[1]}`, `field "labels" has 1 label, fewer than "documents" has documents`},
		{"f", `{"query":"q","documents":["a",5]}`, `field "documents": item 2: expected a string or an object, found 5`},
		{"f", `{"query":"q","documents":["a"],"labels":5}`, `field "labels" is not a list of labels: 5`},
		{"f", `{"query":"q","document":"a","label":1}` + "\n" + `{"query":"r","document":"a"}` + "\n" + `{"query":"q","document":"a","label":0}`, `f: line 3: the document "a" has label 0, and the same text has label 1 for this query in line 1`},
		{"f", `{"query":"q","positive":["a"],"negative":["b","a"]}`, `f: line 1: the document "a" has label 0, and the same text has label 1 for this query in line 1`},
		{"f.csv", "question,text2\na,b\n", `f.csv: line 1: no column "query"; the header row has question, text2; name it with --query-fields`},
		{"f.csv", "query,text2\na,b\n", `f.csv: line 1: no column "document" or "text"; the header row has query, text2; name it with --fields`},
		{"f", `{"query":"q"}`, `fields "document" and "text" are missing`},
		{"f", "{\"query\":\"q\",\"document\":\"caf\xe9\"}", "f: line 1: not UTF-8"},
	} {
		_, err := ReadCandidates(test.name, strings.NewReader(test.text), Options{Format: Auto, Queries: texts, Documents: texts})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.50q: got %v, want %q", test.text, err, test.want)
		}
	}
}

// FuzzCandidates checks that any bytes make candidates that have texts, or an error.
func FuzzCandidates(f *testing.F) {
	for _, seed := range []string{"a Q0 a 1 1 x\n", "1\t2\tq\td\n", `{"query":"q","document":"a","label":1}`, `{"query":"q","positive":["a"],"negative":["b"]}`, `{"query":"q","docs":["a"],"labels":[1]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		texts := newTexts(t, "a\tA\n")
		c, err := ReadCandidates("f", bytes.NewReader(data), Options{Format: Auto, Queries: texts, Documents: texts})
		if err != nil {
			if len(err.Error()) > 700 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		for query, documents := range c.Run {
			_, err := c.Query(query)
			for _, d := range documents {
				if err == nil {
					_, err = c.Document(d.ID)
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
		for query, judged := range c.Qrels {
			if len(c.Run[query]) < len(judged) {
				t.Error(fmt.Errorf("query %q has %d labels and %d documents", query, len(judged), len(c.Run[query])))
			}
		}
	})
}

// TestReadCandidatesTable reads candidates from a table, whose columns are named by
// flags.
func TestReadCandidatesTable(t *testing.T) {
	text := "question,body,label,n\n\"q\n1\",a,1,7\nr,b,0,8\n\"q\n1\",c,,9\n"
	o := Options{Format: Auto, Fields: Fields{Query: mustTemplate(t, "question"), Document: mustTemplate(t, "body"), DocumentID: "n"}}
	got, err := ReadCandidates("f.csv", strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	run := measures.Run{"2": {{ID: "7", Score: -1}, {ID: "9", Score: -2}}, "4": {{ID: "8", Score: -1}}}
	if !reflect.DeepEqual(got.Run, run) || !reflect.DeepEqual(got.Qrels, measures.Qrels{"2": {"7": 1}, "4": {"8": 0}}) {
		t.Errorf("got %v %v", got.Run, got.Qrels)
	}
	if query, err := got.Query("2"); err != nil || query != "q\n1" {
		t.Errorf("got %q, %v", query, err)
	}
	if _, err := ReadCandidates("f.csv", strings.NewReader(text+"q,\xe9,1,10\n"), o); err == nil || !strings.Contains(err.Error(), "f.csv: line 7: not UTF-8") {
		t.Errorf("got %v", err)
	}
}
