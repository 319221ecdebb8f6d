package records

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func mustTemplate(t testing.TB, s string) *Template {
	t.Helper()
	template, err := ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return template
}

func TestTemplate(t *testing.T) {
	object, err := ParseObject([]byte(`{"title":" T ","body":"b","year":1984,"none":null,"tags":["x","y"],"deep":{},"list":[1],"a,b":"ab"}`))
	if err != nil {
		t.Fatal(err)
	}
	for template, want := range map[string]string{
		"body": "b", "title, body": "T b", "title": " T ", "none,body": "b", "{title}: {body}": " T : b", "{year} {{{tags}}}": "1984 {x, y}", "{none}": "", "{a,b}": "ab",
	} {
		if got, _, err := mustTemplate(t, template).join(object); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", template, got, err, want)
		}
	}
	for template, want := range map[string]string{"text": `field "text" is missing; found a,b, body, deep`, "deep": "is an object", "title,list": "is a list of other values"} {
		if _, _, err := mustTemplate(t, template).join(object); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", template, err, want)
		}
	}
	for _, template := range []string{"", "a,", "{", "}", "{}", "a {b", "{a{b}}", "{{a}}"} {
		if _, err := ParseTemplate(template); err == nil {
			t.Errorf("%q is no error", template)
		}
	}
}

func TestReadTable(t *testing.T) {
	fields := Fields{Query: mustTemplate(t, "question"), Document: mustTemplate(t, "{title}: {body}"), QueryID: "q", DocumentID: "d"}
	for _, test := range []struct {
		title, name, text string
		o                 Options
		want              string
	}{
		{"usual names", "f.csv", "\ufeffquery,n,document\r\nq,1,\"a, \"\"b\"\"\r\nc\"\r\n\r\nr,2,\r\n", Options{},
			"query,n,document,score\r\nq,1,\"a, \"\"b\"\"\r\nc\",1.5\r\nr,2,,2.5\r\n"},
		{"semicolons", "f.csv", "query;text;title\nq;a,b;t\n", Options{}, "query;text;title;score\nq;a,b;t;1.5\n"},
		{"fields", "f.csv", "question,q,d,title,body\nq,1,2,t,b", Options{Fields: fields, IDs: true}, "1 2 0.5 2\n"},
		{"named columns of TSV", "f.tsv", "question\tq\td\ttitle\tbody\n\"q\t1\t2\tt\tb\n", Options{Fields: fields}, "question\tq\td\ttitle\tbody\tscore\n\"q\t1\t2\tt\tb\t1.5\n"},
		{"old scores", "f.csv", "query,score,document\n\"q,\"\"\",\"9,\",\"d\n,\"\n", Options{Score: ReplaceScore}, "query,score,document\n\"q,\"\"\",1.5,\"d\n,\"\n"},
		{"bad rows", "f.csv", "query,document\na\na,b\"c\n\"a,b\n", Options{},
			"query,document,score\n,,\"error: line 2: 1 column, expected 2 (query, document)\"\n,,\"error: line 3: malformed CSV at byte 4: bare \"\" in non-quoted-field; quote a cell that has a quote, and double the quote\"\n" +
				",,\"error: line 4: malformed CSV at byte 5: extraneous or missing \"\" in quoted-field; quote a cell that has a quote, and double the quote\"\n"},
	} {
		t.Run(test.title, func(t *testing.T) {
			test.o.Format = Auto
			r, all, err := readAll(test.name, test.text, test.o)
			if err != nil {
				t.Fatal(err)
			}
			layout := r.Layout()
			if test.o.IDs {
				layout = Scored{}
			}
			if got := render(t, layout, all); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	_, all, err := readAll("f.csv", "question,q,d,title,body\n\"q\nq\",1,2,t,b\nr,3,4,t,c", Options{Format: Auto, Fields: fields, IDs: true})
	if err != nil || len(all) != 3 || all[1].Query != "q\nq" || all[1].Document != "t: b" || all[1].DocumentID != "2" || all[2].Line != 4 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestReadTableErrors(t *testing.T) {
	for _, test := range []struct {
		name, text string
		o          Options
		want       string
	}{
		{"f.csv", "", Options{}, "f.csv: it is empty; expected a header row"},
		{"f.csv", "a,a\n", Options{}, `f.csv: line 1: the header row names the column "a" twice`},
		{"f.csv", "a,\"b\nc\"\n", Options{}, "f.csv: line 1: the header row has a quote that does not end in the line"},
		{"f.csv", "a,b\"\n", Options{}, "f.csv: line 1: malformed CSV at byte 4"},
		{"f.csv", "query,document\n", Options{Fields: Fields{Query: mustTemplate(t, "question")}}, `f.csv: line 1: no column "question"; the header row has query, document`},
		{"f.csv", "query,document\n", Options{Header: NoHeader}, "found by the names in the header row"},
		{"f.csv", "query,document\xe9\n", Options{}, "f.csv: line 1: not UTF-8"},
		{"f.tsv", "1\t2\tq\td\n", Options{Format: MSMARCO, Fields: Fields{Query: mustTemplate(t, "q")}}, "f.tsv: its columns have no names"},
	} {
		if test.o.Format == "" {
			test.o.Format = Auto
		}
		if _, _, err := readAll(test.name, test.text, test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %q", test.text, err, test.want)
		}
	}
	_, all, err := readAll("f.csv", "query,document,score\nq,d,1\n", Options{Format: Auto})
	if err != nil || all[0].Err == nil || !strings.Contains(all[0].Err.Error(), `column "score" exists already`) {
		t.Errorf("got %+v, %v", all, err)
	}
}

// TestTableResume reads a table from each of its rows.
func TestTableResume(t *testing.T) {
	checkGoOnEverywhere(t, []byte("query,document\n\"a\nb\",c\n\nd,\"e\"\nf\n\"g\n"))
}

func checkGoOnEverywhere(t *testing.T, data []byte) {
	t.Helper()
	o := Options{Format: CSV}
	_, all, err := readAll("f", string(data), o)
	if err != nil {
		t.Fatal(err)
	}
	checkGoOn(t, data, o, all)
}

// FuzzCSV checks that any bytes make records or errors. encoding/csv finds the cells
// of the input and the score in the output.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"query,document\na,b\n", "query;document;score\r\n\"a\"\"\nb\";c;1\r\n", "query\tdocument\n\"", "query,document\na,\"b"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, score := range []ScorePolicy{RefuseScore, ReplaceScore} {
			o := Options{Format: CSV, Score: score}
			r, all, err := readAll("f", string(data), o)
			if err != nil {
				if len(err.Error()) > 700 {
					t.Errorf("error of %d bytes", len(err.Error()))
				}
				return
			}
			layout := r.Layout().(*table)
			for _, record := range all {
				if record.Err != nil || record.Header {
					continue
				}
				before := readRow(t, layout, record.Text)
				line, err := layout.AppendScored(nil, &record, Value{Score: -4.25})
				if err != nil {
					t.Fatal(err)
				}
				after, at := readRow(t, layout, line), layout.scored()
				if at < 0 {
					before, at = append(before, ""), len(before)
				}
				if before[at] = "-4.25"; !slices.Equal(before, after) {
					t.Errorf("%q becomes %q", record.Text, line)
				}
			}
			checkGoOn(t, data, o, all)
		}
	})
}

func readRow(t *testing.T, layout *table, row []byte) []string {
	t.Helper()
	r := csv.NewReader(bytes.NewReader(row))
	r.Comma = rune(layout.delimiter)
	cells, err := r.Read()
	if err != nil {
		t.Fatalf("%q: %v", row, err)
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("%q has more rows", row)
	}
	return cells
}
