package server

import (
	"cmp"
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// figures returns the statistics of all engines that the slot had.
func (s *slot) figures() telemetry.Snapshot {
	past := s.past
	past.Live, past.Waiting, past.WaitingBatch, past.Reserved, past.InFlight = 0, 0, 0, 0, 0
	past.Loaded, past.Unhealthy = false, nil
	if s.model == nil {
		return past
	}
	now := telemetry.Snapshot(s.model.Stats())
	if s.loads > 1 {
		now.Add(&past)
	}
	return now
}

// modelFigures are what metrics export of a model.
type modelFigures struct {
	name                           string
	stats                          engine.Stats
	info                           engine.Info
	loaded                         bool
	uses, loads, failures, unloads int
	deadlines                      deadlineCounts
}

// figures returns the figures of each model.
func (m *Models) figures() []modelFigures {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []modelFigures
	for _, s := range m.slots {
		list = append(list, modelFigures{
			name: s.name, stats: engine.Stats(s.figures()), info: s.describe(), loaded: s.model != nil,
			uses: s.uses, loads: s.loads, failures: s.failures, unloads: s.unloads,
		})
	}
	return list
}

// Stats returns the sum of all models' statistics since the start.
func (m *Models) Stats() engine.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := m.removed
	if len(m.slots) == 1 && sum.Elapsed == 0 {
		sum = m.slots[0].figures()
	} else {
		for _, s := range m.slots {
			figures := s.figures()
			sum.Add(&figures)
		}
	}
	sum.Elapsed = time.Since(m.started)
	return engine.Stats(sum)
}

// Info describes the default model as it is, or as it was when it was loaded last. Of a
// model that was never loaded only the name is known.
func (m *Models) Info() engine.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.standard.describe()
}

func (s *slot) describe() engine.Info {
	if s.model != nil {
		return s.model.Info()
	}
	info := s.info
	info.Model = cmp.Or(info.Model, s.name)
	return info
}

// loaded returns the models that are loaded, the ones being unloaded included.
func (m *Models) loaded() []*loadedModel {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*loadedModel
	for _, s := range m.slots {
		if s.model != nil {
			list = append(list, s.model)
		}
	}
	return list
}

// defaultName returns the name of the default model.
func (m *Models) defaultName() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.standard.name
}

// A modelState is what a model is doing.
type modelState string

const (
	stateUnloaded  modelState = "unloaded"
	stateLoading   modelState = "loading"
	stateLoaded    modelState = "loaded"
	stateUnloading modelState = "unloading"
	stateFailed    modelState = "failed"
)

func (s *slot) state() modelState {
	switch {
	case s.load != nil:
		return stateLoading
	case s.unload != nil:
		return stateUnloading
	case s.model != nil:
		return stateLoaded
	case s.failure != nil:
		return stateFailed
	}
	return stateUnloaded
}

// List describes the models that requests may name, the default one first.
func (m *Models) List() []ServedModel {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []ServedModel{m.standard.card(true)}
	for _, s := range m.served() {
		if s != m.standard {
			list = append(list, s.card(false))
		}
	}
	return list
}

func (s *slot) card(standard bool) ServedModel {
	stats := s.figures()
	d := ServedModel{
		ID: s.name, Aliases: append([]string{}, s.aliases...), Default: standard, State: string(s.state()),
		DType: string(s.info.DType), Device: string(s.info.Device), Adapter: s.info.Adapter, Labels: s.info.Labels, Label: s.info.Label,
		MaxInputLength: s.info.MaxLength, WeightBytes: s.info.WeightBytes, Running: s.uses, Requests: stats.Requests, Pairs: stats.Pairs,
	}
	if !s.lastUse.IsZero() {
		d.LastUse = s.lastUse.UnixMilli()
	}
	return d
}

// Memory reads MLX's counters, which are zero before the first load.
func (m *Models) Memory() (engine.Memory, error) {
	m.mu.Lock()
	read := m.memory
	m.mu.Unlock()
	if read == nil {
		return engine.Memory{}, nil
	}
	return read()
}

// Close refuses new requests, cancels loads, and unloads all models when their running
// requests have finished. It returns the errors of all engines that were closed. An
// engine that the caller had opened stays open.
func (m *Models) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.working.Wait() // for loads, which may still succeed
	m.mu.Lock()
	for _, s := range m.slots {
		if s.idle != nil {
			s.idle.Stop()
		}
		if s.model != nil && s.unload == nil && !s.foreign {
			m.beginUnload(s, "")
		}
	}
	m.mu.Unlock()
	m.working.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}
