package records

import (
	"fmt"
	"strings"
	"testing"
)

// showDocuments formats documents.
func showDocuments(d *Documents) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s from %s\n", d.Format, d.Sources())
	for _, document := range d.List {
		fmt.Fprintf(&b, "%d %s|%q|", document.Place, document.ID, document.Text)
		for _, name := range []string{"title", "text", "url", "id", "n"} {
			if raw, ok := document.Fields[name]; ok {
				fmt.Fprintf(&b, " %s=%s", name, raw)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestReadDocuments(t *testing.T) {
	for _, test := range []struct {
		title, name, text string
		format            Format
		header            HeaderPolicy
		want              string
	}{
		{"lines", "f", "\ufeffa\r\n\n \nb {c}\n{d\n", Auto, GuessHeader, "lines from line\n1 |\"a\"|\n4 |\"b {c}\"|\n5 |\"{d\"|\n"},
		{"lines that are objects", "f.jsonl", "{\"text\":\"a\"}\nb\n", LinesOf, GuessHeader, "lines from line\n1 |\"{\\\"text\\\":\\\"a\\\"}\"|\n2 |\"b\"|\n"},
		{"objects with leading space", "f", "\n \t{\"text\":\"a\",\"n\":1.50}\r\n\ufeff{\"_id\":\"x\",\"title\":\"T\",\"text\":\"t\",\"url\":null}\n{\"document_id\":-5,\"document\":\"d\",\"text\":\"t\"}\n", Auto, GuessHeader,
			"jsonl from document, text, title and text\n2 |\"a\"| n=1.50\n3 x|\"T t\"| title=\"T\" url=null\n4 -5|\"d\"| text=\"t\"\n"},
		{"strings and objects", "f", "\"a\\u0000\"\n{\"text\":\"\\ud800\",\"id\":[1]}\n", JSONL, GuessHeader, "jsonl from string, text\n1 |\"a\\x00\"|\n2 |\"�\"| id=[1]\n"},
		{"array", "f", "\ufeff \n[\"a\", {\"text\":\"b\\r\\n\",\"id\":\"7\"},\r\n\"\"]", Auto, GuessHeader, "json from string, text\n1 |\"a\"|\n2 7|\"b\\r\\n\"|\n3 |\"\"|\n"},
		{"lines that begin with brackets", "f", "[1] a\n[two]\n", Auto, GuessHeader, "lines from line\n1 |\"[1] a\"|\n2 |\"[two]\"|\n"},
		{"collection", "f.tsv.gz", "d1\tlondon\r\n\nd2\t\n", Auto, GuessHeader, "tsv from text\n1 d1|\"london\"|\n3 d2|\"\"|\n"},
		{"collection of documents", "f", "D1\thttp://a\tT\tbody\n", TSV, GuessHeader, "tsv from title and body\n1 D1|\"T body\"|\n"},
		{"collection with a header", "f.tsv", "id\ttext\nd1\ta\n", Auto, SkipHeader, "tsv from text\n2 d1|\"a\"|\n"},
		{"lines with tabs", "f.txt", "a\tb\n", Auto, GuessHeader, "lines from line\n1 |\"a\\tb\"|\n"},
	} {
		t.Run(test.title, func(t *testing.T) {
			d, err := ReadDocuments(test.name, strings.NewReader(test.text), test.format, test.header, Fields{})
			if err != nil {
				t.Fatal(err)
			}
			if got := showDocuments(d); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if d.HeaderLike || d.Basis == "" {
				t.Errorf("header %v, basis %q", d.HeaderLike, d.Basis)
			}
		})
	}
	if d, err := ReadDocuments("f.tsv", strings.NewReader("docid\tbody\nd1\ta\n"), Auto, GuessHeader, Fields{}); err != nil || !d.HeaderLike {
		t.Errorf("a header is not seen: %v, %v", d, err)
	}
	if d, err := ReadDocuments("f.tsv", strings.NewReader("docid\tbody\nd1\ta\n"), Auto, NoHeader, Fields{}); err != nil || d.HeaderLike || len(d.List) != 2 {
		t.Errorf("a header is seen against NoHeader: %v, %v", d, err)
	}
}

func TestReadDocumentsCountsBlankLines(t *testing.T) {
	for text, want := range map[string]int{"a\nb": 0, "\n\ufeff\r\na\n \u3000\nb\n\n": 4, "{\"text\":\"\"}\n\n": 1, "[\"\",\n\n\"\"]": 0} {
		if d, err := ReadDocuments("f", strings.NewReader(text), Auto, GuessHeader, Fields{}); err != nil || d.Blank != want {
			t.Errorf("%q: %+v, %v, want %d blank lines", text, d, err, want)
		}
	}
}

// TestReadDocumentsReportsObjects checks that a text with a few JSON objects is read
// as text, and that the line of the first object is reported.
func TestReadDocumentsReportsObjects(t *testing.T) {
	for text, want := range map[string]int{"a\n{b}\n{\n": 0, "a\n\n  {\"b\": 1}\nc\n{}\n": 3, "a\n{\"b\n": 2} {
		d, err := ReadDocuments("f", strings.NewReader(text), Auto, GuessHeader, Fields{})
		if err != nil || d.Format != LinesOf || d.ObjectLine != want {
			t.Errorf("%q: %+v, %v, want line %d", text, d, err, want)
		}
		d, err = ReadDocuments("f", strings.NewReader(text), LinesOf, GuessHeader, Fields{})
		if err != nil || d.ObjectLine != 0 {
			t.Errorf("%q by --format lines: %+v, %v", text, d, err)
		}
	}
}

func TestReadDocumentsErrors(t *testing.T) {
	for _, test := range []struct {
		name, text string
		format     Format
		header     HeaderPolicy
		want       []string
	}{
		{"f", "", Auto, 0, []string{"f has no documents"}},
		{"f", "\n \n\ufeff\n", Auto, 0, []string{"f has no documents"}},
		{"f.CSV.gz", "id,text\n1,a,b\n", Auto, 0, []string{"f.CSV.gz: line 2: 3 columns, expected 2 (id, text)", "read as csv by its name"}},
		{"f.csv", "id,body\n1,a\n", Auto, 0, []string{"f.csv: line 2: fields \"document\" and \"text\" are missing; give one"}},
		{"f.csv", "id,text\n1,\"a\n", Auto, 0, []string{"f.csv: line 2: malformed CSV"}},
		{"f.csv", "id,text\n1,caf\xe9\n", Auto, 0, []string{"f.csv: line 2: not UTF-8"}},
		{"f.csv", "id,text\n1,a\n", Auto, NoHeader, []string{"f.csv: the columns are found by the names in the header row"}},
		{"f", "[]", Auto, 0, []string{"f has no documents"}},
		{"f", "a\n\n{\"text\":\"b\"}\n {\"text\":\"c\n", Auto, 0, []string{"cannot detect the format", "2 of 3 lines begin like JSON objects, line 3 first", "--format lines"}},
		{"f", "{\"text\":\"a\"}\nb\n", Auto, 0, []string{"f: line 2: expected a string or an object, found b", "read as jsonl since its first line is a JSON object; --format"}},
		{"f", "{hello}\n", Auto, 0, []string{"cannot detect the format", "malformed JSON at byte 2", "--format lines"}},
		{"f", "{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}\n", Auto, 0, []string{"objects of several lines", "jq -c"}},
		{"f.jsonl", "a\n", Auto, 0, []string{"f.jsonl: line 1: expected a string or an object", "read as jsonl by its name"}},
		{"f", "{\"body\":\"a\"}\n", Auto, 0, []string{"f: line 1: fields \"document\" and \"text\" are missing; give one"}},
		{"f", "a\ncaf\xe9\n", Auto, 0, []string{"f: line 2: not UTF-8 (byte 0xE9 at column 4"}},
		{"f", "a\nb\x00\n", Auto, 0, []string{"f: line 2: NUL byte at column 2"}},
		{"f", "[\"a\",\n\"caf\xe9\"]", Auto, 0, []string{"f: line 2: not UTF-8 (byte 0xE9 at column 5"}},
		{"f", "[\"a\", 5]", Auto, 0, []string{"f: item 2 of the JSON array: expected a string or an object, found 5", "read as json"}},
		{"f", "\"a\"", JSON, 0, []string{"f: not a JSON array"}},
		{"f.tsv", "a\n", Auto, 0, []string{"f.tsv: line 1: 1 column, expected 2 (id, text) or 4 (id, url, title, body)", "read as tsv by its name"}},
		{"f.tsv", "a\tb\na\tb\tc\td\n", Auto, 0, []string{"line 2: 4 columns, expected 2 (id, text)"}},
		{"f", "a\n", Auto, SkipHeader, []string{"f is lines: only files of columns have a header row"}},
		{"f", "a\n", MSMARCO, 0, []string{`unknown format "msmarco" of documents`}},
	} {
		_, err := ReadDocuments(test.name, strings.NewReader(test.text), test.format, test.header, Fields{})
		if err == nil {
			t.Errorf("%q is no error", test.text)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v lacks %q", test.text, err, want)
			}
		}
	}
}

// TestReadDocumentsFields names fields of objects, which strings and lines have not.
func TestReadDocumentsFields(t *testing.T) {
	fields := Fields{Document: mustTemplate(t, "a,b"), DocumentID: "n"}
	d, err := ReadDocuments("f.jsonl", strings.NewReader(`{"n":12345678901234567890,"a":"x","b":null}`), Auto, GuessHeader, fields)
	if err != nil || d.List[0].Text != "x" || d.List[0].ID != "12345678901234567890" || d.Sources() != "a and b" {
		t.Errorf("got %+v, %v", d, err)
	}
	for text, want := range map[string]string{
		`["x"]`:                  `item 1 of the JSON array: expected an object with the fields that flags name, found the string "x"`,
		`{"n":1,"a":"x"}`:        `line 1: field "b" is missing; found a, n`,
		`{"a":"x","b":"y"}`:      `line 1: field "n" is missing`,
		`{"n":1,"a":{},"b":"y"}`: `line 1: field "a" is an object`,
		"text":                   "f is lines: its columns have no names",
	} {
		if _, err := ReadDocuments("f", strings.NewReader(text), Auto, GuessHeader, fields); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
