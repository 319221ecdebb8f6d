package records

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
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
		if got, err := texts.Get(id); err != nil || got != text {
			t.Errorf("%q: got %.40q, %v, want %.40q", id, got, err, text)
		}
	}
	for _, id := range []string{"2000", "\ufeffid", "id ", "line"} {
		if got, err := texts.Get(id); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is not in texts.tsv", id)) {
			t.Errorf("%q: got %q, %v", id, got, err)
		}
	}
}

// TestTextsCollision looks up ids whose hashes are the same.
func TestTextsCollision(t *testing.T) {
	texts := newTexts(t, "a\tA\nb\tB\nc\tC\n")
	for i := range texts.places {
		texts.places[i].hash = 7
	}
	if err := texts.checkUnique(); err != nil {
		t.Error(err)
	}
	for i := range texts.places {
		line, _, err := texts.read(texts.places[i].offset)
		if err != nil || len(line) != 1 {
			t.Errorf("place %d holds %q, %v", i, line, err)
		}
	}
}

func TestTextsErrors(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"a\tb\nc\n", "texts.tsv: line 2: 1 column, where 2 are needed (id, text)"},
		{"a\tb\tc\n", "texts.tsv: line 1: 3 columns, where 2 are needed (id, text)"},
		{"a\tb\nb\tb\na\tc\n", `texts.tsv: two lines have the id "a"`},
		{"a\t" + strings.Repeat("x", maxLine), "texts.tsv: line 1: longer than 64 MiB"},
	} {
		_, err := IndexTexts("texts.tsv", strings.NewReader(test.text), strings.NewReader(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.40q: got %v, want %q", test.text, err, test.want)
		}
	}
}

// TestTextsReadError tells a file that cannot be read from a line that names no
// text.
func TestTextsReadError(t *testing.T) {
	texts := newTexts(t, "a\tA\n")
	texts.file = readerAtFunc(func([]byte, int64) (int, error) { return 0, errors.New("disk on fire") })
	_, _, err := readAll("f", "a Q0 a 1 1 x", Options{Format: TREC, Queries: texts, Documents: texts})
	if err == nil || !strings.Contains(err.Error(), "f: line 1: read texts.tsv: byte 0: disk on fire") {
		t.Errorf("got %v", err)
	}
	texts.file = readerAtFunc(func(p []byte, _ int64) (int, error) { return io.ReadFull(zeroes{}, p) })
	if _, err := texts.Get("a"); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
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
