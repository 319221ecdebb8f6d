package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzJSONL checks that any bytes make records or errors. Output lines have every byte
// of their input lines, and a score that a JSON reader finds.
func FuzzJSONL(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, score := range []ScorePolicy{RefuseScore, ReplaceScore, IgnoreScore} {
			for _, record := range checkReader(t, data, Options{Format: JSONL, Score: score, IDs: score == ReplaceScore}) {
				if record.Err != nil {
					continue
				}
				if score == RefuseScore {
					checkPassThrough(t, record.Text)
				}
				line, err := jsonl{score: score}.AppendScored(nil, &record, Value{Score: -4.25})
				var object map[string]json.RawMessage
				if err := errors.Join(err, json.Unmarshal(line, &object)); err != nil || string(object["score"]) != "-4.25" {
					t.Errorf("%q becomes %q: %v", record.Text, line, err)
				}
			}
		}
	})
}

func FuzzTSV(f *testing.F) { fuzzColumns(f, TSV) }

func FuzzMSMARCO(f *testing.F) { fuzzColumns(f, MSMARCO) }

// fuzzColumns checks that any bytes make records or errors. Output lines have every
// byte of their columns, and the score between them can be removed again.
func fuzzColumns(f *testing.F, format Format) {
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, score := range []ScorePolicy{RefuseScore, ReplaceScore} {
			for _, record := range checkReader(t, data, Options{Format: format, Score: score, IDs: format == MSMARCO && score == ReplaceScore}) {
				if record.Err != nil {
					continue
				}
				layout := columns{names: columnsOf[format], score: score}
				line, err := layout.AppendScored(nil, &record, Value{Score: -4.25})
				text, end, ok := strings.Cut(string(line), "\t-4.25")
				if err != nil || !ok || !strings.HasPrefix(string(record.Text), text) || strings.Count(text, "\t") != len(layout.names)-1 {
					t.Errorf("%q becomes %q: %v", record.Text, line, err)
				}
				if score == RefuseScore && text+end != string(record.Text)+"\n" {
					t.Errorf("%q becomes %q", record.Text, line)
				}
			}
		}
	})
}

// FuzzTREC checks that any bytes of a run and of its texts make records or errors. The
// rows of the records make a valid run with the same number of lines.
func FuzzTREC(f *testing.F) {
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, run, file []byte) {
		texts, err := IndexTexts("texts", TextsOptions{}, bytes.NewReader(file), bytes.NewReader(file))
		if err != nil {
			return
		}
		options := Options{Format: TREC, IDs: true, Queries: texts, Documents: texts}
		var rows []byte
		ids := make(map[[2]string]bool)
		for _, record := range checkReader(t, run, options) {
			if record.Err != nil {
				continue
			}
			ids[[2]string{record.QueryID, record.DocumentID}] = true
			if rows, err = (Scored{}).AppendScored(rows, &record, Value{Logit: float32(len(rows) % 3)}); err != nil {
				t.Fatal(err)
			}
		}
		var ranked bytes.Buffer
		if _, err := Rank(&ranked, bytes.NewReader(rows), dir, "tag"); err != nil {
			t.Fatalf("rows %q: %v", rows, err)
		}
		_, again, err := readAll("run", ranked.String(), options)
		if err != nil || len(again) != len(ids) {
			t.Errorf("%d pairs became %d lines, %v:\n%s", len(ids), len(again), err, &ranked)
		}
		for _, record := range again {
			if record.Err != nil {
				t.Errorf("line %d of the run: %v", record.Line, record.Err)
			}
		}
	})
}

// FuzzDocuments checks that any bytes in any format make documents of valid text with
// ascending positions, or a short error. A detected format reads as if it were given.
func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{
		"a\n\nb\r\n", `{"_id":"1","title":"T","text":"t","x":[1]}` + "\n", `["a",{"text":"b"}]`, "id\ttext\n1\ta\n", "1\tu\tt\tb\n",
		"{\n \"text\": \"a\"\n}\n", "a\n{\"text\":\"b\"}\n", "\xff\xfea\x00\n\x00", "a\x00\n\x00", "%PDF-1.4\n", "a\rb", "[1] a\n", "\ufeff[\"\"]", "{a}\n", "\"a\"\n",
	} {
		f.Add([]byte(seed), "f")
		f.Add([]byte(seed), "f.tsv")
		f.Add([]byte(seed), "f.jsonl.gz")
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		guessed := checkDocuments(t, data, name, Auto)
		for _, format := range []Format{LinesOf, JSONL, JSON, TSV} {
			d := checkDocuments(t, data, name, format)
			if guessed == nil || guessed.Format != format {
				continue
			}
			if d == nil || !reflect.DeepEqual(d.List, guessed.List) {
				t.Errorf("%q guessed as %s is other documents", data, format)
			}
		}
	})
}

// checkDocuments reads data and returns the documents, or nil.
func checkDocuments(t *testing.T, data []byte, name string, format Format) *Documents {
	t.Helper()
	d, err := ReadDocuments(name, bytes.NewReader(data), format, GuessHeader, Fields{})
	if err != nil {
		if len(err.Error()) > 1000+len(name)*2 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
		return nil
	}
	place := 0
	for _, document := range d.List {
		if document.Place <= place || !utf8.ValidString(document.Text) {
			t.Errorf("%s: document %+v behind place %d", format, document, place)
		}
		place = document.Place
	}
	return d
}

// checkReader reads data and returns the records. It checks that every record is
// one line of output, that errors are short, and that reading continues from the
// middle.
func checkReader(t *testing.T, data []byte, o Options) []Record {
	t.Helper()
	auto := o
	auto.Format = Auto
	if _, _, err := readAll("f", string(data), auto); err != nil && len(err.Error()) > 700 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
	r, all, err := readAll("f", string(data), o)
	if err != nil { // not text
		if len(err.Error()) > 700 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
		return nil
	}
	if at := r.Position().Offset; at != int64(len(data)) {
		t.Fatalf("the end is at %d of %d", at, len(data))
	}
	for i := range all {
		var line []byte
		if all[i].Err == nil {
			line, err = r.Layout().AppendScored(nil, &all[i], Value{Score: 1})
		} else {
			line, err = r.Layout().AppendFailed(nil, &all[i])
		}
		if err != nil || bytes.Count(line, []byte("\n")) != 1 && (o.Format != TREC || all[i].Err == nil) {
			t.Errorf("%q becomes %q, %v", all[i].Text, line, err)
		}
		if all[i].Err != nil && len(all[i].Err.Error()) > 700 {
			t.Errorf("error of %d bytes", len(all[i].Err.Error()))
		}
	}
	checkGoOn(t, data, o, all)
	return all
}

// checkGoOn reads the second half of the records.
func checkGoOn(t *testing.T, data []byte, o Options, all []Record) {
	t.Helper()
	first, err := NewReader("f", bytes.NewReader(data), o)
	if err != nil {
		t.Fatal(err)
	}
	half := len(all) / 2
	for range half {
		if _, err := first.Next(); err != nil {
			t.Fatal(err)
		}
	}
	second, err := NewReader("f", bytes.NewReader(data), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Skip(first.Position(), errors.New("changed")); err != nil {
		t.Fatal(err)
	}
	for _, want := range all[half:] {
		got, err := second.Next()
		if err != nil || show(got) != show(want) || !bytes.Equal(got.Text, want.Text) {
			t.Fatalf("got %s, %v, want %s", show(got), err, show(want))
		}
	}
	if _, err := second.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
