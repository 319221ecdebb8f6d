package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// A deviceState is how the session has been doing. After a failure it is
// opened anew once; if the next batch fails too, the engine is unhealthy.
type deviceState struct {
	broken    error // the failure after which the session must be opened anew
	suspect   bool  // opened anew, and no batch since
	unhealthy error
	reopened  int
}

// noteOutcome learns from a batch that was executed. A batch that the library
// refused for what is in it says nothing of the device.
func (p *pipeline) noteOutcome(err error, at time.Time) {
	d := &p.device
	switch {
	case err == nil:
		if d.broken == nil {
			d.suspect, d.unhealthy = false, nil
		}
	case errors.Is(err, mlx.ErrInvalid) || d.broken != nil:
	case d.suspect:
		p.giveUp(err, at)
	default:
		d.broken = err
	}
}

// giveUp marks the engine unhealthy and answers all requests that wait.
func (p *pipeline) giveUp(err error, at time.Time) {
	p.device.broken, p.device.unhealthy = err, err
	p.endAll(fmt.Errorf("%w: %w", ErrUnhealthy, err), at)
}

// endAll answers all that waits for a session, of which there is none.
func (p *pipeline) endAll(err error, at time.Time) {
	for r := range p.live {
		if !r.keep {
			p.end(r, err, at)
		}
	}
	for _, j := range p.jobs {
		j.done <- err
	}
	p.jobs = nil
	p.drained.Broadcast()
}

// usable says whether there is a session that works.
func (p *pipeline) usable() bool { return p.session != nil && p.device.broken == nil }

// mustReopen says whether the session is to be opened anew: when its batches
// are all in, and, once that has not helped, only for a probe.
func (p *pipeline) mustReopen() bool {
	d := p.device
	return d.broken != nil && p.inFlight == 0 && (d.unhealthy == nil || len(p.queue.waiting) > 0)
}

// reopenSession runs on the submitter, which alone uses the session then.
func (p *pipeline) reopenSession() {
	var session backend
	err := guard(func() (err error) {
		closed := p.session.Close()
		session, err = p.reopen()
		return errors.Join(err, closed)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if session != nil {
		p.session, p.warm = session, false
	}
	p.device.reopened++
	if err != nil {
		err = fmt.Errorf("engine: opening the session anew after %w: %w", p.device.broken, err)
		p.log.Error().Err(err).Msg("session")
		p.giveUp(err, time.Now())
		return
	}
	p.log.Warn().Err(p.device.broken).Msg("session opened anew")
	p.device.broken, p.device.suspect = nil, true
}

// Healthy executes a batch of one short pair, ahead of all that wait, and says
// why that fails if it does. An engine that has become unhealthy tries its
// device anew, and goes on if that works.
func (e *Engine) Healthy(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{probe: true}
	if err := e.pipeline.probe(r); err != nil {
		return err
	}
	if err := e.pipeline.wait(ctx, r); err != nil {
		return err
	}
	for _, logit := range r.logits {
		if !finite(logit) {
			return fmt.Errorf("%w: the test pair's logit is %v", ErrUnhealthy, logit)
		}
	}
	return nil
}

func finite(x float32) bool {
	return !math.IsNaN(float64(x)) && !math.IsInf(float64(x), 0)
}
