package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// jobList follows the jobs of the server.
type jobList struct {
	mu   sync.Mutex
	jobs map[string]*Job
	next chan struct{} // closed at the next change
}

func newJobList() *jobList { return &jobList{jobs: map[string]*Job{}, next: make(chan struct{})} }

// watch keeps the list up to date until ctx ends.
func (l *jobList) watch(ctx context.Context, f *Fleet) {
	for ctx.Err() == nil {
		if err := l.watchOnce(ctx, f); err != nil && ctx.Err() == nil {
			f.log.Debug().Err(err).Msg("watch jobs")
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

func (l *jobList) watchOnce(ctx context.Context, f *Fleet) error {
	connection := f.connection()
	watcher, err := f.bucket(jobsBucket).WatchAll(ctx)
	if err != nil {
		return err
	}
	defer stopWatch(watcher)
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return context.DeadlineExceeded
			}
			if entry != nil {
				l.note(entry, f.log)
			}
		case <-connection.Done():
			return connection.Err()
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *jobList) note(entry jetstream.KeyValueEntry, log zerolog.Logger) {
	var job *Job
	if entry.Operation() == jetstream.KeyValuePut {
		var err error
		if job, err = parseJob(entry); err != nil {
			log.Warn().Err(err).Msg("this worker skips a job")
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if job != nil && job.State.Active() {
		l.jobs[entry.Key()] = job
	} else {
		delete(l.jobs, entry.Key())
	}
	close(l.next)
	l.next = make(chan struct{})
}

// active returns the jobs whose parts may be taken.
func (l *jobList) active() []*Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	jobs := make([]*Job, 0, len(l.jobs))
	for _, job := range l.jobs {
		jobs = append(jobs, job)
	}
	return jobs
}

// has reports whether the parts of a job may still be taken.
func (l *jobList) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, active := l.jobs[id]
	return active
}

// during returns a context that ends when the parts of a job may be taken no more.
func (l *jobList) during(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for changed := l.changed(); l.has(id); changed = l.changed() {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

func (l *jobList) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// A reporter keeps the server informed of what a worker does.
