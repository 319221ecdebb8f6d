package engine

import (
	"fmt"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
)

// watchDevice sets the watchdog to when what the device computes now is overdue.
func (p *pipeline) watchDevice(at time.Time) {
	if p.watchdog != nil {
		p.watchdog.Stop()
	}
	if w := p.schedule.Watch(); w != nil && !p.device.hung {
		p.watchdog = time.AfterFunc(w.Overdue.Sub(at), p.checkDevice)
	}
}

// checkDevice marks the device as hung if what it computes is overdue.
func (p *pipeline) checkDevice() {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	w := p.schedule.Watch()
	if w == nil || p.device.hung {
		return
	}
	if at.Before(w.Overdue) {
		p.watchDevice(at)
		return
	}
	err := hangs(w, at)
	p.log.Error().Err(err).Msg("session")
	p.device.hung = true
	p.giveUp(err, at)
	p.drained.Broadcast()
}

func hangs(w *schedule.Watch, at time.Time) error {
	what, predicted := "measurement of costs", ""
	if w.Pairs > 0 {
		what = batchOf(w.Pairs)
	}
	if w.Predicted > 0 {
		predicted = fmt.Sprintf("; %v were predicted", round(w.Predicted))
	}
	return fmt.Errorf("the device hangs: %s has run for %v%s; restart the program; if it hangs again, use the CPU (--device cpu or MLXRANK_DEVICE=cpu) and report it", what, round(at.Sub(w.Began)), predicted)
}

// batchOf names a batch in messages.
func batchOf(pairs int) string {
	if pairs == 1 {
		return "a batch of 1 pair"
	}
	return fmt.Sprintf("a batch of %d pairs", pairs)
}

// noteReturn ends the hang once everything that was on the device has returned. The
// device stays unhealthy until a probe works on a new session.
func (p *pipeline) noteReturn() {
	if p.device.hung && p.schedule.Watch() == nil && p.schedule.InFlight() == 0 {
		p.device.hung = false
		p.log.Warn().Msg("the device hangs no longer")
	}
}
