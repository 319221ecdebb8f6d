package engine

import (
	"math/rand/v2"
	"testing"
)

func TestTruncate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ n, m, room, wantN, wantM int }{
		{0, 0, 0, 0, 0},
		{3, 4, 10, 3, 4},
		{5, 5, 10, 5, 5},
		{5, 6, 10, 5, 5},
		{2, 100, 10, 2, 8},
		{100, 2, 10, 8, 2},
		{100, 100, 10, 5, 5},
		{100, 100, 9, 4, 5}, // equal lengths: the second gets the odd token
		{100, 99, 9, 5, 4},  // otherwise the longer one
		{99, 100, 9, 4, 5},
		{7, 6, 9, 5, 4},
		{1, 1, 1, 0, 1},
		{2, 1, 1, 1, 0},
		{4, 0, 0, 0, 0},
	} {
		if n, m := truncate(test.n, test.m, test.room); n != test.wantN || m != test.wantM {
			t.Errorf("truncate(%d, %d, %d) = %d, %d, want %d, %d", test.n, test.m, test.room, n, m, test.wantN, test.wantM)
		}
	}
}

// truncateSlowly removes one token at a time from the longer text. If both are
// equally long, it removes from the one that was longer at first.
func truncateSlowly(n, m, room int) (int, int) {
	secondLonger := m >= n
	for n+m > room {
		if n > m || n == m && secondLonger {
			n--
		} else {
			m--
		}
	}
	return n, m
}

func TestTruncateIsLongestFirst(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		n, m, room := r.IntN(40), r.IntN(40), r.IntN(40)
		gotN, gotM := truncate(n, m, room)
		wantN, wantM := truncateSlowly(n, m, room)
		if gotN != wantN || gotM != wantM {
			t.Fatalf("truncate(%d, %d, %d) = %d, %d, slowly %d, %d", n, m, room, gotN, gotM, wantN, wantM)
		}
	}
}
