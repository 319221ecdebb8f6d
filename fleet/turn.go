package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mlxrank/mlxrank/engine"
)

// fetchWait is how long a worker waits for a part of a job before it looks at the other
// jobs.
const fetchWait = 2 * time.Second

// A task is a part that the worker holds. Until it is released, the worker renews its
// hold, so that no other worker receives the part.
type task struct {
	part    Part
	message jetstream.Msg
	chunks  [][]engine.Pair
	err     error // of reading the pairs
	release context.CancelFunc
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
	tasks, over := make(chan *task), make(chan struct{})
	until := w.started.Add(w.config.turn)
	go func() {
		defer close(tasks)
		for w.more(ctx, stop, over, job, until) {
			next := w.fetch(ctx, job, data)
			if next == nil {
				return
			}
			select {
			case tasks <- next:
				continue
			case <-stop:
			case <-over:
			case <-ctx.Done():
			}
			w.giveBack(ctx, next, 0)
			return
		}
	}()
	for next := range tasks {
		w.busy = time.Now()
		if !w.work(ctx, job, data, next) && !isClosed(over) {
			close(over)
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
func (w *worker) fetch(ctx context.Context, job *Job, data store) *task {
	message, err := w.fleet.fetchOne(ctx, job)
	if err != nil || message == nil {
		if err != nil && ctx.Err() == nil {
			w.log.Debug().Err(err).Msg("fetch a part")
		}
		return nil
	}
	t := &task{message: message}
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

// fetchOne returns the next message of a job, or nil. It asks for one message: what a
// client buffers beyond that, other workers lack, and it comes again when its time is
// over.
func (f *Fleet) fetchOne(ctx context.Context, job *Job) (jetstream.Msg, error) {
	consumer, err := f.parts.Consumer(ctx, job.ID)
	if err != nil {
		return nil, err
	}
	batch, err := consumer.Fetch(1, jetstream.FetchMaxWait(fetchWait))
	if err != nil {
		return nil, err
	}
	for message := range batch.Messages() {
		return message, nil
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
	if t.err != nil {
		w.fail(ctx, job, t, t.err)
		return true
	}
	done, err := w.fleet.isCommitted(ctx, t.part)
	if err != nil {
		return false
	}
	if done {
		w.acknowledge(ctx, t)
		return true
	}
	w.report.set(func(s *WorkerState) { s.Job, s.Part = job.ID, t.part.Index })
	start := time.Now()
	scores, err := w.score(ctx, job, t)
	switch {
	case ctx.Err() != nil:
		w.giveBack(ctx, t, 0)
		return false
	case errors.Is(err, ErrCancelled):
		return false
	case err != nil:
		w.fail(ctx, job, t, err)
		return w.checkAgain(ctx, job)
	}
	if err := w.commit(ctx, data, t, scores, time.Since(start)); err != nil {
		w.fail(ctx, job, t, err)
		return true
	}
	w.acknowledge(ctx, t)
	return true
}

// score scores the chunks of a part.
func (w *worker) score(ctx context.Context, job *Job, t *task) ([]Score, error) {
	scores := make([]Score, 0, t.part.Pairs)
	for _, chunk := range t.chunks {
		if !w.jobs.has(job.ID) {
			return nil, ErrCancelled
		}
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
	if err := data.put(ctx, name, packed); err != nil {
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
	key := keyOf(part.Job, part.Index)
	err = f.retry(ctx, func(ctx context.Context) error {
		_, err := f.bucket(commitsBucket).Create(ctx, key, value)
		return err
	})
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return err == nil, err
	}
	// The answer to an earlier try may have been lost.
	var there Commit
	err = f.retry(ctx, func(ctx context.Context) error {
		entry, err := f.bucket(commitsBucket).Get(ctx, key)
		if err != nil {
			return err
		}
		return json.Unmarshal(entry.Value(), &there)
	})
	return there.Object == commit.Object, err
}

// acknowledge removes a finished part from the queue. It waits for the server's answer:
// a part whose acknowledgement is lost is delivered again.
func (w *worker) acknowledge(ctx context.Context, t *task) {
	err := w.fleet.retry(ctx, t.message.DoubleAck)
	if err != nil && ctx.Err() == nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		w.log.Debug().Err(err).Int("part", t.part.Index).Msg("acknowledge a part")
	}
}

// giveBack returns a part to the queue, from which other workers get it after a delay.
func (w *worker) giveBack(ctx context.Context, t *task, delay time.Duration) {
	t.release()
	// Without an answer the part returns when its time is over.
	if err := t.message.NakWithDelay(delay); err != nil && ctx.Err() == nil {
		w.log.Debug().Err(err).Int("part", t.part.Index).Msg("give a part back")
	}
}

// maxRetryDelay caps the time before a failed part is delivered again.
const maxRetryDelay = time.Minute

// fail notes why a part failed, and returns it to the queue or, after its last delivery,
// removes it.
func (w *worker) fail(ctx context.Context, job *Job, t *task, err error) {
	deliveries := 1
	if meta, metaErr := t.message.Metadata(); metaErr == nil {
		deliveries = int(meta.NumDelivered)
	}
	failure := Failure{Worker: w.config.Name, Reason: err.Error(), Deliveries: deliveries, Final: deliveries >= job.MaxDeliver}
	w.log.Warn().Str("job", job.ID).Int("part", t.part.Index).Int("deliveries", deliveries).Str("reason", failure.Reason).Msg("a part failed")
	value, marshalErr := json.Marshal(failure)
	if marshalErr != nil {
		return
	}
	noteErr := w.fleet.retry(ctx, func(ctx context.Context) error {
		_, err := w.fleet.bucket(failuresBucket).Put(ctx, keyOf(job.ID, partOfSubject(t.message.Subject())), value)
		return err
	})
	if noteErr != nil {
		w.log.Debug().Err(noteErr).Msg("note a failure")
	}
	if !failure.Final {
		w.giveBack(ctx, t, min(time.Second<<min(deliveries, 6), maxRetryDelay))
		return
	}
	t.release()
	if err := t.message.TermWithReason("failed"); err != nil {
		w.log.Debug().Err(err).Msg("remove a part that failed")
	}
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
	if errors.As(err, &refused) {
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
