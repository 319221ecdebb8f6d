package fleet

import "context"

// readAhead is how many results are read before Wait is called for them: a result is
// small, and the store takes its time to answer.
const readAhead = 8

// A reading is a result on its way from the store.
type reading struct {
	object string
	done   chan struct{} // closed when packed or err is there
	packed []byte
	err    error
}

// read returns the result of a part, and begins to read the results of the next parts.
func (r *Results) read(ctx context.Context, part int, commit Commit) ([]byte, error) {
	r.readNext(part)
	if ahead := r.takeReading(part, commit); ahead != nil {
		select {
		case <-ahead.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if ahead.err == nil {
			return ahead.packed, nil
		}
	}
	var packed []byte
	err := r.fleet.waitForStore(ctx, func() (err error) {
		packed, err = r.data.get(ctx, commit.Object)
		return err
	})
	return packed, err
}

// readNext begins to read the finished results among the next parts.
func (r *Results) readNext(part int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for next := part + 1; next <= part+readAhead; next++ {
		commit, done := r.commits[next]
		if !done || r.readings[next] != nil {
			continue
		}
		ahead := &reading{object: commit.Object, done: make(chan struct{})}
		r.readings[next] = ahead
		r.readers.Go(func() {
			defer close(ahead.done)
			ahead.packed, ahead.err = r.data.get(r.active, ahead.object)
		})
	}
}

// takeReading returns the reading of a part's result, nil if there is none of this commit.
func (r *Results) takeReading(part int, commit Commit) *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	ahead := r.readings[part]
	delete(r.readings, part)
	if ahead == nil || ahead.object != commit.Object {
		return nil
	}
	return ahead
}
