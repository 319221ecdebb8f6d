package engine

import "math"

// A Bucket is values of a Histogram that are within 1 % of one another.
type Bucket struct {
	Index int     // ascending with the values, the same in all histograms
	Value float64 // the middle
	Count int64
}

// Since gives what was added to the histogram after before, an earlier snapshot
// of it, in ascending order.
func (h *Histogram) Since(before *Histogram) []Bucket {
	if h.Count == before.Count {
		return nil
	}
	counts := make([]int64, buckets)
	if h.counts == nil {
		for _, v := range h.samples[len(before.samples):] {
			counts[bucket(v)]++
		}
	} else {
		copy(counts, h.counts)
		for i, n := range before.counts {
			counts[i] -= n
		}
		for _, v := range before.samples {
			counts[bucket(v)]--
		}
	}
	var out []Bucket
	for i, n := range counts {
		if n > 0 {
			out = append(out, Bucket{Index: i, Value: middle(i), Count: n})
		}
	}
	return out
}

// middle is the value that stands for a bucket's.
func middle(bucket int) float64 {
	if bucket == 0 {
		return 0
	}
	return smallest * math.Pow(growth, float64(bucket)-0.5)
}
