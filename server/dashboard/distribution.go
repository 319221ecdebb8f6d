package dashboard

import (
	"github.com/mlxrank/mlxrank/engine"
)

// A distribution counts the values of a moving window by the engine's buckets,
// so its percentiles are within 1 %.
type distribution struct {
	counts []int64
	values []float64 // the buckets'
	total  int64
}

// add counts values in, or with sign -1 those out that were counted in before.
func (d *distribution) add(values []engine.Bucket, sign int64) {
	for _, b := range values {
		for len(d.counts) <= b.Index {
			d.counts, d.values = append(d.counts, 0), append(d.values, 0)
		}
		d.counts[b.Index] += sign * b.Count
		d.values[b.Index] = b.Value
		d.total += sign * b.Count
	}
}

// percentile is nil of nothing.
func (d *distribution) percentile(p float64) *float64 {
	if d.total == 0 {
		return nil
	}
	at := p / 100 * float64(d.total-1)
	low := int64(at)
	value := d.ranked(low)
	if part := at - float64(low); part > 0 {
		value += part * (d.ranked(low+1) - value)
	}
	return figure(value)
}

// ranked is the value with so many below it.
func (d *distribution) ranked(rank int64) float64 {
	for i, n := range d.counts {
		if rank < n {
			return d.values[i]
		}
		rank -= n
	}
	return 0 // ranks are below the total
}
