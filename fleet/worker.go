package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// A Backend scores pairs with one model.
type Backend interface {
	Identity() Identity
	// Score scores the pairs, which came from one chunk, together.
	Score(ctx context.Context, pairs []engine.Pair) ([]Score, error)
	Close() error
}

// WorkerConfig configures a worker.
type WorkerConfig struct {
	Name string
	// Open opens the model of a job. The worker keeps one backend open, and closes it
	// before it opens another one.
	Open   func(context.Context, Settings) (Backend, error)
	Logger zerolog.Logger

	turn time.Duration // 0 is defaultTurn; for tests
}

// defaultTurn is how long a worker stays with a model while jobs with other models wait.
const defaultTurn = 5 * time.Minute

// A worker takes parts of jobs and scores them.
type worker struct {
	fleet   *Fleet
	config  WorkerConfig
	jobs    *jobList
	log     zerolog.Logger
	report  *reporter
	backend Backend
	open    string               // settings of backend
	started time.Time            // when the turn of the open model began
	busy    time.Time            // when the worker last had a part
	worked  map[string]time.Time // when the worker last took parts of a job
	known   map[string]bool      // jobs to which the worker is admitted with the open model
	refused map[string]string    // why, by job
	again   map[string]time.Time // when to try a refused job again whose data could not be read
}

// Work takes parts and scores them until stop is closed or ctx ends. After stop it
// finishes the parts that it has. If ctx ends it drops them; other workers get them then.
func (f *Fleet) Work(ctx context.Context, stop <-chan struct{}, c WorkerConfig) error {
	if c.turn == 0 {
		c.turn = defaultTurn
	}
	w := &worker{fleet: f, config: c, log: c.Logger, worked: map[string]time.Time{}, refused: map[string]string{}, again: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	w.jobs = newJobList()
	w.report = newReporter(f, c.Name)
	background.Go(func() { w.jobs.watch(ctx, f) })
	background.Go(func() { w.report.run(ctx) })
	defer func() {
		if w.backend != nil {
			if err := w.backend.Close(); err != nil {
				w.log.Warn().Err(err).Msg("close the model")
			}
		}
	}()
	return w.run(ctx, stop)
}

// run takes turns: in each, the worker takes parts that need the same model.
func (w *worker) run(ctx context.Context, stop <-chan struct{}) error {
	for {
		if isClosed(stop) || ctx.Err() != nil {
			return nil
		}
		changed := w.jobs.changed()
		w.forgetEnded()
		job, err := w.choose(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if job == nil {
			select {
			case <-changed:
			case <-time.After(2 * time.Second): // a part may have come back to a queue
			case <-stop:
			case <-ctx.Done():
			}
			continue
		}
		if err := w.serve(ctx, stop, job); err != nil {
			return err
		}
	}
}

// serve takes a turn of a job. It returns when the job ends, whatever the server was
// asked then: a job that has ended has no store and no queue, and would not answer.
func (w *worker) serve(ctx context.Context, stop <-chan struct{}, job *Job) error {
	ctx, cancel := w.jobs.during(ctx, job.ID)
	defer cancel()
	err := w.admit(ctx, job)
	var refused *RefusedError
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.As(err, &refused):
		w.refuse(job, refused)
		return nil
	case err != nil:
		return err
	}
	w.turn(ctx, stop, job)
	return nil
}

// forgetEnded forgets why the worker refused jobs that have ended: its report must stay
// short.
func (w *worker) forgetEnded() {
	before := len(w.refused)
	maps.DeleteFunc(w.refused, func(id string, _ string) bool { return !w.jobs.has(id) })
	if len(w.refused) != before {
		w.reportRefused()
	}
}

// idleSwitch is how long a worker without parts waits before it opens the model of a job
// whose parts other workers have: one of them may have died.
const idleSwitch = 10 * time.Second

// The ranks of jobs to take parts of, the best first.
const (
	waitingHere = iota // parts wait for a worker with the open model
	waitingAny         // parts wait
	heldHere           // other workers have parts for the open model
	heldAny            // other workers have parts
	nothing
)

// choose returns the job whose parts to take next, or nil if no job has any. Of jobs of
// equal rank it returns the one that the worker left the longest time ago.
func (w *worker) choose(ctx context.Context) (*Job, error) {
	var chosen *Job
	best := nothing
	jobs := w.jobs.active()
	if len(jobs) == 1 && !w.isRefused(jobs[0].ID) {
		info, err := w.fleet.queueInfo(ctx, jobs[0])
		if err != nil || info == nil { // its submitter has not made it yet
			return nil, err
		}
		return jobs[0], nil // if it has no parts, the turn waits for one
	}
	for _, job := range jobs {
		if w.isRefused(job.ID) {
			continue
		}
		queued, taken, err := w.fleet.partsOf(ctx, job)
		if err != nil {
			return nil, err
		}
		rank := w.rank(job, queued, taken)
		if rank < best || rank == best && rank < nothing && w.worked[job.ID].Before(w.worked[chosen.ID]) {
			chosen, best = job, rank
		}
	}
	return chosen, nil
}

// rank returns how good it is to take parts of a job next.
func (w *worker) rank(job *Job, queued, taken int) int {
	here := w.backend != nil && w.open == job.Settings.key()
	idle := time.Since(w.busy) > idleSwitch
	switch {
	case queued > 0 && here && time.Since(w.started) < w.config.turn:
		return waitingHere
	case queued > 0:
		return waitingAny
	case taken > 0 && here && !idle:
		return heldHere
	case taken > 0 && (idle || w.backend == nil):
		return heldAny
	}
	return nothing
}

// partsOf returns how many parts of a job wait for a worker, and how many workers have
// or had and did not finish.
func (f *Fleet) partsOf(ctx context.Context, job *Job) (queued, taken int, err error) {
	info, err := f.queueInfo(ctx, job)
	if err != nil || info == nil {
		return 0, 0, err
	}
	return int(info.NumPending), info.NumAckPending, nil
}

// queueInfo returns the state of a job's queue, or nil if the job has ended.
func (f *Fleet) queueInfo(ctx context.Context, job *Job) (info *jetstream.ConsumerInfo, err error) {
	err = f.retry(ctx, func(ctx context.Context) error {
		consumer, err := f.parts.Consumer(ctx, job.ID)
		if err != nil {
			return err
		}
		info = consumer.CachedInfo()
		return nil
	})
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	return info, err
}

// admit opens the model of a job and checks that it scores as the submitter's does.
func (w *worker) admit(ctx context.Context, job *Job) error {
	if w.backend != nil && w.open == job.Settings.key() && w.known[job.ID] {
		return nil
	}
	packed, err := w.readCanary(ctx, job) // before the model, which may take minutes to open
	if err != nil {
		w.again[job.ID] = time.Now().Add(retryStore)
		return refusef("the job's data cannot be read here: %v", err)
	}
	canary, err := decodeCanary(packed)
	if err != nil {
		return refusef("the canary cannot be read: %v", err)
	}
	if err := w.openFor(ctx, job); err != nil {
		return err
	}
	if err := checkIdentity(job, w.backend.Identity()); err != nil {
		return err
	}
	own, err := w.backend.Score(ctx, canary.Pairs)
	if err != nil {
		return refusef("the canary cannot be scored here: %v", err)
	}
	if err := checkCanary(job, canary, own); err != nil {
		return err
	}
	w.known[job.ID] = true
	return nil
}

// retryStore is the time after which a worker tries again to read the data of a job.
const retryStore = 5 * time.Second

func (w *worker) readCanary(ctx context.Context, job *Job) ([]byte, error) {
	data, err := w.fleet.openStore(ctx, job)
	if err != nil {
		return nil, err
	}
	return data.get(ctx, canaryName)
}

// isRefused reports whether the worker leaves a job to others for now.
func (w *worker) isRefused(job string) bool {
	again, found := w.again[job]
	if found && time.Now().After(again) {
		delete(w.again, job)
		delete(w.refused, job)
		w.reportRefused()
	}
	_, refused := w.refused[job]
	return refused
}

// openFor opens the model of a job if another one is open.
func (w *worker) openFor(ctx context.Context, job *Job) error {
	key := job.Settings.key()
	if w.backend != nil && w.open == key {
		return nil
	}
	if w.backend != nil {
		err := w.backend.Close()
		w.backend = nil
		if err != nil {
			return fmt.Errorf("close the model: %w", err)
		}
	}
	w.log.Info().Str("job", job.ID).Str("model", job.Settings.Model).Msg("opening the model")
	backend, err := w.config.Open(ctx, job.Settings)
	if err != nil {
		return refusef("model %s cannot be opened here: %v", job.Settings.Model, err)
	}
	w.backend, w.open, w.started, w.known = backend, key, time.Now(), map[string]bool{}
	w.report.set(func(s *WorkerState) { s.Class, s.Model = backend.Identity().Class, job.Settings.Model })
	return nil
}

// refuse leaves a job to other workers.
func (w *worker) refuse(job *Job, err error) {
	w.refused[job.ID] = err.Error()
	w.log.Warn().Str("job", job.ID).Str("reason", err.Error()).Msg("this worker is not admitted to the job")
	w.reportRefused()
}

func (w *worker) reportRefused() {
	refused := maps.Clone(w.refused)
	w.report.set(func(s *WorkerState) { s.Refused = refused })
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
