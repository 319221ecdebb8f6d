package input

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// readRecords reads the records of a text, or of a range of it. An error ends the list.
func readRecords(t *testing.T, text []byte, o records.Options, within *Range) []string {
	t.Helper()
	reader, err := records.NewReader("in", bytes.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	if within != nil {
		if err := within.Enter(reader, within.Start, ErrChanged); err != nil {
			return []string{err.Error()}
		}
	}
	var list []string
	for {
		r, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return append(list, err.Error())
		}
		list = append(list, fmt.Sprintf("%d %q %v %t %q %q", r.Line, r.Text, r.Err, r.Header, r.Query, r.Document))
	}
	if within != nil && !reflect.DeepEqual(reader.Position(), within.End) {
		t.Errorf("the range ends at %+v, want %+v", reader.Position(), within.End)
	}
	return list
}

// checkRanges checks that the parts of a text adjoin, from its beginning to its end, and
// that they have the records of the text.
func checkRanges(t *testing.T, text []byte, o records.Options, parts int, chunked bool) {
	t.Helper()
	want := readRecords(t, text, o, nil)
	var got []string
	var before Range
	for n := 1; n <= parts; n++ {
		reader, err := records.NewReader("in", bytes.NewReader(text), o)
		if err != nil {
			t.Fatal(err)
		}
		f := finder{reader: reader, step: reader.Pass, progress: func(int64) {}}
		if chunked {
			chunks := NewChunks(reader)
			chunks.limit = 50
			f.step = chunks.pass
		}
		part := Part{n, parts}
		r, err := f.find(part, int64(len(text)))
		if err != nil {
			return // the text cannot be read at all
		}
		if border := part.border(n-1, int64(len(text))); r.Start.Offset < border || n == 1 && r.Start.Offset != 0 {
			t.Errorf("part %s begins at %d, before %d", part, r.Start.Offset, border)
		}
		if n > 1 && !reflect.DeepEqual(r.Start, before.End) {
			t.Errorf("part %s begins at %+v, and the part before ends at %+v", part, r.Start, before.End)
		}
		if r.Whole.Offset != int64(len(text)) || n == parts && !reflect.DeepEqual(r.End, r.Whole) {
			t.Errorf("part %s ends at %+v, the text of %d bytes at %+v", part, r.End, len(text), r.Whole)
		}
		got, before = append(got, readRecords(t, text, o, &r)...), r
	}
	got = slices.Compact(got) // each part reports a text that cannot be read
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%d parts of %.300q have the records\n%.500q\nwant\n%.500q", parts, text, got, want)
	}
}

// FuzzRange checks that parts partition any bytes.
func FuzzRange(f *testing.F) {
	for _, text := range []string{
		"", "\n", "a\tb", "a\tb\r\n\r\n\nc\td\n", "\n\n\n\n\nquery\tdocument\na\tb\n", "query,document\na,\"b\nc\"\n\"d\",e\n\n",
		"query,document\n\"\n\n\n\n\n\",b\na,b\n", "\ufeffquery,document\na,b\n", `{"query":"a","document":"b"}` + "\n", "a\tb\rc",
	} {
		for _, parts := range []byte{1, 3, 16} {
			f.Add([]byte(text), parts)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, parts byte) { checkFormats(t, text, int(parts)%40+1) })
}

// headers lists beginnings of texts.
var headers = []string{"", "", "query,document\n", "query\tdocument\n", "\n\n\r\n\n", "\n\nquery\tdocument\n", "a\tb\n"}

// checkFormats checks the parts of a text in each format that it may have.
func checkFormats(t *testing.T, text []byte, parts int) {
	t.Helper()
	for _, o := range []records.Options{
		{Format: records.JSONL}, {Format: records.TSV, Header: records.SkipHeader}, {Format: records.CSV}, {Format: records.MSMARCO, IDs: true},
	} {
		if _, err := records.NewReader("in", bytes.NewReader(text), o); err != nil {
			continue
		}
		for _, chunked := range []bool{false, true} {
			checkRanges(t, text, o, parts, chunked)
		}
	}
}

// TestRangeOfChunks checks that parts of an engine whose scores depend on the batch
// consist of whole chunks.
func TestRangeOfChunks(t *testing.T) {
	var text bytes.Buffer
	for i := range 3*ChunkRecords + 7 {
		fmt.Fprintf(&text, "query\tdocument %d\n", i)
	}
	o := records.Options{Format: records.TSV}
	for n := 1; n <= 5; n++ {
		reader, err := records.NewReader("in", bytes.NewReader(text.Bytes()), o)
		if err != nil {
			t.Fatal(err)
		}
		chunks := NewChunks(reader)
		chunks.WorkFor(engine.Info{Kernels: "MLX", MaxLength: 512}, "")
		r, err := finder{reader, chunks.pass, func(int64) {}}.find(Part{n, 5}, int64(text.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if n < 5 && r.End.Line%ChunkRecords != 0 && !reflect.DeepEqual(r.End, r.Whole) {
			t.Errorf("part %d ends after line %d", n, r.End.Line)
		}
	}
}

func TestParsePart(t *testing.T) {
	if p, err := ParsePart("3/16"); err != nil || p != (Part{3, 16}) || p.String() != "3/16" {
		t.Errorf("got %v, %v", p, err)
	}
	for _, text := range []string{"", "3", "3/", "/3", "0/3", "4/3", "-1/3", "1/0", "1/2/3", "a/b", "1/1000001", " 1/2"} {
		if _, err := ParsePart(text); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

// TestRangeOfRandomText checks the property of FuzzRange on texts of the bytes that
// matter.
func TestRangeOfRandomText(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"\n", "\n", "\r\n", "\t", ",", `"`, "a", " ", "\ufeff", "\xff", "query", `{"query":"a","document":"b"}` + "\n"}
	for range 300 {
		text := []byte(headers[random.IntN(len(headers))])
		for range random.IntN(40) {
			text = append(text, pieces[random.IntN(len(pieces))]...)
		}
		checkFormats(t, text, 1+random.IntN(20))
	}
}
