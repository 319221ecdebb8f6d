package telemetry

import (
	"math"
	"testing"
)

func TestWindow(t *testing.T) {
	equal := func(what string, got *float64, want float64) {
		t.Helper()
		if got == nil || math.Abs(*got-want) > 1e-3 {
			t.Errorf("%s is %v, want %v", what, Value(got), want)
		}
	}
	var w Window
	if w.Percentile(50) != nil {
		t.Error("an empty window has a percentile")
	}
	early := []Bucket{{Index: 3, Value: 1, Count: 2}, {Index: 9, Value: 5, Count: 2}}
	w.Add(early)
	equal("P50", w.Percentile(50), 3)
	equal("P95", w.Percentile(95), 5)
	w.Add([]Bucket{{Index: 5, Value: 2, Count: 3}})
	w.Remove(early)
	equal("P95 without the early values", w.Percentile(95), 2)
	if w.Count != 3 {
		t.Errorf("%d values", w.Count)
	}
}
