package telemetry

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHistogramIsExactWhileSmall(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(17, 18))
	for _, n := range []int{1, 2, 3, 100, keptSamples, keptSamples + 1, 5 * keptSamples} {
		var h Histogram
		values := make([]float64, n)
		for i := range values {
			values[i] = math.Exp(6*r.Float64() - 3)
			if i%50 == 0 {
				values[i] = 0
			}
			h.Add(values[i])
		}
		slices.Sort(values)
		for _, p := range []float64{0, 1, 12.5, 50, 95, 99, 99.9, 100} {
			rank := p / 100 * float64(n-1)
			low := int(rank)
			want := values[low] + (rank-float64(low))*(values[min(low+1, n-1)]-values[low])
			tolerance := 1e-12
			if n > keptSamples {
				tolerance = 0.012
			}
			if got := h.Percentile(p); math.Abs(got-want) > tolerance*(want+1e-9)+1e-12 {
				t.Errorf("%d values: percentile %v is %v, want %v", n, p, got, want)
			}
		}
		if sum := h.Mean() * float64(n); math.Abs(sum-h.Sum) > 1e-9*h.Sum || h.Count != int64(n) || h.Min != values[0] || h.Max != values[n-1] {
			t.Errorf("%+v of %d values", h, n)
		}
	}
	var none Histogram
	if none.Percentile(50) != 0 || none.Mean() != 0 {
		t.Error("an empty histogram has a mean")
	}
}

func TestHistogramAtMost(t *testing.T) {
	t.Parallel()
	var h Histogram
	var last int64
	for i := range 3 * keptSamples { // crosses the change from samples to buckets
		h.Add(float64(i % 100))
		if i%1000 == 999 {
			n := h.AtMost(49.5)
			if half := int64(i+1) / 2; n < last || n < half-60 || n > half+60 {
				t.Errorf("%d of %d are at most 49.5, %d before", n, i+1, last)
			}
			last = n
		}
	}
	if n := h.AtMost(1e9); n != h.Count {
		t.Errorf("%d of %d are at most 1e9", n, h.Count)
	}
	if n := h.AtMost(-1); n > h.Count/50 {
		t.Errorf("%d are at most -1", n)
	}
}

// Since returns the values added between two snapshots, whether the snapshots
// hold exact values or bucket counts.
func TestHistogramSince(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, sizes := range [][2]int{{0, 0}, {0, 5}, {100, 0}, {100, 50}, {keptSamples - 10, 30}, {keptSamples, 1}, {keptSamples + 5, 500}, {0, 2 * keptSamples}} {
		var h Histogram
		for range sizes[0] {
			h.Add(math.Exp(r.NormFloat64() * 3))
		}
		before := h.clone()
		want := make(map[int]int64)
		for range sizes[1] {
			v := math.Exp(r.NormFloat64() * 3)
			h.Add(v)
			want[bucket(v)]++
		}
		last := -1
		for _, b := range h.Since(&before) {
			if b.Index <= last || b.Count != want[b.Index] || bucket(b.Value) != b.Index {
				t.Fatalf("%v: %+v, want %d values", sizes, b, want[b.Index])
			}
			last = b.Index
			delete(want, b.Index)
		}
		if len(want) > 0 {
			t.Errorf("%v: %d buckets are missing", sizes, len(want))
		}
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
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

// A sum of snapshots has the figures of both, and its rows are right while both grow, also
// where the sum replaces a snapshot of one engine.
func TestSnapshotAdd(t *testing.T) {
	var a, b Snapshot
	add := func(s *Snapshot, values ...float64) {
		for _, v := range values {
			s.Requests++
			s.Pairs += 2
			s.Latency.Add(v)
		}
		s.PairsByTokens = append(s.PairsByTokens, int64(len(values)))
		s.Workers = append(s.Workers, Worker{Pairs: int64(len(values))})
	}
	sum := func() Snapshot {
		s := a.Clone()
		s.Add(&b)
		return s
	}
	add(&a, 1, 2, 3)
	single := a.Clone()
	add(&b, 10, 20)
	first := sum()
	add(&a, 4)
	add(&b, 30)
	second := sum()
	if first.Requests != 5 || first.Pairs != 10 || first.Latency.Count != 5 || first.Latency.Sum != 36 || first.Latency.Min != 1 || first.Latency.Max != 20 {
		t.Errorf("%+v", first)
	}
	if p := first.PairsByTokens; len(p) != 1 || p[0] != 5 || first.Workers[0].Pairs != 5 {
		t.Errorf("%v, %+v", p, first.Workers)
	}
	for _, test := range []struct {
		before, after *Snapshot
		want          []float64
	}{{&single, &first, []float64{10, 20}}, {&first, &second, []float64{4, 30}}} {
		got := test.after.Latency.Since(&test.before.Latency)
		if len(got) != len(test.want) {
			t.Fatalf("%+v, want %v", got, test.want)
		}
		for i, want := range test.want {
			if got[i].Count != 1 || math.Abs(got[i].Value/want-1) > 0.01 {
				t.Errorf("value %d: %+v, want %v", i, got[i], want)
			}
		}
	}
	if a.Latency.Count != 4 || a.Requests != 4 {
		t.Errorf("a part of the sum has changed: %+v", a)
	}
	var empty Snapshot
	empty.Add(&a)
	if empty.Latency.Min != 1 || empty.Latency.Max != 4 {
		t.Errorf("the sum with nothing: %+v", empty.Latency)
	}
}
