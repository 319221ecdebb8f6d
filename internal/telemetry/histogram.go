package telemetry

import (
	"math"
	"slices"
)

const (
	keptSamples = 4096 // values that a histogram keeps exactly
	smallest    = 1e-4 // lower edge of a histogram's second bucket
	growth      = 1.01 // ratio of the edges of a bucket
	buckets     = 2600 // the last ends above 1e7
)

// A Histogram is the distribution of a figure. Percentiles of up to 4096 values
// are exact; percentiles of more are within 1 %.
type Histogram struct {
	Count         int64
	Sum, Min, Max float64

	samples []float64 // all values, nil once counts is in use
	counts  []int64   // values by bucket
}

// A Bucket counts values of a Histogram that are within 1 % of one another.
type Bucket struct {
	Index int     // ascending with the values, the same in all histograms
	Value float64 // the middle
	Count int64
}

// Add counts a value.
func (h *Histogram) Add(v float64) {
	if h.Count == 0 {
		h.Min, h.Max = v, v
	}
	h.Count++
	h.Sum += v
	h.Min, h.Max = min(h.Min, v), max(h.Max, v)
	if h.counts == nil && len(h.samples) < keptSamples {
		h.samples = append(h.samples, v)
		return
	}
	if h.counts == nil {
		h.counts = make([]int64, buckets)
		for _, sample := range h.samples {
			h.counts[bucket(sample)]++
		}
		h.samples = nil
	}
	h.counts[bucket(v)]++
}

func bucket(v float64) int {
	if !(v > smallest) {
		return 0
	}
	return min(buckets-1, 1+int(math.Log(v/smallest)/math.Log(growth)))
}

// middle returns the value that stands for all values of a bucket.
func middle(bucket int) float64 {
	if bucket == 0 {
		return 0
	}
	return smallest * math.Pow(growth, float64(bucket)-0.5)
}

// AtMost counts the values up to v, within 1 % of v. The count never falls when
// v or the histogram grows.
func (h *Histogram) AtMost(v float64) int64 {
	last, n := bucket(v), int64(0)
	for _, sample := range h.samples {
		if bucket(sample) <= last {
			n++
		}
	}
	for i := range h.counts[:min(last+1, len(h.counts))] {
		n += h.counts[i]
	}
	return n
}

// Mean returns the mean, 0 if there are no values.
func (h *Histogram) Mean() float64 {
	if h.Count == 0 {
		return 0
	}
	return h.Sum / float64(h.Count)
}

// Percentile returns the p-th percentile (0 to 100) by linear interpolation
// between two values, 0 if there are no values.
func (h *Histogram) Percentile(p float64) float64 {
	switch {
	case h.Count == 0:
		return 0
	case h.counts == nil:
		return percentile(slices.Sorted(slices.Values(h.samples)), p)
	}
	return interpolate(p, h.Count, h.ranked)
}

// ranked returns the value with that many values below it, as exactly as its
// bucket allows.
func (h *Histogram) ranked(rank int64) float64 {
	switch rank {
	case 0:
		return h.Min
	case h.Count - 1:
		return h.Max
	}
	for i, n := range h.counts {
		if rank < n {
			return min(max(middle(i), h.Min), h.Max)
		}
		rank -= n
	}
	return h.Max
}

// Since lists what was added after before, an earlier copy of the histogram, in
// ascending order.
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

// merge adds the values of another histogram. It counts all values by buckets, so that
// Since works on sums whose parts grow.
func (h *Histogram) merge(o *Histogram) {
	counts := make([]int64, buckets)
	for _, part := range []*Histogram{h, o} {
		for _, v := range part.samples {
			counts[bucket(v)]++
		}
		for i, n := range part.counts {
			counts[i] += n
		}
	}
	switch {
	case h.Count == 0:
		h.Min, h.Max = o.Min, o.Max
	case o.Count > 0:
		h.Min, h.Max = min(h.Min, o.Min), max(h.Max, o.Max)
	}
	h.Count, h.Sum = h.Count+o.Count, h.Sum+o.Sum
	h.samples, h.counts = nil, counts
}

// clone returns a copy that later values do not change.
func (h *Histogram) clone() Histogram {
	c := *h
	c.samples, c.counts = slices.Clone(h.samples), slices.Clone(h.counts)
	return c
}

// sums returns the histogram without its values: count and sum remain.
func (h *Histogram) sums() Histogram { return Histogram{Count: h.Count, Sum: h.Sum} }

// A Spread describes a Histogram in JSON. All figures of an empty one are 0.
type Spread struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Spread describes the histogram.
func (h *Histogram) Spread() Spread {
	return Spread{h.Count, h.Mean(), h.Percentile(50), h.Percentile(95), h.Percentile(99), h.Max}
}

// A Window counts the values of a moving window by the buckets of a Histogram.
// Its percentiles are within 1 %.
type Window struct {
	Count  int64
	counts []int64
	values []float64 // of the buckets
}

// Add counts values.
func (w *Window) Add(values []Bucket) { w.add(values, 1) }

// Remove takes values out that Add counted.
func (w *Window) Remove(values []Bucket) { w.add(values, -1) }

func (w *Window) add(values []Bucket, sign int64) {
	for _, b := range values {
		for len(w.counts) <= b.Index {
			w.counts, w.values = append(w.counts, 0), append(w.values, 0)
		}
		w.counts[b.Index] += sign * b.Count
		w.values[b.Index] = b.Value
		w.Count += sign * b.Count
	}
}

// Percentile returns the p-th percentile, nil if the window is empty.
func (w *Window) Percentile(p float64) *float64 {
	if w.Count == 0 {
		return nil
	}
	value := interpolate(p, w.Count, func(rank int64) float64 {
		for i, n := range w.counts {
			if rank < n {
				return w.values[i]
			}
			rank -= n
		}
		return 0 // ranks are below Count
	})
	return &value
}
