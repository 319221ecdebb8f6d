package server

import (
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

	deadlines answeredDeadlines

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
