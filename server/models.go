package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// ModelsConfig sets which models are served and when they are in memory.
type ModelsConfig struct {
	// Names are the names by which Load knows the models, and by which requests and
	// answers name them. The first is the default model.
	Names   []string
	Aliases map[string]string // names or aliases of models by further names
	// Load opens a model. It may be called again for a model that was unloaded, and
	// for several models at once if there is no MaxBytes.
	Load func(ctx context.Context, name string) (Engine, error)
	// Lazy leaves each model unloaded until the first request for it.
	Lazy bool
	// IdleUnload is the time without a request after which a model is unloaded; 0 never
	// unloads.
	IdleUnload time.Duration
	// MaxBytes caps engine.Info.WeightBytes of all loaded models. To load another one,
	// those that were not used for longest are unloaded. 0 sets no limit.
	MaxBytes int64
	Logger   zerolog.Logger
}

// Models holds the models of a server: those that are loaded, and those that a
// request or the admin route may load.
//
// A model that is unloaded takes no new requests; its running ones finish first. Requests
// that need a model which is being loaded wait for one load. A load goes on if its
// requests give up, because the next request needs it too.
type Models struct {
	ModelsConfig
	started time.Time
	cancel  context.CancelFunc
	ctx     context.Context // of loads
	room    chan struct{}   // holds one element while a load counts on the memory that it found
	working sync.WaitGroup  // loads and unloads

	mu       sync.Mutex
	starting bool // NewModels returns errors of loads, so that they are not logged
	closed   bool
	waiters  int              // limit of the requests that wait for one load, 0 for none
	slots    []*slot          // in the order in which they were added
	names    map[string]*slot // by name and by alias
	standard *slot            // the default model
	removed  telemetry.Snapshot
	failed   error                         // of engines that were closed
	memory   func() (engine.Memory, error) // of the engine that was opened last
}

// cooldown is the time after a failed load in which requests get its error without
// another attempt.
const cooldown = 5 * time.Second

// A slot is a model that is served. The lock of Models guards it, except for name.
type slot struct {
	name    string
	aliases []string
	model   *loadedModel // nil unless it is loaded or being unloaded
	load    *load        // nil unless it is being loaded
	unload  *unload      // nil unless it is being unloaded
	gone    bool         // it was removed
	foreign bool         // its engine belongs to the caller of New

	uses     int // requests that hold the model
	lastUse  time.Time
	idle     *time.Timer
	failure  error // of the last load
	failedAt time.Time

	info     engine.Info // of the last load
	past     telemetry.Snapshot
	loads    int
	failures int
	unloads  int
}

// A loadedModel is an open engine with what does not change while it is open.
type loadedModel struct {
	Engine
	name   string
	info   engine.Info
	health healthCheck
}

type load struct {
	done    chan struct{}
	waiting int // requests that get the model when it is loaded
	model   *loadedModel
	err     error
}

type unload struct {
	drained chan struct{} // closed when no request holds the model
	done    chan struct{} // closed when its memory is free
}

// Reasons why a request does not get a model.
var (
	errUnknownModel = errors.New("server: model is not served")
	errLoad         = errors.New("server: model cannot be loaded")
	errLoadQueue    = errors.New("server: too many requests wait for the model to load")
)

// NewModels checks the names and loads all models unless the configuration is Lazy. An
// error of Load ends it.
func NewModels(ctx context.Context, cfg ModelsConfig) (*Models, error) {
	m := &Models{ModelsConfig: cfg, started: time.Now(), room: make(chan struct{}, 1), names: make(map[string]*slot)}
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if len(cfg.Names) == 0 {
		return nil, errors.New("server: no model to serve")
	}
	for _, name := range cfg.Names {
		if err := m.add(name); err != nil {
			return nil, err
		}
	}
	m.standard = m.slots[0]
	if err := m.addAliases(cfg.Aliases); err != nil {
		return nil, err
	}
	if cfg.Lazy {
		return m, nil
	}
	m.starting = true
	if err := m.loadAll(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starting = false
	return m, nil
}

// openModels returns the models of a server whose only engine is open already.
func openModels(e Engine) *Models {
	info := e.Info()
	s := &slot{name: info.Model, model: &loadedModel{Engine: e, name: info.Model, info: info}, info: info, foreign: true, loads: 1, lastUse: time.Now()}
	m := &Models{started: s.lastUse.Add(-e.Stats().Elapsed), slots: []*slot{s}, names: map[string]*slot{s.name: s}, standard: s, memory: e.Memory, room: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// add adds a model. The caller holds the lock, or has not shared m yet.
func (m *Models) add(name string) error {
	switch {
	case name == "":
		return errors.New("server: the name of a model is empty")
	case strings.ContainsFunc(name, unicode.IsControl):
		return refusef("the name of model %q has a control character; expected a Hugging Face id, a directory, or builtin", name)
	case m.names[name] != nil:
		return fmt.Errorf("server: model %s is given twice; give it once", name)
	}
	s := &slot{name: name}
	m.slots, m.names[name] = append(m.slots, s), s
	return nil
}

// addAliases adds the aliases in an order in which each follows the one that it names.
func (m *Models) addAliases(aliases map[string]string) error {
	rest := slices.Sorted(maps.Keys(aliases))
	for _, alias := range rest {
		if err := m.checkAlias(alias); err != nil {
			return fmt.Errorf("server: %w", err)
		}
	}
	for len(rest) > 0 {
		left := slices.DeleteFunc(slices.Clone(rest), func(alias string) bool { return m.alias(alias, aliases[alias]) == nil })
		if len(left) == len(rest) {
			return m.aliasError(left[0], aliases)
		}
		rest = left
	}
	return nil
}

// aliasError reports why an alias leads to no model.
func (m *Models) aliasError(alias string, aliases map[string]string) error {
	seen, target := map[string]bool{}, alias
	for next, ok := aliases[target]; ok; next, ok = aliases[target] {
		if seen[target] {
			return fmt.Errorf("server: alias %s leads back to itself; let it name a model: %s", target, m.knownNames())
		}
		seen[target], target = true, next
	}
	return fmt.Errorf("server: alias %s names %q, which is not served; expected one of %s", alias, target, m.knownNames())
}

// alias adds an alias for a model or for another alias.
func (m *Models) alias(alias, target string) error {
	s := m.names[target]
	if s == nil {
		return m.unknown()
	}
	return m.setAlias(alias, s)
}

// setAlias makes a name lead to a model, whatever it led to before.
func (m *Models) setAlias(alias string, s *slot) error {
	if err := m.checkAlias(alias); err != nil {
		return err
	}
	m.removeAlias(alias)
	m.names[alias], s.aliases = s, append(s.aliases, alias)
	return nil
}

// builtin is the name of the model that every Load can open, also if it is not served.
const builtin = "builtin"

// checkAlias refuses an alias that is the name of a model, or that no model of the hub
// could have. Aliases are listed in answers and errors, one after the other.
func (m *Models) checkAlias(alias string) error {
	s := m.names[alias]
	switch {
	case alias == "":
		return refusef("an alias is empty")
	case !utf8.ValidString(alias), strings.ContainsFunc(alias, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }):
		return refusef("alias %q has a space or a control character; expected letters, digits and punctuation", alias)
	case alias == builtin, s != nil && s.name == alias:
		return refusef("alias %s is the name of a model; choose another alias", alias)
	}
	return nil
}

// removeAlias takes an alias out of the names, if it is one.
func (m *Models) removeAlias(alias string) {
	if s := m.names[alias]; s != nil {
		s.aliases = slices.DeleteFunc(s.aliases, func(a string) bool { return a == alias })
		delete(m.names, alias)
	}
}

// shownNames is the number of names that an error lists.
const shownNames = 20

// knownNames lists the models and their aliases for an error.
func (m *Models) knownNames() string {
	var names []string
	for _, s := range m.served() {
		names = append(append(names, s.name), s.aliases...)
	}
	if more := len(names) - shownNames; more > 0 {
		names = append(names[:shownNames], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// served returns the models that requests may name. The caller holds the lock.
func (m *Models) served() []*slot {
	return slices.DeleteFunc(slices.Clone(m.slots), func(s *slot) bool { return s.gone })
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

// loadAll loads every model, one after the other.
func (m *Models) loadAll(ctx context.Context) error {
	var sum int64
	for _, s := range m.slots {
		model, err := m.acquire(ctx, s)
		if err != nil {
			return m.cause(s, err)
		}
		m.release(s)
		if sum += model.info.WeightBytes; m.MaxBytes > 0 && sum > m.MaxBytes {
			return fmt.Errorf("server: the models up to %s take %s, more than the limit of %s; raise the limit, or load models at their first use", s.name, megabytes(sum), megabytes(m.MaxBytes))
		}
	}
	return nil
}

// cause returns the error of a load without errLoad.
func (m *Models) cause(s *slot, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, errLoad) && s.failure != nil {
		return s.failure
	}
	return err
}

// limitWaiters lets the requests that wait for a load take half of a server's room, so that
// the others are answered by the models that are loaded.
func (m *Models) limitWaiters(requests int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiters = max(1, requests/2)
}

// find returns the model of a name, or the default model for none.
func (m *Models) find(name string, anyModel bool) (*slot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s := m.names[name]; {
	case s != nil:
		return s, nil
	case name == "" || anyModel:
		return m.standard, nil
	}
	return nil, m.unknown()
}

// unknown returns the error for a name that is not served.
func (m *Models) unknown() error {
	return fmt.Errorf("%w: expected one of %s", errUnknownModel, m.knownNames())
}

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
		if victim.unload == nil {
			m.beginUnload(victim, "memory")
		}
		done := victim.unload.done
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
// finish before. The caller holds the lock.
func (m *Models) beginUnload(s *slot, reason string) {
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
}

// drop forgets a removed model, except for its statistics.
func (m *Models) drop(s *slot) {
	m.removed.Add(&s.past)
	m.slots = slices.DeleteFunc(m.slots, func(other *slot) bool { return other == s })
}

// figures returns the statistics of all engines that the slot had.
func (s *slot) figures() telemetry.Snapshot {
	past := s.past
	past.Live, past.Waiting, past.Reserved, past.InFlight = 0, 0, 0, 0
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
