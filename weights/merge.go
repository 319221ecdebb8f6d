package weights

import (
	"errors"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// A job is one weight to merge: to = from + b@a. b is already scaled.
type job struct {
	to, from, a, b []float32
	in, rank       int
}

// merge returns picked with the adapter's updates added to their weights. The
// merged weights are F32 and lie in the returned mapping. As in PEFT, an update
// is summed in float32 before it is added.
func (ad *adapter) merge(picked []entry) ([]entry, mapping, error) {
	targets, err := ad.targets(picked)
	if err != nil {
		return nil, nil, err
	}
	size := 0
	for _, i := range targets {
		size += 4 * picked[i].Shape[0] * picked[i].Shape[1]
	}
	mem, err := newMapping(size)
	if err != nil {
		return nil, nil, err
	}
	merged := slices.Clone(picked)
	jobs := make([]job, len(targets))
	results := make([]entry, len(targets))
	rest := mem
	for k, i := range targets {
		e := picked[i]
		jobs[k] = ad.job(e)
		n := 4 * len(jobs[k].from)
		e.DType, e.Data, rest = F32, rest[:n:n], rest[n:]
		e.file += " merged with " + ad.name
		jobs[k].to = floats(e.Tensor)
		merged[i], results[k] = e, e
	}
	err = runJobs(jobs)
	if err == nil {
		err = checkFinite(results)
	}
	if err != nil {
		return nil, nil, errors.Join(err, mem.close())
	}
	return merged, mem, nil
}

// targets returns the indices of the weights to update. It checks that every
// update has a weight, fits it and is finite.
func (ad *adapter) targets(picked []entry) ([]int, error) {
	var indices []int
	var factors []entry
	known := map[string]bool{}
	for i, e := range picked {
		u := ad.updates[e.Name]
		if u == nil {
			continue
		}
		if err := ad.fit(u, e); err != nil {
			return nil, err
		}
		known[e.Name] = true
		indices = append(indices, i)
		factors = append(factors, u.a, u.b)
	}
	for _, name := range sortedKeys(ad.updates) {
		if !known[name] {
			return nil, ad.updates[name].a.errorf("the model has no weight %q to update", name)
		}
	}
	return indices, checkFinite(factors)
}

// fit checks the shapes of an update against its weight.
func (ad *adapter) fit(u *update, e entry) error {
	if len(e.Shape) != 2 || strings.HasPrefix(e.Name, "embeddings.") {
		return u.a.errorf("%q is not the weight of a dense layer", e.Name)
	}
	rank := ad.config.rank(u.module)
	for _, f := range []struct {
		half  entry
		shape []int
	}{{u.a, []int{rank, e.Shape[1]}}, {u.b, []int{e.Shape[0], rank}}} {
		if !slices.Equal(f.half.Shape, f.shape) {
			return f.half.errorf("shape %v, expected %v for the base's %s %v and rank %d",
				f.half.Shape, f.shape, e.Name, e.Shape, rank)
		}
	}
	return nil
}

// job prepares the merge of one weight, without the memory for the result.
func (ad *adapter) job(e entry) job {
	u := ad.updates[e.Name]
	b := slices.Clone(floats(u.b.Tensor))
	scale := ad.config.scale(u.module)
	for i := range b {
		b[i] *= scale
	}
	return job{from: floats(e.Tensor), a: floats(u.a.Tensor), b: b, in: e.Shape[1], rank: ad.config.rank(u.module)}
}

// runJobs computes all jobs in parallel, a block of rows at a time.
func runJobs(jobs []job) error {
	const rows = 32
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, j := range jobs {
		for first := 0; first*j.in < len(j.from); first += rows {
			group.Go(func() error {
				for row := first; row < min(first+rows, len(j.from)/j.in); row++ {
					lo, hi := row*j.in, (row+1)*j.in
					mergeRow(j.to[lo:hi], j.from[lo:hi], j.a, j.b[row*j.rank:(row+1)*j.rank])
				}
				return nil
			})
		}
	}
	return group.Wait()
}

// mergeRow sets to = from + b@a, where a has len(b) rows as long as to.
func mergeRow(to, from, a, b []float32) {
	n := len(to)
	clear(to)
	for len(b) >= 8 {
		b0, b1, b2, b3, b4, b5, b6, b7 := b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
		a0, a1, a2, a3 := a[:n], a[n:][:n], a[2*n:][:n], a[3*n:][:n]
		a4, a5, a6, a7 := a[4*n:][:n], a[5*n:][:n], a[6*n:][:n], a[7*n:][:n]
		for i := range to {
			to[i] += (b0*a0[i] + b1*a1[i]) + (b2*a2[i] + b3*a3[i]) + (b4*a4[i] + b5*a5[i]) + (b6*a6[i] + b7*a7[i])
		}
		a, b = a[8*n:], b[8:]
	}
	for k, bk := range b {
		ak := a[k*n:][:n]
		for i := range to {
			to[i] += bk * ak[i]
		}
	}
	for i, w := range from[:n] {
		to[i] += w
	}
}
