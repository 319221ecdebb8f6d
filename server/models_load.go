package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// acquire returns a model that stays loaded until release. It loads the model, or waits
// for the load that has begun, until ctx ends.
func (m *Models) acquire(ctx context.Context, s *slot) (*loadedModel, error) {
	for {
		model, wait, err := m.take(s)
		if model != nil || err != nil {
			return model, err
		}
		if wait.load != nil {
			return m.await(ctx, s, wait.load)
		}
		select {
		case <-wait.unload.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// A wait is what a request must wait for, one of both.
type wait struct {
	load   *load
	unload *unload
}

// take returns the model if it is loaded, or what to wait for. It begins a load if none
// is in progress.
func (m *Models) take(s *slot) (*loadedModel, wait, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, wait{}, engine.ErrClosed
	case s.gone:
		return nil, wait{}, m.unknown()
	case s.unload != nil:
		return nil, wait{unload: s.unload}, nil
	case s.model != nil:
		s.uses++
		return s.model, wait{}, nil
	case s.load == nil && s.failure != nil && time.Since(s.failedAt) < cooldown:
		return nil, wait{}, loadError(s.failure)
	case s.load == nil:
		m.beginLoad(s)
	case m.waiters > 0 && s.load.waiting >= m.waiters:
		return nil, wait{}, errLoadQueue
	}
	s.load.waiting++
	return nil, wait{load: s.load}, nil
}

// await returns the model of a load that take has counted the request in.
func (m *Models) await(ctx context.Context, s *slot, l *load) (*loadedModel, error) {
	select {
	case <-l.done:
		return l.model, loadError(l.err)
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-l.done:
		if l.err == nil {
			m.give(s)
		}
	default:
		l.waiting--
	}
	return nil, ctx.Err()
}

// loadError marks an error of a load, so that requests do not get its cause.
func loadError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errLoad, err)
}

// release ends the use of a model.
func (m *Models) release(s *slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.give(s)
}

func (m *Models) give(s *slot) {
	s.uses--
	s.lastUse = time.Now()
	switch {
	case s.uses > 0:
	case s.unload != nil:
		close(s.unload.drained)
	default:
		m.watchIdle(s)
	}
}

// watchIdle unloads a model that no request holds after IdleUnload.
func (m *Models) watchIdle(s *slot) {
	if m.IdleUnload <= 0 {
		return
	}
	if s.idle != nil {
		s.idle.Stop()
	}
	s.idle = time.AfterFunc(m.IdleUnload, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.closed && s.model != nil && s.unload == nil && s.uses == 0 && time.Since(s.lastUse) >= m.IdleUnload {
			m.beginUnload(s, "idle")
		}
	})
}

// beginLoad starts a load. The caller holds the lock.
func (m *Models) beginLoad(s *slot) {
	l, need, start := &load{done: make(chan struct{})}, s.info.WeightBytes, time.Now()
	s.load, s.failure = l, nil
	m.working.Go(func() {
		model, err := m.open(s, need)
		m.mu.Lock()
		defer m.mu.Unlock()
		s.load, l.model, l.err = nil, model, err
		if err != nil {
			s.failure, s.failedAt = err, time.Now()
			s.failures++
		} else {
			s.model, s.info, s.uses, s.lastUse = model, model.info, l.waiting, time.Now()
			s.loads++
			m.memory = model.Memory
			if s.uses == 0 {
				m.watchIdle(s)
			}
		}
		m.logLoad(s, time.Since(start))
		close(l.done)
	})
}

// logLoad logs the end of a load, except at the start, which has its own events.
func (m *Models) logLoad(s *slot, took time.Duration) {
	switch {
	case m.starting || m.closed:
	case s.failure != nil:
		m.Logger.Error().Str("model", s.name).Err(s.failure).Msg("load")
	default:
		m.Logger.Info().Str("model", s.name).Int64("weight_bytes", s.info.WeightBytes).Float64("took_ms", telemetry.Milliseconds(took)).Msg("loaded")
	}
}

// open opens a model. With a memory limit, it first makes room for what the model took
// when it was loaded last, and then for what it takes.
func (m *Models) open(s *slot, need int64) (*loadedModel, error) {
	if m.MaxBytes > 0 {
		select {
		case m.room <- struct{}{}:
			defer func() { <-m.room }()
		case <-m.ctx.Done():
			return nil, engine.ErrClosed
		}
		if err := m.makeRoom(s, need); err != nil {
			return nil, err
		}
	}
	e, err := m.Load(m.ctx, s.name)
	if err != nil {
		return nil, err
	}
	model := &loadedModel{Engine: e, name: s.name, info: e.Info()}
	if m.MaxBytes > 0 {
		if err := m.makeRoom(s, model.info.WeightBytes); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return model, nil
}

// makeRoom unloads models until the limit has room for need bytes of s. It prefers models
// that no request holds, and then the one that was not used for longest. Only one load at
// a time calls it.
func (m *Models) makeRoom(s *slot, need int64) error {
	if need > m.MaxBytes {
		return fmt.Errorf("server: model %s takes %s, more than the limit of %s for all models; raise the limit", s.name, megabytes(need), megabytes(m.MaxBytes))
	}
	for {
		m.mu.Lock()
		sum, victim := need, (*slot)(nil)
		for _, other := range m.slots {
			if other.model == nil || other == s {
				continue
			}
			sum += other.model.info.WeightBytes
			if victim == nil || other.evictBefore(victim) {
				victim = other
			}
		}
		if sum <= m.MaxBytes || victim == nil {
			m.mu.Unlock()
			return nil
		}
		done := m.beginUnload(victim, "memory")
		m.mu.Unlock()
		select {
		case <-done:
		case <-m.ctx.Done():
			return engine.ErrClosed
		}
	}
}

// evictBefore orders models by what their memory costs: those being unloaded, those that
// no request holds, the others; each by the time of the last use.
func (s *slot) evictBefore(t *slot) bool {
	class := func(s *slot) int {
		switch {
		case s.unload != nil:
			return 0
		case s.uses == 0:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(class(s), class(t)), s.lastUse.Compare(t.lastUse)) < 0
}

// beginUnload starts to unload a loaded model: new requests load it again, running ones
// finish before. It returns what is closed at the end, also if the model is being unloaded
// already. The caller holds the lock.
func (m *Models) beginUnload(s *slot, reason string) (done <-chan struct{}) {
	if s.unload != nil {
		return s.unload.done
	}
	u := &unload{drained: make(chan struct{}), done: make(chan struct{})}
	s.unload = u
	if s.uses == 0 {
		close(u.drained)
	}
	m.working.Go(func() {
		<-u.drained
		err := errors.Join(s.model.Close(), s.model.Trim())
		m.mu.Lock()
		defer m.mu.Unlock()
		s.past = s.figures()
		s.model, s.unload = nil, nil
		s.unloads++
		m.failed = errors.Join(m.failed, err)
		if s.gone {
			m.drop(s)
		}
		if !m.starting && !m.closed {
			m.Logger.Info().Str("model", s.name).Str("reason", reason).Err(err).Msg("unloaded")
		}
		close(u.done)
	})
	return u.done
}

// drop forgets a removed model, except for its statistics.
func (m *Models) drop(s *slot) {
	m.removed.Add(&s.past)
	m.slots = slices.DeleteFunc(m.slots, func(other *slot) bool { return other == s })
}
