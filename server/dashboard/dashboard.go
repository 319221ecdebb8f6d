// Package dashboard is a live view of an engine: one page, and what feeds it.
//
// One sampler reads the engine's figures once a second, whoever watches. Each
// second is encoded once and handed as the same bytes to all who watch; one who
// does not take them in time is let go. The last ten minutes are kept here, so
// that a page that is loaded again has them.
package dashboard

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/engine/system"
	"github.com/mlxrank/mlxrank/mlx"
)

const (
	every   = time.Second // a row
	history = 600         // rows kept
)

// Engine is what the dashboard reads of an engine.Engine; tests have others.
type Engine interface {
	Stats() engine.Stats
	Info() engine.Info
	Memory() (mlx.Memory, error)
}

// Options say how the dashboard presents itself.
type Options struct {
	Version string // of the program
	Logger  zerolog.Logger
}

// A Dashboard keeps the last ten minutes of an engine's figures and serves
// them, with the page that shows them. All it serves is below /dashboard; its
// data, which may be for holders of a key only, below /dashboard/api/.
type Dashboard struct {
	Options
	engine  Engine
	sampler *sampler
	routes  *http.ServeMux
	facts   []byte // Facts as JSON

	mu   sync.Mutex
	ring ring
	last []byte // Summary of the last second as JSON, null before
	hub  hub
}

// New makes a dashboard of an engine, which must outlive Run.
func New(e Engine, o Options) (*Dashboard, error) {
	machine, err := system.New()
	if err != nil {
		return nil, err
	}
	d := &Dashboard{Options: o, engine: e, sampler: newSampler(e, machine, o.Logger), last: []byte("null")}
	if d.facts, err = encode(d.describe()); err != nil {
		return nil, err
	}
	return d, d.makeRoutes()
}

// Run samples the engine once a second until ctx ends, and then lets all who
// watch go.
func (d *Dashboard) Run(ctx context.Context) error {
	defer d.closeHub()
	start := time.Now()
	d.sampler.begin(ctx, start)
	for {
		k := int(time.Since(start)/every) + 1
		timer := time.NewTimer(time.Until(start.Add(time.Duration(k) * every)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if err := d.second(ctx); err != nil {
			return err
		}
	}
}

// second adds a row and tells all who watch.
func (d *Dashboard) second(ctx context.Context) error {
	e := d.sampler.sample(ctx)
	var err error
	if e.encoded, err = encode(e.row); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ring.add(e)
	if d.last, err = encode(d.ring.summary()); err != nil {
		return err
	}
	d.hub.tell(event("second", object(field{"row", e.encoded}, field{"summary", d.last})))
	return nil
}

func (d *Dashboard) closeHub() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hub.close()
}

// snapshot is all there is as JSON: what runs, the rows and the summary.
func (d *Dashboard) snapshot() []byte {
	return object(field{"facts", d.facts}, field{"rows", d.ring.encoded()}, field{"summary", d.last})
}
