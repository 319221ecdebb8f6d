package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// A batch with a logit that is not finite holds pairs of several callers. It is
// computed again pair by pair, so that a pair which gives no number fails alone.
// If no pair gives one, a probe decides whether the device has failed.

// shouldRecompute reports whether a batch waits to be computed again. No other batch
// starts before that.
func (p *pipeline) shouldRecompute() bool { return len(p.notFinite) > 0 && p.device.usable() }

// recomputeLater keeps a batch whose logits are not finite.
func (p *pipeline) recomputeLater(b *batch, at time.Time) {
	p.notFinite = append(p.notFinite, b)
	for _, r := range b.requests {
		r.recomputing++
		p.changed(r, at)
	}
}

// recompute computes the first batch that waits for it, pair by pair.
func (p *pipeline) recompute() {
	p.mu.Lock()
	b := p.notFinite[0]
	p.notFinite = p.notFinite[1:]
	p.mu.Unlock()
	inputs := split(b.input)
	found := make([]error, len(inputs))
	finite := 0
	var failed error // of the device
	for i, input := range inputs {
		logits := b.logits[i*p.labels : (i+1)*p.labels]
		if found[i] = p.computeAlone(input, logits); found[i] == nil {
			finite++
		} else if !errors.Is(found[i], mlx.ErrNotFinite) {
			failed = found[i]
			break
		}
	}
	if finite == 0 && failed == nil {
		probe := p.texts.frame.join(encoded{}, encoded{}, p.texts.frame.special, TruncateRight)
		failed = p.computeAlone(alone(probe.IDs, probe.TypeIDs), make([]float32, p.labels))
	}
	p.settleAlone(b, found, failed)
}

// split returns a batch of its own for each pair.
func split(b mlx.Batch) []mlx.Batch {
	var pairs []mlx.Batch
	from := 0
	for _, n := range b.Lengths {
		end := from + int(n)
		pairs = append(pairs, alone(b.IDs[from:end], b.TypeIDs[from:end]))
		from = end
	}
	return pairs
}

func alone(ids, typeIDs []int32) mlx.Batch {
	return mlx.Batch{IDs: ids, TypeIDs: typeIDs, Lengths: []int32{int32(len(ids))}, Microbatches: []int32{1}}
}

// computeAlone computes one pair under the watchdog.
func (p *pipeline) computeAlone(b mlx.Batch, logits []float32) error {
	p.mu.Lock()
	at := time.Now()
	p.schedule.PairBegan(len(b.IDs), at)
	p.watchDevice(at)
	p.mu.Unlock()
	err := guard("computing a pair alone", func() error {
		ticket, err := p.device.session.Submit(b)
		if err == nil {
			_, err = p.device.session.Collect(ticket, logits)
		}
		return withoutPair(err)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.schedule.MeasureEnded()
	p.watchDevice(time.Now())
	if p.device.hung { // the callers have their answers; the other pairs need not be computed
		return p.device.unhealthy
	}
	return err
}

// withoutPair removes from the library's error which pair of the batch it is about: a
// pair that is computed alone is always the first one.
func withoutPair(err error) error {
	var native *mlx.NativeError
	if !errors.Is(err, mlx.ErrNotFinite) || !errors.As(err, &native) {
		return err
	}
	alone := *native
	alone.Text = strings.Replace(native.Text, " of pair 0 ", " ", 1)
	return &alone
}

// settleAlone passes the logits that were found to their requests, and errors to
// those whose pairs gave none. failed is an error of the device, nil for none.
func (p *pipeline) settleAlone(b *batch, found []error, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	for _, r := range b.requests {
		r.recomputing--
		if failed != nil {
			p.end(r, fmt.Errorf("engine: %s failed: %w", batchOf(len(b.Items)), p.notFiniteError(failed)), at)
		}
	}
	refused := 0
	for i, err := range found {
		if err != nil {
			refused++
		}
		if r := b.owners[i]; err != nil {
			p.end(r, fmt.Errorf("engine: pair %d of the request failed: %w", r.given(b.Items[i].Index), p.notFiniteError(err)), at)
		}
	}
	p.scatter(b)
	for _, r := range b.requests {
		if r.isAnswered() {
			p.end(r, nil, at)
		}
		p.changed(r, at)
		r.advance()
	}
	p.log.Warn().Int("pairs", len(b.Items)).Int("failed", refused).Err(joinTexts(append(found, failed))).Msg("logits were not finite, so the pairs were computed one by one")
	p.noteOutcome(failed, at)
	p.noteReturn()
	p.drained.Broadcast()
	p.poke()
}

// joinTexts joins errors. Of several with one text it takes the first.
func joinTexts(errs []error) error {
	seen := map[string]bool{}
	var kept []error
	for _, err := range errs {
		if err != nil && !seen[err.Error()] {
			seen[err.Error()] = true
			kept = append(kept, err)
		}
	}
	return errors.Join(kept...)
}

// notFiniteError adds to the library's error what to do. Other errors are left alone.
func (p *pipeline) notFiniteError(err error) error {
	if !errors.Is(err, mlx.ErrNotFinite) {
		return err
	}
	advice := "use float32 (--dtype float32), or check the model's weights"
	if DType(p.costs.DType) == Float32 {
		advice = "check the model's weights"
	}
	return fmt.Errorf("%w: %w; if the same text fails again, %s", ErrNotFinite, err, advice)
}
