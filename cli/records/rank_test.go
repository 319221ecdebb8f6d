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

func rank(t *testing.T, rows string) string {
	t.Helper()
	dir := t.TempDir()
	var b bytes.Buffer
	if err := Rank(&b, strings.NewReader(rows), dir, "tag"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v left in the directory", left, err)
	}
	return b.String()
}

func TestRank(t *testing.T) {
	for _, test := range []struct{ rows, want string }{
		{"", ""},
		{"q d 0.5\n", "q Q0 d 1 0.5 tag\n"},
		{"q2 a -1\nq1 b 2\nq2 c 1e-7\nq1 d 10\nq2 e -1\nq10 f 3\n",
			"q1 Q0 d 1 10 tag\nq1 Q0 b 2 2 tag\nq10 Q0 f 1 3 tag\nq2 Q0 c 1 1e-7 tag\nq2 Q0 a 2 -1 tag\nq2 Q0 e 3 -1 tag\n"},
	} {
		if got := rank(t, test.rows); got != test.want {
			t.Errorf("got\n%s\nwant\n%s", got, test.want)
		}
	}
}

// TestRankChunks ranks more rows than are sorted at once, many of one score.
func TestRankChunks(t *testing.T) {
	type row struct {
		query, document string
		score           int
	}
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]row, 300_000)
	var text strings.Builder
	for i := range rows {
		rows[i] = row{fmt.Sprint("q", r.IntN(300)), fmt.Sprint("d", i), r.IntN(50)}
		fmt.Fprintf(&text, "%s %s %d\n", rows[i].query, rows[i].document, rows[i].score)
	}
	if text.Len()+100*len(rows) < 3*chunkBytes {
		t.Fatal("the rows fit into too few chunks")
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(strings.Compare(a.query, b.query), b.score-a.score)
	})
	var want strings.Builder
	place := 0
	for i, row := range rows {
		if place++; i > 0 && rows[i-1].query != row.query {
			place = 1
		}
		fmt.Fprintf(&want, "%s Q0 %s %d %d tag\n", row.query, row.document, place, row.score)
	}
	if got := rank(t, text.String()); got != want.String() {
		t.Error("the run is not the rows in order")
	}
}

func TestRankErrors(t *testing.T) {
	dir := t.TempDir()
	full := errors.New("disk full")
	if err := Rank(writerFunc(func([]byte) (int, error) { return 0, full }), strings.NewReader("q d 1\n"), dir, "tag"); !errors.Is(err, full) {
		t.Errorf("write error: %v", err)
	}
	fire := errors.New("disk on fire")
	if err := Rank(&bytes.Buffer{}, iotest.ErrReader(fire), dir, "tag"); !errors.Is(err, fire) {
		t.Errorf("read error: %v", err)
	}
	for _, rows := range []string{"q d\n", "q d x\n"} {
		if err := Rank(&bytes.Buffer{}, strings.NewReader(rows), dir, "tag"); err == nil {
			t.Errorf("%q is no error", rows)
		}
	}
	if err := Rank(&bytes.Buffer{}, strings.NewReader(""), dir+"/none", "tag"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
