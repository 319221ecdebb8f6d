package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// mustUnload says whether nobody has used the session for so long that it is to
// be closed.
func (p *pipeline) mustUnload(at time.Time) bool {
	return p.mayUnload() && at.Sub(p.resting) >= p.idle
}

func (p *pipeline) mayUnload() bool {
	return p.idle > 0 && p.usable() && !p.closed &&
		len(p.live) == 0 && len(p.jobs) == 0 && p.inFlight == 0
}

// untilUnload is how long that may be away, 0 if not known.
func (p *pipeline) untilUnload(at time.Time) time.Duration {
	if !p.mayUnload() {
		return 0
	}
	return max(p.idle-at.Sub(p.resting), 1)
}

// unload runs on the submitter, which alone uses the session then.
func (p *pipeline) unload() {
	session := p.session
	p.mu.Lock()
	p.session = nil
	p.stats.Unloads++
	p.mu.Unlock()
	err := guard(session.Close)
	if p.trim != nil {
		err = errors.Join(err, p.trim())
	}
	p.log.Info().Err(err).Dur("idle_ms", p.idle).Msg("unloaded")
}

// mustLoad says whether something wants a session that was unloaded. To
// tokenise takes none.
func (p *pipeline) mustLoad() bool {
	if p.session != nil {
		return false
	}
	if len(p.jobs) > 0 {
		return true
	}
	for r := range p.live {
		if !r.keep {
			return true
		}
	}
	return false
}

// load opens a session again. If that fails, what waits for it gets the error
// and the next request tries anew.
func (p *pipeline) load() {
	start := time.Now()
	p.mu.Lock()
	p.loadingSince = start
	p.mu.Unlock()
	var session backend
	err := guard(func() (err error) {
		session, err = p.reopen()
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loadingSince = time.Time{}
	if err == nil {
		p.warm = false
		p.session, p.loading = session, time.Since(start)
		p.log.Info().Float64("took_ms", telemetry.Milliseconds(time.Since(start))).Msg("loaded again")
		return
	}
	err = fmt.Errorf("engine: loading the model again: %w", err)
	p.log.Error().Err(err).Msg("session")
	p.endAll(err, time.Now())
}
