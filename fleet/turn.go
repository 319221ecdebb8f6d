package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mlxrank/mlxrank/engine"
)

// A worker waits for a part of a job for fetchWait before it looks at the other jobs, and
// for onlyWait if there is no other: a request that waits costs the server less than many.
// A wait that ends early goes on for grace, since a part may be on its way: it would come
// again only when its time is over.
const (
	fetchWait = 2 * time.Second
	onlyWait  = 10 * time.Second
	grace     = time.Second
)

// A task is a part that the worker holds. Until it is released, the worker renews its
// hold, so that no other worker receives the part.
type task struct {
	part    Part
	message jetstream.Msg
	chunks  [][]engine.Pair
	err     error // of reading the pairs
	release context.CancelFunc
	done    chan struct{} // closed when the worker has ended its work on the part
}

// turn takes parts of a job and scores them, until none is left, the turn is over and
// other jobs wait, or the worker stops. While a part is scored, the next one is read: a
// worker holds at most two.
func (w *worker) turn(ctx context.Context, stop <-chan struct{}, job *Job) {
	if time.Since(w.started) >= w.config.turn {
		w.started = time.Now()
	}
	data, err := w.fleet.openStore(ctx, job)
	if err != nil {
		if ctx.Err() == nil && w.jobs.has(job.ID) { // else the job has just ended
			w.again[job.ID] = time.Now().Add(retryStore)
			w.refuse(job, err)
		}
		return
	}
	queue, err := w.fleet.parts.Consumer(ctx, job.ID)
	if err != nil {
		w.pauseAfter(ctx, err)
		return
	}
	w.report.set(func(s *WorkerState) { s.Job = job.ID })
	tasks, over := make(chan *task), make(chan struct{})
	until := w.started.Add(w.config.turn)
	go func() {
		defer close(tasks)
		for w.more(ctx, stop, over, job, until) {
			next := w.fetch(ctx, job, data, func() (jetstream.Msg, error) { return w.fetchOne(ctx, stop, over, queue) })
			if next == nil && w.jobs.others() {
				return
			}
			if next == nil {
				continue
			}
			select {
			case tasks <- next:
				// A part that comes again may be what ended an earlier worker. The next part
				// would go down with this worker, again and again.
				if next.deliveries() > 1 {
					<-next.done
				}
				continue
			case <-stop:
			case <-over:
			case <-ctx.Done():
			}
			w.giveBack(ctx, job, next)
			return
		}
	}()
	for next := range tasks {
		w.busy = time.Now()
		if !w.work(ctx, job, data, next) && !isClosed(over) {
			close(over)
		}
		close(next.done)
		if !w.jobs.has(job.ID) {
			w.sweep(ctx, job, data, next.part)
		}
	}
	w.worked[job.ID] = time.Now()
	w.report.set(func(s *WorkerState) { s.Job, s.Part = "", 0 })
}

// more reports whether the turn goes on.
func (w *worker) more(ctx context.Context, stop, over <-chan struct{}, job *Job, until time.Time) bool {
	if ctx.Err() != nil || isClosed(stop) || isClosed(over) || !w.jobs.has(job.ID) {
		return false
	}
	return time.Now().Before(until) || !w.jobs.others()
}

// fetch returns the next part of a job, or nil if none came.
func (w *worker) fetch(ctx context.Context, job *Job, data store, fetchOne func() (jetstream.Msg, error)) *task {
	message, err := fetchOne()
	if err != nil {
		w.pauseAfter(ctx, err)
	}
	if message == nil {
		return nil
	}
	t := &task{message: message, done: make(chan struct{})}
	held, release := context.WithCancel(ctx)
	t.release = release
	go renew(held, message, job.AckWait/3)
	if t.err = json.Unmarshal(message.Data(), &t.part); t.err != nil {
		return t
	}
	if t.part.Version != Version || t.part.Job != job.ID || t.part.Model != job.Identity.Model {
		t.err = fmt.Errorf("part %d has version %d and model %s, expected %d and %s", t.part.Index, t.part.Version, t.part.Model, Version, job.Identity.Model)
		return t
	}
	packed, err := data.get(ctx, t.part.pairsName())
	if err == nil {
		t.chunks, err = decodePairs(packed, t.part)
	}
	t.err = err
	return t
}

// pauseAfter waits after an error of the queue: the next try may fail as fast.
func (w *worker) pauseAfter(ctx context.Context, err error) {
	w.log.Debug().Err(err).Msg("fetch a part")
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
}

// fetchOne returns the next message of a queue, or nil. It asks for one message: what a
// client buffers beyond that, other workers lack, and it comes again when its time is
// over.
func (w *worker) fetchOne(ctx context.Context, stop, over <-chan struct{}, queue jetstream.Consumer) (jetstream.Msg, error) {
	wait, changed := onlyWait, w.jobs.changed()
	if w.jobs.others() {
		wait = fetchWait
	}
	ctx, cancel := w.fleet.untilBroken(ctx, wait)
	defer cancel()
	go func() {
		select {
		case <-changed:
		case <-stop:
		case <-over:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(grace):
			cancel()
		case <-ctx.Done():
		}
	}()
	batch, err := queue.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, err
	}
	for message := range batch.Messages() {
		return message, nil
	}
	if ctx.Err() != nil {
		return nil, nil
	}
	return nil, batch.Error()
}

// renew keeps a message until ctx ends.
func renew(ctx context.Context, message jetstream.Msg, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			message.InProgress() //nolint:errcheck // a part that is not renewed goes to another worker
		case <-ctx.Done():
			return
		}
	}
}

// work scores a part and commits it. It reports whether the worker may go on with the
// job.
func (w *worker) work(ctx context.Context, job *Job, data store, t *task) bool {
	defer t.release()
	// The pairs of a part that is finished may be gone.
	index := partOfSubject(t.message.Subject())
	switch done, err := w.fleet.isCommitted(ctx, Part{Job: job.ID, Index: index}); {
	case ctx.Err() != nil:
		w.giveBack(ctx, job, t)
		return false
	case err != nil:
		w.returnLater(t, time.Second)
		return false
	case done:
		w.acknowledge(ctx, t)
		return true
	}
	if t.err != nil {
		w.fail(ctx, job, t, t.err)
		return true
	}
	w.report.set(func(s *WorkerState) { s.Job, s.Part = job.ID, t.part.Index })
	start := time.Now()
	scores, err := w.score(ctx, t)
	switch {
	case ctx.Err() != nil:
		w.giveBack(ctx, job, t)
		return false
	case err != nil:
		w.fail(ctx, job, t, err)
		return w.checkAgain(ctx, job)
	}
	switch err := w.commit(ctx, data, t, scores, time.Since(start)); {
	case ctx.Err() != nil:
		w.giveBack(ctx, job, t)
		return false
	case err != nil:
		w.fail(ctx, job, t, err)
		return true
	}
	w.acknowledge(ctx, t)
	return true
}

// sweep removes what this worker wrote of a part after its job ended, and so after the
// submitter removed the job's data.
func (w *worker) sweep(ctx context.Context, job *Job, data store, part Part) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	key := keyOf(job.ID, part.Index)
	err := errors.Join(w.fleet.forget(ctx, commitsBucket, key), w.fleet.forget(ctx, failuresBucket, key), data.clear(ctx))
	if err != nil {
		w.log.Debug().Err(err).Str("job", job.ID).Msg("remove what was written of a job that has ended")
	}
}

// score scores the chunks of a part.
func (w *worker) score(ctx context.Context, t *task) ([]Score, error) {
	scores := make([]Score, 0, t.part.Pairs)
	for _, chunk := range t.chunks {
		part, err := w.backend.Score(ctx, chunk)
		if err != nil {
			return nil, err
		}
		if len(part) != len(chunk) {
			return nil, fmt.Errorf("the model gave %d scores for %d pairs", len(part), len(chunk))
		}
		scores = append(scores, part...)
	}
	return scores, checkScores(scores)
}

// commit writes the result of a part and makes it the part's result, unless another
// worker has done so.
func (w *worker) commit(ctx context.Context, data store, t *task, scores []Score, elapsed time.Duration) error {
	packed, err := encodeScores(scores)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("results/%06d-%s", t.part.Index, newID())
	if err := w.fleet.waitForStore(ctx, func() error { return data.put(ctx, name, packed) }); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	commit := Commit{Object: name, SHA256: hashOf(packed), Worker: w.config.Name, Elapsed: elapsed, Pairs: len(scores)}
	for _, s := range scores {
		if s.Err != "" {
			commit.Failed++
		}
	}
	mine, err := w.fleet.createCommit(ctx, t.part, commit)
	if err != nil {
		return fmt.Errorf("commit the result: %w", err)
	}
	if !mine {
		w.log.Info().Str("job", t.part.Job).Int("part", t.part.Index).Msg("another worker finished the part first")
		if err := data.remove(ctx, name); err != nil {
			w.log.Debug().Err(err).Msg("remove a result that is not needed")
		}
		return nil
	}
	w.report.set(func(s *WorkerState) {
		s.Pairs += int64(len(scores))
		s.Rate = float64(len(scores)) / max(elapsed.Seconds(), 1e-6)
	})
	return nil
}

// createCommit creates the key of a part. It reports whether the part's result is this
// one.
func (f *Fleet) createCommit(ctx context.Context, part Part, commit Commit) (mine bool, err error) {
	value, err := json.Marshal(commit)
	if err != nil {
		return false, err
	}
	key, there := keyOf(part.Job, part.Index), commit
	err = f.retry(ctx, func(ctx context.Context) error {
		_, err := f.bucket(commitsBucket).Create(ctx, key, value)
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		// It may be this one: the answer to an earlier try may have been lost.
		entry, err := f.bucket(commitsBucket).Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("%w: a cluster that lost its leader refuses to create a key that is not there", nats.ErrTimeout)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(entry.Value(), &there)
	})
	return err == nil && there.Object == commit.Object, err
}

// ackTimeout bounds the wait for the server's answer to an acknowledgement. A server that
// was restarted may have forgotten the delivery, and does not answer then.
const ackTimeout = 5 * time.Second

// acknowledge removes a finished part from the queue. It waits for the server's answer:
// a part whose acknowledgement is lost is delivered again, to be acknowledged only.
func (w *worker) acknowledge(ctx context.Context, t *task) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	err := w.fleet.retry(ctx, t.message.DoubleAck)
	if err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		w.log.Debug().Err(err).Int("part", t.part.Index).Msg("acknowledge a part")
	}
}

// giveBack returns a part that this worker did not score to the queue.
func (w *worker) giveBack(ctx context.Context, job *Job, t *task) {
	if t.part.Job == job.ID && t.deliveries() >= job.MaxDeliver && w.jobs.has(job.ID) {
		w.requeue(ctx, t)
		return
	}
	w.returnLater(t, 0)
}

// requeue puts a part that may be delivered no more into the queue as a new one: that
// workers stopped is not the part's fault. A worker that dies in between loses the part,
// which Results then finds missing.
func (w *worker) requeue(ctx context.Context, t *task) {
	t.release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	err := w.fleet.retry(ctx, t.message.DoubleAck)
	if err == nil {
		err = w.fleet.publish(ctx, t.part)
	}
	if err != nil {
		w.log.Debug().Err(err).Int("part", t.part.Index).Msg("queue a part again")
	}
}

// returnLater returns a part to the queue, from which other workers get it after a delay.
func (w *worker) returnLater(t *task, delay time.Duration) {
	t.release()
	// Without an answer the part returns when its time is over.
	if err := t.message.NakWithDelay(delay); err != nil {
		w.log.Debug().Err(err).Int("part", t.part.Index).Msg("give a part back")
	}
}

// deliveries returns how often the part was delivered, this time included.
func (t *task) deliveries() int {
	meta, err := t.message.Metadata()
	if err != nil {
		return 1
	}
	return int(meta.NumDelivered)
}

// maxRetryDelay caps the time before a failed part is delivered again.
const maxRetryDelay = time.Minute

// fail notes why a part failed, and returns it to the queue or, after its last delivery,
// removes it.
func (w *worker) fail(ctx context.Context, job *Job, t *task, err error) {
	if ctx.Err() != nil {
		w.giveBack(ctx, job, t)
		return
	}
	deliveries := t.deliveries()
	failure := Failure{Worker: w.config.Name, Reason: err.Error(), Deliveries: deliveries, Final: deliveries >= job.MaxDeliver}
	w.log.Warn().Str("job", job.ID).Int("part", t.part.Index).Int("deliveries", deliveries).Str("reason", failure.Reason).Msg("a part failed")
	if err := w.fleet.noteFailure(ctx, keyOf(job.ID, partOfSubject(t.message.Subject())), failure); err != nil {
		w.log.Debug().Err(err).Msg("note a failure")
	}
	if !failure.Final {
		w.returnLater(t, min(time.Second<<min(deliveries, 6), maxRetryDelay))
		return
	}
	t.release()
	if err := t.message.TermWithReason("failed"); err != nil {
		w.log.Debug().Err(err).Msg("remove a part that failed")
	}
}

// noteFailure writes a failure of a part, unless the part has failed for good: a worker
// that was slow must not hide that.
func (f *Fleet) noteFailure(ctx context.Context, key string, failure Failure) error {
	value, err := json.Marshal(failure)
	if err != nil {
		return err
	}
	bucket := f.bucket(failuresBucket)
	return f.retry(ctx, func(ctx context.Context) error {
		entry, err := bucket.Get(ctx, key)
		if err == nil {
			var there Failure
			if json.Unmarshal(entry.Value(), &there) == nil && there.Final {
				return nil
			}
		} else if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return err
		}
		_, err = bucket.Put(ctx, key, value)
		return err
	})
}

// partOfSubject returns the part of a message, -1 for a subject of another form.
func partOfSubject(subject string) int {
	part, err := partOfKey(strings.TrimPrefix(subject, partsSubject+"."))
	if err != nil {
		return -1
	}
	return part
}

// checkAgain scores the canary again after a failure. A worker whose own scores are
// wrong leaves the job, or it would fail all of the job's parts.
func (w *worker) checkAgain(ctx context.Context, job *Job) bool {
	delete(w.known, job.ID)
	err := w.admit(ctx, job)
	var refused *RefusedError
	if ctx.Err() == nil && errors.As(err, &refused) {
		w.refuse(job, refused)
	}
	return err == nil
}

// others reports whether more than one job is active. choose finds out whether another
// one has parts.
func (l *jobList) others() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs) > 1
}
