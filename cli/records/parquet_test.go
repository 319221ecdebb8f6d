package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// A parquetPair is a row of the tests' files.
type parquetPair struct {
	ID        uint64    `parquet:"query_id"`
	Query     string    `parquet:"query,dict,zstd"`
	Title     *string   `parquet:"title,optional"`
	Text      string    `parquet:"text,snappy"`
	Year      int32     `parquet:"year"`
	Weight    float64   `parquet:"weight"`
	Good      bool      `parquet:"good"`
	Tags      []string  `parquet:"tags,list"`
	Embedding []float32 `parquet:"embedding,list"`
	Meta      struct {
		URL string `parquet:"url"`
	} `parquet:"meta"`
}

// parquetFile writes rows in groups of two.
func parquetFile[T any](t testing.TB, rows []T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, parquet.MaxRowsPerRowGroup(2), parquet.KeyValueMetadata("ARROW:schema", "x"))
	_, err := w.Write(rows)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parquetPairs(n int) []parquetPair {
	rows, title := make([]parquetPair, n), "T"
	for i := range rows {
		rows[i] = parquetPair{ID: 18446744073709551615 - uint64(i), Query: "q", Text: fmt.Sprintf("text \"%d\"", i), Year: -int32(i), Weight: .5, Good: i%2 == 0, Tags: []string{"a", "b"}[:i%3], Embedding: []float32{1, 2}}
		rows[i].Meta.URL = "u"
		if i > 0 {
			rows[i].Title = &title
		}
	}
	return rows
}

func readParquet(t testing.TB, data []byte, o Options) (*Reader, []Record, error) {
	t.Helper()
	r, err := NewParquetReader("f.parquet", bytes.NewReader(data), int64(len(data)), o)
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

func TestReadParquet(t *testing.T) {
	data := parquetFile(t, parquetPairs(5))
	fields := Fields{Document: mustTemplate(t, "{text}|{year}|{weight}|{good}|{tags}|{meta.url}|{title}"), DocumentID: "year"}
	_, all, err := readParquet(t, data, Options{Fields: fields, IDs: true})
	if err != nil || len(all) != 5 {
		t.Fatalf("got %d records, %v", len(all), err)
	}
	for i, want := range []string{`text "0"|0|0.5|true||u|`, `text "1"|-1|0.5|false|a|u|T`, `text "2"|-2|0.5|true|a, b|u|T`} {
		if r := all[i]; r.Err != nil || r.Document != want || r.Line != i+1 || r.QueryID != fmt.Sprint(18446744073709551615-uint64(i)) || r.DocumentID != fmt.Sprint(-i) {
			t.Errorf("row %d: got %+v", i+1, r)
		}
	}
	_, all, err = readParquet(t, data, Options{})
	if err != nil || all[0].Document != `text "0"` || all[1].Document != `T text "1"` || bytes.Contains(all[0].Text, []byte("embedding")) {
		t.Errorf("got %+v, %v", all, err)
	}
	d, err := ReadParquetDocuments("f", bytes.NewReader(data), int64(len(data)), Fields{DocumentID: "query_id"})
	if err != nil || len(d.List) != 5 || d.List[4].ID != "18446744073709551611" || d.List[4].Place != 5 || string(d.List[4].Fields["embedding"]) != "[1,2]" {
		t.Errorf("got %+v, %v", d, err)
	}
}

// TestParquetResume reads a file from each of its rows.
func TestParquetResume(t *testing.T) {
	data := parquetFile(t, parquetPairs(7))
	for n := range 8 {
		first, err := NewParquetReader("f", bytes.NewReader(data), int64(len(data)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			if _, err := first.Next(); err != nil {
				t.Fatal(err)
			}
		}
		second, err := NewParquetReader("f", bytes.NewReader(data), int64(len(data)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Skip(first.Position(), errors.New("changed")); err != nil {
			t.Fatal(err)
		}
		record, err := second.Next()
		if n < 7 && (err != nil || record.Line != n+1) || n == 7 && !errors.Is(err, io.EOF) {
			t.Errorf("after %d: %+v, %v", n, record, err)
		}
		other := parquetFile(t, parquetPairs(6))
		third, err := NewParquetReader("f", bytes.NewReader(other), int64(len(other)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := third.Skip(first.Position(), errTooLong); !errors.Is(err, errTooLong) {
			t.Errorf("another file is resumed: %v", err)
		}
	}
}

func TestParquetErrors(t *testing.T) {
	data := parquetFile(t, parquetPairs(5))
	scored := parquetFile(t, []struct {
		Query    string  `parquet:"query"`
		Document string  `parquet:"document"`
		Score    float32 `parquet:"score"`
	}{{"q", "d", 1}})
	badText := parquetFile(t, []struct {
		Query    string `parquet:"query"`
		Document string `parquet:"document"`
	}{{"q", "caf\xe9"}, {"q", "d"}})
	for _, test := range []struct {
		data []byte
		o    Options
		want string
	}{
		{nil, Options{}, "f.parquet: not a readable Parquet file"},
		{[]byte("PAR1"), Options{}, "it may be truncated"},
		{data[:len(data)-9], Options{}, "f.parquet: not a readable Parquet file"},
		{data[:len(data)/2], Options{}, "it may be truncated"},
		{data, Options{Fields: Fields{Query: mustTemplate(t, "question")}}, `f.parquet: no column "question" of text or numbers; the file has`},
		{data, Options{Header: SkipHeader}, "f.parquet is parquet: only files of columns have a header row"},
		{scored, Options{}, `field "score" exists already`},
		{badText, Options{}, "not UTF-8 (byte 0xE9"},
	} {
		_, all, err := readParquet(t, test.data, test.o)
		for _, r := range all {
			err = errors.Join(err, r.Err)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

func TestWriteParquet(t *testing.T) {
	data := parquetFile(t, parquetPairs(5))
	var out bytes.Buffer
	scores := "0.5\nnull\n-1e-9\n1\n16777217\n"
	if err := WriteParquet(&out, "f", bytes.NewReader(data), int64(len(data)), strings.NewReader(scores)); err != nil {
		t.Fatal(err)
	}
	want := parquetRowsOf(t, data)
	for round, scores := range [][]string{{"0.5", "<null>", "-1e-09", "1", "1.6777216e+07"}, {"7", "7", "7", "7", "7"}} { // the second replaces the first
		rows := parquetRowsOf(t, out.Bytes())
		for i, row := range rows {
			last := row[len(row)-1]
			if i >= len(want) || !row[:len(row)-1].Equal(want[i]) || last.Column() != 10 || last.String() != scores[i] {
				t.Errorf("round %d: row %d: got %+v, want %+v and %s", round, i, row, want[i], scores[i])
			}
		}
		file, err := parquet.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		columns := file.Schema().Columns()
		if len(rows) != 5 || columns[0][0] != "query_id" || columns[10][0] != "score" || len(file.RowGroups()) != 3 || len(file.Metadata().KeyValueMetadata) > 0 {
			t.Errorf("%d rows, columns %v, %d groups", len(rows), columns, len(file.RowGroups()))
		}
		for i, codec := range []string{"ZSTD", "UNCOMPRESSED", "SNAPPY"} {
			if got := file.Metadata().RowGroups[0].Columns[i+1].MetaData.Codec.String(); got != codec {
				t.Errorf("column %d is compressed with %s, want %s", i+1, got, codec)
			}
		}
		again := bytes.Clone(out.Bytes())
		out.Reset()
		if err := WriteParquet(&out, "f", bytes.NewReader(again), int64(len(again)), strings.NewReader("7\n7\n7\n7\n7\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, scores := range []string{"1\n", "1\n1\n1\n1\n1\n1\n"} {
		if err := WriteParquet(io.Discard, "f", bytes.NewReader(data), int64(len(data)), strings.NewReader(scores)); err == nil {
			t.Errorf("scores %q are no error", scores)
		}
	}
}

// parquetRowsOf reads the rows of a file.
func parquetRowsOf(t *testing.T, data []byte) []parquet.Row {
	t.Helper()
	file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var all []parquet.Row
	for _, group := range file.RowGroups() {
		rows := group.Rows()
		buffer := make([]parquet.Row, 8)
		n, err := rows.ReadRows(buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for _, row := range buffer[:n] {
			all = append(all, row.Clone())
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestParquetCandidates(t *testing.T) {
	data := parquetFile(t, []struct {
		Query    string   `parquet:"query"`
		Positive []string `parquet:"positive,list"`
		Negative []string `parquet:"negative,list"`
	}{{"q", []string{"a"}, []string{"b", "c"}}, {"r", []string{"d"}, nil}})
	r, err := NewParquetReader("f", bytes.NewReader(data), int64(len(data)), Options{Score: IgnoreScore})
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Candidates()
	if err != nil || c.Order != Unordered || len(c.Run["1"]) != 3 || fmt.Sprint(c.Qrels) != fmt.Sprint(measures.Qrels{"1": {"1.1": 1, "1.n1": 0, "1.n2": 0}, "2": {"2.1": 1}}) {
		t.Errorf("got %+v, %v", c, err)
	}
}

// FuzzParquet checks that any bytes make records and a file with scores, or errors.
func FuzzParquet(f *testing.F) {
	f.Add(parquetFile(f, parquetPairs(5)))
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, all, err := readParquet(t, data, Options{})
		if err != nil {
			return
		}
		var scores []byte
		for i := range all {
			if scores, err = r.Layout().AppendScored(scores, &all[i], Value{Score: 1}); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := WriteParquet(&out, "f", bytes.NewReader(data), int64(len(data)), bytes.NewReader(scores)); err != nil {
			return
		}
		if _, again, err := readParquet(t, out.Bytes(), Options{Score: IgnoreScore}); err != nil || len(again) != len(all) {
			t.Errorf("%d rows become %d: %v", len(all), len(again), err)
		}
	})
}
