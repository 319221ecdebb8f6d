package fleet

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

type reporter struct {
	fleet *Fleet
	mu    sync.Mutex
	state WorkerState
	news  chan struct{}
}

func newReporter(f *Fleet, name string) *reporter {
	return &reporter{fleet: f, state: WorkerState{ID: newID(), Name: name}, news: make(chan struct{}, 1)}
}

// set changes the state.
func (r *reporter) set(change func(*WorkerState)) {
	r.mu.Lock()
	change(&r.state)
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// id returns the worker's id.
func (r *reporter) id() string { return r.state.ID }

// reportEvery is the time between reports; three may be lost.
const reportEvery = workerTTL / 3

// settle is the time in which several changes become one report.
const settle = time.Second

// run reports until ctx ends, and then removes the report.
func (r *reporter) run(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if err := r.send(ctx); err != nil && ctx.Err() == nil {
			r.fleet.log.Debug().Err(err).Msg("report of the worker")
			// A server that was restarted has lost the bucket, which is in its memory.
			if err := r.fleet.ensure(ctx); err != nil && ctx.Err() == nil {
				r.fleet.log.Debug().Err(err).Msg("make the streams again")
			}
		}
		select {
		case <-tick.C:
		case <-r.news:
			select {
			case <-time.After(settle):
			case <-ctx.Done():
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if err := r.fleet.bucket(workersBucket).Purge(last, r.id()); err != nil {
				r.fleet.log.Debug().Err(err).Msg("remove the report of the worker")
			}
			return
		}
	}
}

func (r *reporter) send(ctx context.Context) error {
	r.mu.Lock()
	value, err := json.Marshal(r.state)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = r.fleet.bucket(workersBucket).Put(ctx, r.id(), value)
	return err
}
