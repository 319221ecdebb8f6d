package engine

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func TestPlanKeepsItsLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		lengths := make([]int, r.IntN(60))
		for i := range lengths {
			lengths[i] = 3 + r.IntN(60)
		}
		l := limits{pairs: 1 + r.IntN(10), tokens: 1 + r.IntN(200)}
		batches := plan(lengths, l)
		if again := plan(lengths, l); !reflect.DeepEqual(batches, again) {
			t.Fatalf("two plans of %v: %v and %v", lengths, batches, again)
		}
		var places []int
		for _, b := range batches {
			tokens := 0
			for _, at := range b {
				tokens += lengths[at]
			}
			if len(b) == 0 || len(b) > l.pairs || tokens > l.tokens && len(b) > 1 {
				t.Fatalf("%+v: batch %v has %d tokens", l, b, tokens)
			}
			places = append(places, b...)
		}
		slices.Sort(places)
		for i, at := range places {
			if at != i {
				t.Fatalf("pair %d is missing or there twice: %v", i, batches)
			}
		}
		if len(places) != len(lengths) {
			t.Fatalf("%d of %d pairs planned", len(places), len(lengths))
		}
	}
}

func TestPlanPutsLikeLengthsTogether(t *testing.T) {
	got := plan([]int{5, 50, 6, 49}, limits{pairs: 2, tokens: 1000})
	if want := [][]int{{1, 3}, {2, 0}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
