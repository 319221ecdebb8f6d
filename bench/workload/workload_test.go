package workload

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

func TestBuiltin(t *testing.T) {
	w, err := Open(Builtin, 0)
	if err != nil {
		t.Fatal(err)
	}
	queries := map[string]int{}
	for _, p := range w.Pairs {
		queries[p.Query]++
		if p.Document == "" {
			t.Error("an empty document")
		}
	}
	if len(w.Pairs) != 3200 || len(queries) != 32 {
		t.Errorf("%d pairs of %d queries", len(w.Pairs), len(queries))
	}
	for query, n := range queries {
		if n != 100 {
			t.Errorf("%q has %d candidates", query, n)
		}
	}
	half, err := Open(Builtin, 1600)
	if err != nil || len(half.Pairs) != 1600 || half.SHA256 == w.SHA256 {
		t.Errorf("%d pairs, %v", len(half.Pairs), err)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	data := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFiles(t *testing.T) {
	want := []engine.Pair{
		{Query: "what is first", Document: "first passage"},
		{Query: "what is first", Document: "second, ünïcode passage"},
		{Query: "what is third", Document: "third passage"},
	}
	tsv := "1\t10\twhat is first\tfirst passage\r\n1\t11\twhat is first\tsecond, ünïcode passage\n\n3\t12\twhat is third\tthird passage\n"
	jsonl := `{"query": "what is first", "document": "first passage", "id": 1}
{"query": "what is first", "document": "second, ünïcode passage"}
{"query": "what is third", "document": "third passage"}`
	hash := ""
	for _, path := range []string{
		write(t, "top1000.dev.tsv", tsv), write(t, "top1000.dev.tsv.gz", tsv),
		write(t, "pairs.JSONL", jsonl), write(t, "pairs.jsonl.gz", jsonl),
		"testdata/marco.parquet", "testdata/marco-item.parquet",
	} {
		w, err := Open(path, 0)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(w.Pairs) != len(want) || w.Pairs[0] != want[0] || w.Pairs[1] != want[1] || w.Pairs[2] != want[2] {
			t.Errorf("%s: %q", path, w.Pairs)
		}
		if hash == "" {
			hash = w.SHA256
		}
		if w.Name != filepath.Base(path) || w.SHA256 != hash {
			t.Errorf("%s: name %s, hash %s", path, w.Name, w.SHA256)
		}
		if some, err := Open(path, 2); err != nil || len(some.Pairs) != 2 {
			t.Errorf("%s: %d pairs of 2, %v", path, len(some.Pairs), err)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	for _, test := range []struct{ path, want string }{
		{"testdata/none.tsv", "no such file"},
		{t.TempDir(), "not a regular file"},
		{"testdata/README.md", "unknown extension"},
		{write(t, "a.parquet.gz", "x"), "unknown extension"},
		{write(t, "a.tsv", ""), "has no pairs"},
		{write(t, "a.tsv", "1\t2\tq\tp\n1\t2\tq\n"), "line 2: found 3 fields, expected 4"},
		{write(t, "a.tsv", "1\t2\t\tp\n"), "line 1: the query or the passage is empty"},
		{write(t, "a.tsv.gz", "1\t2\tq\tp\tx\n"), "line 1: found 5 fields"},
		{write(t, "a.tsv", "1\t2\tq\tp\n"+strings.Repeat("x", maxLine+1)), "after line 1"},
		{write(t, "a.jsonl", `{"query": "q", "document": "d"}`+"\n{"), "line 2"},
		{write(t, "a.jsonl", `{"query": "q"}`), `line 1: expected an object with the strings "query" and "document"`},
		{write(t, "a.jsonl", `{"query": 1, "document": "d"}`), "line 1"},
		{"testdata/other.parquet", "no column [passages passage_text]"},
		{write(t, "a.parquet", "PAR1 and nothing else PAR1"), "dataset"},
		{write(t, "a.parquet", ""), "dataset"},
	} {
		w, err := Open(test.path, 0)
		if err == nil {
			t.Errorf("%s: %d pairs, want an error with %q", test.path, len(w.Pairs), test.want)
		} else if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
			t.Errorf("%s: %v, want %q", test.path, err, test.want)
		}
	}
	zipped := write(t, "a.tsv.gz", "1\t2\tq\tp\n")
	data, err := os.ReadFile(zipped)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range [][]byte{data[:len(data)-6], []byte("no gzip")} {
		if err := os.WriteFile(zipped, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(zipped, 0); err == nil {
			t.Error("a broken .gz is read")
		}
	}
}

// A changed byte in a parquet file gives an error or other texts, never a crash.
func TestDamagedParquet(t *testing.T) {
	data, err := os.ReadFile("testdata/marco.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 5 {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0xff
		if pairs, err := readParquet(bytes.NewReader(damaged), int64(len(damaged)), 10); err == nil && len(pairs) > 10 {
			t.Errorf("byte %d: %d pairs", at, len(pairs))
		}
	}
}

func TestAt(t *testing.T) {
	w := &Workload{Pairs: make([]engine.Pair, 5)}
	for i := range w.Pairs {
		w.Pairs[i].Query = string(rune('a' + i))
	}
	for _, test := range []struct {
		i, n int
		want string
	}{{0, 2, "ab"}, {1, 2, "cd"}, {2, 2, "ea"}, {3, 2, "bc"}, {0, 5, "abcde"}, {7, 5, "abcde"}, {1, 3, "dea"}} {
		got := ""
		for _, p := range w.At(test.i, test.n) {
			got += p.Query
		}
		if got != test.want {
			t.Errorf("request %d of %d pairs: %s, want %s", test.i, test.n, got, test.want)
		}
	}
}
