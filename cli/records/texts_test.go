package records

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

func TestTexts(t *testing.T) {
	long := strings.Repeat("long ", 100_000)
	var file strings.Builder
	file.WriteString("\ufeffid\tfirst\n\n")
	for i := range 2000 {
		fmt.Fprintf(&file, "%d\ttext %d\r\n", i, i*i)
	}
	file.WriteString("long\t" + long + "\nempty\t\n\tno id\nlast\tline")
	texts := newTexts(t, file.String())
	want := map[string]string{"id": "first", "0": "text 0", "1999": "text 3996001", "long": long, "empty": "", "": "no id", "last": "line"}
	for id, text := range want {
		if got, _, err := texts.Get(id); err != nil || got != text {
			t.Errorf("%q: got %.40q, %v, want %.40q", id, got, err, text)
		}
	}
	for _, id := range []string{"2000", "\ufeffid", "id ", "line"} {
		if got, _, err := texts.Get(id); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is not in texts.tsv", id)) {
			t.Errorf("%q: got %q, %v", id, got, err)
		}
	}
}

// TestTextsCollision looks up ids whose hashes are the same.
func TestTextsCollision(t *testing.T) {
	texts := newTexts(t, "a\tA\nb\tB\nc\tC\n")
	var b indexBuilder
	for _, offset := range []int64{0, 4, 8} {
		if err := b.add(xxhash.Sum64String("b"), offset); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if texts.index, _, err = b.index(); err != nil {
		t.Fatal(err)
	}
	if got, _, err := texts.Get("b"); err != nil || got != "B" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestTextsDuplicateID checks that an id may appear twice with equal texts. With
// different texts, each request for the id returns the same error.
func TestTextsDuplicateID(t *testing.T) {
	for range 1 {
		texts := newTexts(t, "a\tA\nb\tB\n\na\tA\r\nb\tB2\nb\tB3\nc\tC\n")
		for id, want := range map[string]string{"a": "A", "c": "C"} {
			if got, _, err := texts.Get(id); err != nil || got != want {
				t.Errorf("%s: got %q, %v, want %q", id, got, err, want)
			}
		}
		const want = `id "b" has different texts in lines 2 and 5 of texts.tsv; remove one`
		if _, _, err := texts.Get("b"); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestTextsFormats reads texts as collections have them.
func TestTextsFormats(t *testing.T) {
	corpus := "\ufeff" + `{"_id": "d1", "title": "Jaguar", "text": "An animal.", "metadata": {}}` + "\r\n\n" +
		`{"_id": 7, "title": "", "text": " none "}` + "\n" + `{"id": "d3", "text": " as it is "}` + "\n" + `{"document_id": "d4", "document": "whole", "title": "T", "text": "t"}`
	queries := `{"_id": "d1", "text": "what?", "metadata": {}}` + "\n" + `{"query_id": "d3", "query": "why?", "text": "t"}`
	for _, test := range []struct {
		name, text string
		queries    bool
		want       map[string]string
	}{
		{"corpus", corpus, false, map[string]string{"d1": "Jaguar An animal.|title and text", "7": "none|title and text", "d3": " as it is |text", "d4": "whole|document"}},
		{"queries", queries, true, map[string]string{"d1": "what?|text", "d3": "why?|query"}},
		{"docs.tsv", "D1\thttp://a\tJaguar\tAn animal.\r\nD2\t\t\tb\n", false, map[string]string{"D1": "Jaguar An animal.|title and body", "D2": "b|title and body"}},
		{"braces.tsv", "{\"id\":1}\tA\n", false, map[string]string{"{\"id\":1}": "A|text"}},
		{"braces", "{a}\tA\nb\tB\n", false, map[string]string{"{a}": "A|text", "b": "B|text"}},
		{"with a header", "id\ttext\na\tA\n", false, map[string]string{"a": "A|text"}},
	} {
		texts, err := IndexTexts(test.name, TextsOptions{Queries: test.queries}, strings.NewReader(test.text), strings.NewReader(test.text))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		for id, want := range test.want {
			if text, source, err := texts.Get(id); err != nil || text+"|"+source != want {
				t.Errorf("%s: %s: got %q from %q, %v, want %q", test.name, id, text, source, err, want)
			}
		}
	}
}

// TestTextsNoText refuses a text that is none when it is asked for.
func TestTextsNoText(t *testing.T) {
	texts := newTexts(t, "a\tA\n\xef\xbb\xbfb\tcaf\xe9\nc\tA\x00B\n")
	if got, _, err := texts.Get("a"); err != nil || got != "A" {
		t.Errorf("got %q, %v", got, err)
	}
	for id, want := range map[string]string{"b": "texts.tsv: line 2: not UTF-8 (byte 0xE9 at column 6; Latin-1?)", "c": "texts.tsv: line 3: NUL byte"} {
		if _, _, err := texts.Get(id); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", id, err, want)
		}
	}
}

func TestTextsErrors(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"a\tb\nc\n", "texts.tsv: line 2: 1 column, expected 2 (id, text)"},
		{"a\tb\tc\n", "texts.tsv: line 1: 3 columns, expected 2 (id, text) or 4 (id, url, title, body)"},
		{"a\tb\tc\td\na\tb\n", "texts.tsv: line 2: 2 columns, expected 4 (id, url, title, body)"},
		{"PAR1\x15\x04", "texts.tsv: looks like a Parquet file"},
		{"a\t" + strings.Repeat("x", maxLine), "texts.tsv: line 1: longer than 64 MiB"},
	} {
		_, err := IndexTexts("texts.tsv", TextsOptions{}, strings.NewReader(test.text), strings.NewReader(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.40q: got %v, want %q", test.text, err, test.want)
		}
	}
}

// TestTextsReadError distinguishes a file that cannot be read from a line that names no
// text.
func TestTextsReadError(t *testing.T) {
	texts := newTexts(t, "a\tA\n")
	texts.file = readerAtFunc(func([]byte, int64) (int, error) { return 0, errors.New("disk on fire") })
	_, _, err := readAll("f", "a Q0 a 1 1 x", Options{Format: TREC, Queries: texts, Documents: texts})
	if err == nil || !strings.Contains(err.Error(), "f: line 1: read texts.tsv: byte 0: disk on fire") {
		t.Errorf("got %v", err)
	}
	texts.file = readerAtFunc(func(p []byte, _ int64) (int, error) { return io.ReadFull(zeroes{}, p) })
	if _, _, err := texts.Get("a"); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("got %v", err)
	}
}

type readerAtFunc func([]byte, int64) (int, error)

func (f readerAtFunc) ReadAt(p []byte, at int64) (int, error) { return f(p, at) }

func TestTextsIdentity(t *testing.T) {
	var none *Texts
	a, b := newTexts(t, "a\tA\n"), newTexts(t, "a\tB\n")
	if none.Identity() != "none" || a.Identity() == b.Identity() || a.Identity() != newTexts(t, "a\tA\n").Identity() {
		t.Errorf("%s, %s, %s", none.Identity(), a.Identity(), b.Identity())
	}
}
