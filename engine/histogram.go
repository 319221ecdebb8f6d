package engine

import (
	"math"
	"slices"
)

const (
	keptSamples = 4096 // of a histogram, as they are
	smallest    = 1e-4 // lower edge of a histogram's second bucket
	growth      = 1.01 // of its buckets
	buckets     = 2600 // the last ends above 1e7
)

// A Histogram is the distribution of some figure. While it has at most 4096
// values its percentiles are exact; beyond that they are within 1 %.
type Histogram struct {
	Count         int64
	Sum, Min, Max float64

	samples []float64 // all there are, until they are too many
	counts  []int64
}

func (h *Histogram) add(v float64) {
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

// AtMost counts the values of at most v, within 1 % of it. It grows with v and
// with the histogram.
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

// clone is a copy that later values do not change.
func (h *Histogram) clone() Histogram {
	c := *h
	c.samples, c.counts = slices.Clone(h.samples), slices.Clone(h.counts)
	return c
}

// Mean is 0 of nothing.
func (h *Histogram) Mean() float64 {
	if h.Count == 0 {
		return 0
	}
	return h.Sum / float64(h.Count)
}

// Percentile is the p-th of 0 to 100, between two values by linear
// interpolation, and 0 of nothing.
func (h *Histogram) Percentile(p float64) float64 {
	if h.Count == 0 {
		return 0
	}
	rank := min(max(p, 0), 100) / 100 * float64(h.Count-1)
	low := int64(rank)
	part := rank - float64(low)
	if h.counts == nil {
		sorted := slices.Sorted(slices.Values(h.samples))
		at := sorted[low]
		if part > 0 {
			at += part * (sorted[low+1] - at)
		}
		return at
	}
	at := h.ranked(low)
	if part > 0 {
		at += part * (h.ranked(low+1) - at)
	}
	return at
}

// ranked is the value with so many below it, as its bucket knows it.
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
