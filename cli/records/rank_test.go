package records

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func rank(t *testing.T, rows string) (string, Duplicates) {
	t.Helper()
	dir := t.TempDir()
	var b bytes.Buffer
	duplicates, err := Rank(&b, strings.NewReader(rows), dir, "tag")
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v left in the directory", left, err)
	}
	return b.String(), duplicates
}

func TestRank(t *testing.T) {
	for _, test := range []struct {
		name, rows, want string
		left             []string
	}{
		{"nothing", "", "", nil},
		{"one", "q d 0.5 1\n", "q Q0 d 1 0.5 tag\n", nil},
		{"queries as they come, documents by logit, ties by descending id",
			"q2 a -1 1\nq1 b 2 2\nq2 c 1e-7 3\nq1 d 10 4\nq2 e -1 5\nq10 f 3 6\n",
			"q2 Q0 c 1 1e-7 tag\nq2 Q0 e 2 -1 tag\nq2 Q0 a 3 -1 tag\nq1 Q0 d 1 10 tag\nq1 Q0 b 2 2 tag\nq10 Q0 f 1 3 tag\n", nil},
		{"logits whose sigmoids are all 1", "q a 17.5 1\nq b 18.25 2\nq c 40 3\n", "q Q0 c 1 40 tag\nq Q0 b 2 18.25 tag\nq Q0 a 3 17.5 tag\n", nil},
		{"duplicates", "q a 1 1\nq b 2 2\np a 1 3\nq a 1 4\nq a 3 9\n", "q Q0 a 1 3 tag\nq Q0 b 2 2 tag\np Q0 a 1 1 tag\n",
			[]string{"query q, document a: line 1 left out for line 9", "query q, document a: line 4 left out for line 9"}},
	} {
		got, duplicates := rank(t, test.rows)
		if got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.want)
		}
		if duplicates.Count != len(test.left) || !slices.Equal(duplicates.Examples, test.left) {
			t.Errorf("%s: duplicates %+v, want %q", test.name, duplicates, test.left)
		}
	}
}

// TestRankChunks ranks more rows than are sorted at once, many of one logit, and
// some of the same ids.
func TestRankChunks(t *testing.T) {
	type row struct {
		query, document string
		logit, line     int
	}
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]row, 300_000)
	turns := make(map[string]int)
	var text strings.Builder
	for i := range rows {
		rows[i] = row{fmt.Sprint("q", r.IntN(300)), fmt.Sprint("d", r.IntN(len(rows))), r.IntN(50), i + 1}
		if _, ok := turns[rows[i].query]; !ok {
			turns[rows[i].query] = len(turns)
		}
		fmt.Fprintf(&text, "%s %s %d %d\n", rows[i].query, rows[i].document, rows[i].logit, rows[i].line)
	}
	if text.Len()+100*len(rows) < 3*chunkBytes {
		t.Fatal("the rows fit into too few chunks")
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(turns[a.query]-turns[b.query], b.logit-a.logit, strings.Compare(b.document, a.document), a.line-b.line)
	})
	var want strings.Builder
	seen := make(map[string]bool)
	place, left := 0, 0
	for i, row := range rows {
		if i > 0 && rows[i-1].query != row.query {
			place = 0
			clear(seen)
		}
		if seen[row.document] {
			left++
			continue
		}
		seen[row.document] = true
		place++
		fmt.Fprintf(&want, "%s Q0 %s %d %d tag\n", row.query, row.document, place, row.logit)
	}
	got, duplicates := rank(t, text.String())
	if got != want.String() {
		t.Error("the run is not the rows in order")
	}
	if duplicates.Count != left || left == 0 || len(duplicates.Examples) != 5 {
		t.Errorf("%d left out, want %d: %q", duplicates.Count, left, duplicates.Examples)
	}
}

func TestRankErrors(t *testing.T) {
	dir := t.TempDir()
	full := errors.New("disk full")
	if _, err := Rank(writerFunc(func([]byte) (int, error) { return 0, full }), strings.NewReader("q d 1 1\n"), dir, "tag"); !errors.Is(err, full) {
		t.Errorf("write error: %v", err)
	}
	fire := errors.New("disk on fire")
	if _, err := Rank(&bytes.Buffer{}, iotest.ErrReader(fire), dir, "tag"); !errors.Is(err, fire) {
		t.Errorf("read error: %v", err)
	}
	for _, rows := range []string{"q d 1\n", "q d x 1\n", "q d 1 x\n"} {
		if _, err := Rank(&bytes.Buffer{}, strings.NewReader(rows), dir, "tag"); err == nil {
			t.Errorf("%q is no error", rows)
		}
	}
	if _, err := Rank(&bytes.Buffer{}, strings.NewReader(""), dir+"/none", "tag"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
