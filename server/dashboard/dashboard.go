// Package dashboard shows an engine live: one page, and the server of its data.
//
// One sampler reads the engine's figures once a second. Each second is encoded
// once, and all watchers get the same bytes. A watcher that does not read them in
// time is disconnected. The server keeps the last ten minutes, so that a page
// that is loaded again shows them.
package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

const (
	every   = time.Second // length of a row
	history = 600         // rows kept
)

// Engine is what the dashboard needs of an engine.Engine.
type Engine interface {
	Stats() engine.Stats
	Info() engine.Info
	Memory() (engine.Memory, error)
}

// Options configure a dashboard.
type Options struct {
	Version string // of the program
	Logger  zerolog.Logger
	// Models returns the served models for the page, which reads the JSON of
	// server.ServedModel; nil for a program with one model.
	Models func() any
	// Deadlines returns how many answers with scores had a deadline of their client, since
	// the start: those that left in time, and those that did not although the engine's part
	// was in time; nil for a program that does not count them.
	Deadlines func() (met, late int64)
}

// Facts describe a server. They change when another model becomes the default one.
type Facts struct {
	telemetry.Info
	Version   string `json:"version"`
	StartedMS int64  `json:"started_ms"`   // Unix time
	History   int    `json:"history_rows"` // limit of the rows kept
}

// A Dashboard keeps the last ten minutes of an engine's figures and serves them
// with the page that shows them. It serves paths below /dashboard; its data,
// which may need a key, is below /dashboard/api/.
type Dashboard struct {
	Options
	engine  Engine
	machine telemetry.MachineReader
	sampler *telemetry.Sampler
	routes  *http.ServeMux
	started int64 // Unix time in milliseconds
	counted deadlines

	mu     sync.Mutex
	facts  []byte // Facts as JSON
	models []byte // as JSON, null without Options.Models
	ring   ring
	last   []byte // Summary of the last second as JSON, null at first
	hub    hub
}

// New makes a dashboard of an engine, which must outlive Run.
func New(e Engine, o Options) (*Dashboard, error) {
	machine, err := telemetry.NewMachineReader(e.Memory)
	if err != nil {
		return nil, err
	}
	d := &Dashboard{Options: o, engine: e, machine: machine, last: []byte("null")}
	d.started = time.Now().Add(-e.Stats().Elapsed).UnixMilli()
	if _, err := d.describe(); err != nil {
		return nil, err
	}
	return d, d.makeRoutes()
}

// describe brings facts and models up to date. It reports whether the facts changed.
func (d *Dashboard) describe() (changed bool, err error) {
	info, served := d.engine.Info(), any(nil)
	if d.Models != nil {
		served = d.Models()
	}
	facts, err := json.Marshal(Facts{Info: info.Summary(), Version: d.Version, StartedMS: d.started, History: history})
	if err != nil {
		return false, err
	}
	models, err := json.Marshal(served)
	if err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	changed = !bytes.Equal(facts, d.facts)
	d.facts, d.models = facts, models
	return changed, nil
}

// Run samples the engine once a second until ctx ends, and then disconnects all
// watchers.
func (d *Dashboard) Run(ctx context.Context) error {
	defer d.closeHub()
	start := time.Now()
	d.begin(ctx)
	for {
		k := time.Since(start)/every + 1
		if !telemetry.SleepUntil(ctx, start.Add(k*every)) {
			return nil
		}
		if err := d.second(ctx); err != nil {
			return err
		}
	}
}

// begin takes the first reading.
func (d *Dashboard) begin(ctx context.Context) {
	var err error
	d.sampler, err = telemetry.NewSampler(ctx, func() telemetry.Snapshot { return telemetry.Snapshot(d.engine.Stats()) }, d.machine)
	d.logMissing(ctx, err)
	d.counted = d.countDeadlines()
}

// second adds a row and sends it to all watchers.
func (d *Dashboard) second(ctx context.Context) error {
	interval, err := d.sampler.Next(ctx)
	d.logMissing(ctx, err)
	e, err := newEntry(interval)
	if err != nil {
		return err
	}
	e.deadlinesBefore, e.deadlines = d.counted, d.countDeadlines()
	d.counted = e.deadlines
	changed, err := d.describe()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ring.add(e)
	if d.last, err = json.Marshal(d.ring.summary()); err != nil {
		return err
	}
	if changed {
		d.hub.send(event("facts", d.facts))
	}
	d.hub.send(event("second", fmt.Appendf(nil, `{"row":%s,"summary":%s,"models":%s}`, e.encoded, d.last, d.models)))
	return nil
}

// logMissing logs which figures of the machine could not be read.
func (d *Dashboard) logMissing(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		d.Logger.Debug().Err(err).Msg("figures of the machine")
	}
}

func (d *Dashboard) closeHub() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hub.close()
}

// snapshot returns the facts, the rows, the summary and the models as JSON.
func (d *Dashboard) snapshot() []byte {
	return fmt.Appendf(nil, `{"facts":%s,"rows":%s,"summary":%s,"models":%s}`, d.facts, d.ring.encoded(), d.last, d.models)
}
