package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mlxrank/mlxrank/engine"
)

// Progress is what a job's workers have finished.
type Progress struct {
	Parts int
	Pairs int
}

// Results reads the results of a job while workers finish it.
type Results struct {
	fleet *Fleet
	job   *Job
	data  store
	stop  context.CancelFunc
	ended chan struct{}
	// active ends with the job, which may be done or cancelled elsewhere. The server does
	// not answer for its data then.
	active context.Context
	end    context.CancelCauseFunc

	mu       sync.Mutex
	commits  map[int]Commit
	failures map[int]Failure   // parts that failed for good
	present  int               // workers that score the job now
	busy     int               // workers that score other jobs
	refused  map[string]string // why the job does not admit a worker, by the worker's name
	err      error             // that ended the watching
	changed  chan struct{}     // closed at the next change
	readings map[int]*reading  // of the parts after the last one that was waited for
	readers  sync.WaitGroup
}

// A PartError reports a part that failed for good.
type PartError struct {
	Job     string
	Part    int
	Failure Failure
}

func (e *PartError) Error() string {
	return fmt.Sprintf("part %d of job %s failed %d times, the last time on worker %s: %s", e.Part, e.Job, e.Failure.Deliveries, e.Failure.Worker, e.Failure.Reason)
}

// ErrCancelled reports a job that was cancelled.
var ErrCancelled = errors.New("the job was cancelled")

// ErrDone reports a job whose output another command has.
var ErrDone = errors.New("the job is done")

// Results starts to watch the commits and failures of a job.
func (f *Fleet) Results(ctx context.Context, job *Job) (*Results, error) {
	data, err := f.openStore(ctx, job)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	r := &Results{fleet: f, job: job, data: data, stop: stop, ended: make(chan struct{}), commits: map[int]Commit{}, failures: map[int]Failure{}, readings: map[int]*reading{}, changed: make(chan struct{})}
	r.active, r.end = context.WithCancelCause(context.Background())
	go r.watch(ctx)
	return r, nil
}

// Close ends the watching.
func (r *Results) Close() {
	r.stop()
	<-r.ended
	r.end(nil)
	r.readers.Wait()
}

// recheckEvery is the time between looks for parts that JetStream gave up: they have no
// key that could be watched.
const recheckEvery = 5 * time.Second

// watch keeps the commits and failures up to date until ctx ends.
func (r *Results) watch(ctx context.Context) {
	defer close(r.ended)
	for ctx.Err() == nil {
		err := r.watchOnce(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if !isTemporary(err) {
			r.change(func() { r.err = err })
			return
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (r *Results) watchOnce(ctx context.Context) error {
	connection := r.fleet.connection()
	watcher, err := r.fleet.bucket(commitsBucket).Watch(ctx, r.job.ID+".*")
	if err != nil {
		return err
	}
	defer stopWatch(watcher)
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	if err := r.recheck(ctx); err != nil {
		return err
	}
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return context.DeadlineExceeded // the connection is lost: watch again
			}
			if entry != nil {
				r.note(entry)
			}
		case <-connection.Done():
			return connection.Err()
		case <-tick.C:
			if err := r.recheck(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// note records a commit, or that one was withdrawn.
func (r *Results) note(entry jetstream.KeyValueEntry) {
	part, err := partOfKey(entry.Key())
	if err != nil {
		return
	}
	r.change(func() {
		var commit Commit
		if entry.Operation() != jetstream.KeyValuePut || json.Unmarshal(entry.Value(), &commit) != nil {
			delete(r.commits, part)
			return
		}
		r.commits[part] = commit
	})
}

// recheck looks for failures and whether the job has ended.
func (r *Results) recheck(ctx context.Context) error {
	job, err := r.fleet.Job(ctx, r.job.ID)
	if err != nil {
		return err
	}
	switch job.State {
	case Cancelled:
		r.end(fmt.Errorf("%w: %s", ErrCancelled, job.ID))
		return nil
	case Done:
		r.end(fmt.Errorf("%w: %s; another command has its output", ErrDone, job.ID))
		return nil
	}
	failures, err := r.fleet.failedParts(ctx, r.job, r.isDone)
	if err != nil {
		return err
	}
	workers, err := r.fleet.Workers(ctx)
	if err != nil {
		return err
	}
	present, busy, refused := 0, 0, map[string]string{}
	for _, w := range workers {
		switch w.Job {
		case job.ID:
			present++
		case "":
		default:
			busy++
		}
		if reason := w.Refused[job.ID]; reason != "" {
			refused[w.Name] = reason
		}
	}
	r.change(func() {
		r.failures, r.present, r.busy, r.refused = failures, present, busy, refused
	})
	return r.restore(ctx, job, len(failures))
}

// restore queues parts that are neither finished nor failed although the queue is empty.
// The queue lost them: a worker died while it queued one again, or the server's disk
// forgot one.
func (r *Results) restore(ctx context.Context, job *Job, failed int) error {
	if job.State != Open || r.Progress().Parts+failed >= job.Parts {
		return nil
	}
	queued, taken, err := r.fleet.partsOf(ctx, job)
	if err != nil || queued+taken > 0 {
		return err
	}
	if err := r.fleet.Rebuild(ctx, job, false); err != nil && ctx.Err() == nil {
		r.fleet.log.Warn().Err(err).Str("job", job.ID).Msg("parts are missing from the queue, and cannot be queued again")
	}
	return nil
}

func (r *Results) isDone(part int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, done := r.commits[part]
	return done
}

func (r *Results) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of Progress.
func (r *Results) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Progress returns what is finished.
func (r *Results) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{Parts: len(r.commits)}
	for _, commit := range r.commits {
		p.Pairs += commit.Pairs
	}
	return p
}

// Present returns how many workers score parts of the job now.
func (r *Results) Present() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.present
}

// Busy returns how many workers score other jobs now.
func (r *Results) Busy() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy
}

// Refused returns why the job does not admit workers, by their names.
func (r *Results) Refused() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// Workers returns the names of the workers that finished parts.
func (r *Results) Workers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[string]bool{}
	for _, commit := range r.commits {
		names[commit.Worker] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Wait returns the scores of a part, which has these chunks of pairs, when it is
// finished. A part that failed for good is a *PartError. If a result is damaged, Wait
// removes it and queues the part again.
func (r *Results) Wait(ctx context.Context, part Part, chunks [][]engine.Pair) ([]Score, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(r.active, func() { cancel(context.Cause(r.active)) })
	defer stop()
	for {
		commit, err := r.waitForCommit(ctx, part)
		if err != nil {
			return nil, err
		}
		packed, err := r.read(ctx, part.Index, commit)
		if err != nil && !errors.Is(err, errMissing) {
			return nil, fmt.Errorf("read the result of part %d: %w", part.Index, err)
		}
		var scores []Score
		if err == nil {
			scores, err = decodeScores(packed, commit, part.Pairs)
		}
		if err == nil {
			return scores, nil
		}
		r.fleet.log.Warn().Err(err).Int("part", part.Index).Str("worker", commit.Worker).Msg("the result of a part is damaged; the part is scored again")
		if err := r.withdraw(ctx, part, chunks); err != nil {
			return nil, err
		}
	}
}

func (r *Results) waitForCommit(ctx context.Context, part Part) (Commit, error) {
	for {
		r.mu.Lock()
		commit, done := r.commits[part.Index]
		failure, failed := r.failures[part.Index]
		changed, err := r.changed, r.err
		r.mu.Unlock()
		switch {
		case err != nil:
			return Commit{}, err
		case done:
			return commit, nil
		case failed:
			return Commit{}, &PartError{r.job.ID, part.Index, failure}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Commit{}, context.Cause(ctx)
		}
	}
}

// withdraw removes the commit of a part and queues the part again, with its pairs, which
// may have been removed.
func (r *Results) withdraw(ctx context.Context, part Part, chunks [][]engine.Pair) error {
	packed, err := encodePairs(chunks)
	if err != nil {
		return err
	}
	if found := hashOf(packed); found != part.SHA256 {
		return fmt.Errorf("the pairs of part %d have SHA-256 %s, expected %s; the input has changed", part.Index, found, part.SHA256)
	}
	if err := r.data.put(ctx, part.pairsName(), packed); err != nil {
		return err
	}
	err = r.fleet.retry(ctx, func(ctx context.Context) error {
		return r.fleet.bucket(commitsBucket).Purge(ctx, keyOf(part.Job, part.Index))
	})
	if err != nil {
		return err
	}
	r.change(func() { delete(r.commits, part.Index) })
	return r.fleet.publish(ctx, part)
}

// Release removes the data of a part whose scores are kept elsewhere. Only its commit
// stays.
func (r *Results) Release(ctx context.Context, part Part) error {
	r.mu.Lock()
	commit, done := r.commits[part.Index]
	r.mu.Unlock()
	if !done {
		return nil
	}
	return errors.Join(r.data.remove(ctx, part.pairsName()), r.data.remove(ctx, commit.Object))
}

// partOfKey returns the part of a key of commits or failures.
func partOfKey(key string) (int, error) {
	_, text, _ := strings.Cut(key, ".")
	return strconv.Atoi(text)
}

// commitsOf returns the commits of a job by part.
func (f *Fleet) commitsOf(ctx context.Context, job *Job) (map[int]Commit, error) {
	return entriesOf[Commit](ctx, f, commitsBucket, job.ID+".*", partOfKey)
}

// entriesOf returns the values of a bucket's keys that match a pattern.
func entriesOf[T any, K comparable](ctx context.Context, f *Fleet, bucket, pattern string, keyOf func(string) (K, error)) (map[K]T, error) {
	found := map[K]T{}
	err := f.retry(ctx, func(ctx context.Context) error {
		clear(found)
		watcher, err := f.bucket(bucket).Watch(ctx, pattern, jetstream.IgnoreDeletes())
		if err != nil {
			return err
		}
		defer stopWatch(watcher)
		for {
			select {
			case entry, ok := <-watcher.Updates():
				switch {
				case !ok:
					return context.DeadlineExceeded
				case entry == nil:
					return nil
				}
				var value T
				key, err := keyOf(entry.Key())
				if err == nil && json.Unmarshal(entry.Value(), &value) == nil {
					found[key] = value
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return found, err
}
