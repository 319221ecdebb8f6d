package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// backend is where batches run: an mlx.Session, or a fake in tests. Collect
// may be called while Submit is.
type backend interface {
	Submit(mlx.Batch) (mlx.Ticket, error)
	Collect(mlx.Ticket, []float32) (mlx.Stats, error)
	Close() error
}

// A device holds the session and its state. After a failure the session
// is reopened once; if the next batch fails too, the device is unhealthy.
type device struct {
	session   backend // nil while unloaded; only the dispatcher changes it
	reopen    func() (backend, error)
	broken    error // the failure after which the session must be reopened
	suspect   bool  // reopened, and no batch since
	unhealthy error
	hung      bool // what was submitted has not come back in time
	reopened  int
}

// usable reports whether there is a session that works.
func (d *device) usable() bool { return d.session != nil && d.broken == nil && !d.hung }

// shouldReopen reports whether the session must be reopened after its batches are
// collected. An unhealthy device is reopened only for a waiting probe.
func (d *device) shouldReopen(waiting int) bool {
	return d.broken != nil && !d.hung && (d.unhealthy == nil || waiting > 0)
}

// note records the outcome of a batch. It reports whether the device has become
// unhealthy. A batch that the library refuses for its contents does not count.
func (d *device) note(err error) (failed bool) {
	switch {
	case err == nil:
		if d.broken == nil {
			d.suspect, d.unhealthy = false, nil
		}
	case errors.Is(err, mlx.ErrInvalid) || d.broken != nil:
	case d.suspect:
		return true
	default:
		d.broken = err
	}
	return false
}

func (p *pipeline) noteOutcome(err error, at time.Time) {
	if p.device.note(err) {
		p.giveUp(err, at)
	}
}

// giveUp marks the device unhealthy and answers all requests that wait.
func (p *pipeline) giveUp(err error, at time.Time) {
	p.device.broken, p.device.unhealthy = err, err
	p.notFinite = nil
	p.endAll(fmt.Errorf("%w: %w", ErrUnhealthy, err), at)
}

// endAll answers every call that waits for a session which cannot be opened.
func (p *pipeline) endAll(err error, at time.Time) {
	for _, r := range p.live {
		if !r.keep {
			p.end(r, err, at)
		}
	}
	p.endMeasuring(err)
}

func (p *pipeline) reopenSession() {
	var session backend
	err := guard("opening a session", func() (err error) {
		closed := p.device.session.Close()
		session, err = p.device.reopen()
		return errors.Join(err, closed)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &p.device
	if session != nil {
		d.session = session
		p.schedule.SessionOpened()
	}
	d.reopened++
	if err != nil {
		err = fmt.Errorf("engine: reopening the session after %w: %w", d.broken, err)
		p.log.Error().Err(err).Msg("session")
		p.giveUp(err, time.Now())
		return
	}
	p.log.Warn().Err(d.broken).Msg("session reopened")
	d.broken, d.suspect = nil, true
}

// untilUnload returns how long until the session has been idle for so long that
// it is closed: 0 now, negative if it is not idle.
func (p *pipeline) untilUnload(at time.Time) time.Duration {
	if p.idle == 0 || !p.device.usable() || p.closed || p.measuring != nil || len(p.live) > 0 || p.schedule.InFlight() > 0 {
		return -1
	}
	return max(0, p.idle-at.Sub(p.resting))
}

func (p *pipeline) unloadSession() {
	session := p.device.session
	p.mu.Lock()
	p.device.session = nil
	p.stats.Unloads++
	p.mu.Unlock()
	err := guard("closing a session", session.Close)
	if p.trim != nil {
		err = errors.Join(err, p.trim())
	}
	p.log.Info().Err(err).Dur("idle_ms", p.idle).Msg("unloaded")
}

// shouldLoad reports whether a call needs the session that was unloaded.
// Tokenizing needs none.
func (p *pipeline) shouldLoad() bool {
	return p.device.session == nil && (p.measuring != nil || p.scoring > 0)
}

// loadSession opens a session again. If that fails, the calls that wait for it
// get the error, and the next request tries again.
func (p *pipeline) loadSession() {
	start := time.Now()
	p.mu.Lock()
	p.schedule.LoadBegan(start)
	p.mu.Unlock()
	var session backend
	err := guard("opening a session", func() (err error) {
		session, err = p.device.reopen()
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	p.schedule.LoadEnded(at, err != nil)
	if err == nil {
		p.device.session = session
		p.log.Info().Float64("took_ms", telemetry.Milliseconds(at.Sub(start))).Msg("loaded again")
		return
	}
	err = fmt.Errorf("engine: loading the model again: %w", err)
	p.log.Error().Err(err).Msg("session")
	p.endAll(err, at)
}

// Healthy executes a batch of one short pair before all waiting pairs, and returns
// the error if that fails. An unhealthy engine first reopens its session. If the
// batch succeeds, the engine accepts requests again. While the device hangs, it
// fails at once.
func (e *Engine) Healthy(ctx context.Context) error {
	frame := e.pipeline.texts.frame
	empty := frame.join(encoded{}, encoded{}, frame.special, TruncateRight)
	r := &request{pairs: make([]Pair, 1), inputs: []Tokens{empty}}
	r.First = true
	return e.pipeline.run(ctx, r)
}
