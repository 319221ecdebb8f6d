package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrNoJob reports a job that the server does not have.
var ErrNoJob = errors.New("no such job")

// jobID matches the ids of jobs, which are also parts of subjects and file names.
var jobID = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// newID returns the id of a new job.
func newID() string { return strings.ReplaceAll(uuid.NewString(), "-", "")[:10] }

// Job returns a job.
func (f *Fleet) Job(ctx context.Context, id string) (*Job, error) {
	if !jobID.MatchString(id) {
		return nil, fmt.Errorf("%w: %q; mlxrank fleet list shows the jobs", ErrNoJob, id)
	}
	var entry jetstream.KeyValueEntry
	err := f.retry(ctx, func(ctx context.Context) (err error) {
		entry, err = f.bucket(jobsBucket).Get(ctx, id)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("%w: %q; mlxrank fleet list shows the jobs", ErrNoJob, id)
	}
	if err != nil {
		return nil, fmt.Errorf("read job %s: %w", id, err)
	}
	return parseJob(entry)
}

func parseJob(entry jetstream.KeyValueEntry) (*Job, error) {
	job := &Job{revision: entry.Revision()}
	if err := json.Unmarshal(entry.Value(), job); err != nil {
		return nil, fmt.Errorf("job %s: %w", entry.Key(), err)
	}
	if job.Version != Version {
		return nil, fmt.Errorf("job %s has version %d of the protocol, expected %d; use the same mlxrank everywhere", entry.Key(), job.Version, Version)
	}
	if job.ID != entry.Key() || !jobID.MatchString(job.ID) {
		return nil, fmt.Errorf("job %s has the id %q", entry.Key(), job.ID)
	}
	return job, nil
}

// Jobs returns all jobs, the oldest first. It leaves out jobs of other versions.
func (f *Fleet) Jobs(ctx context.Context) ([]*Job, error) {
	var jobs []*Job
	err := f.retry(ctx, func(ctx context.Context) error {
		jobs = nil
		watcher, err := f.bucket(jobsBucket).WatchAll(ctx, jetstream.IgnoreDeletes())
		if err != nil {
			return err
		}
		defer stopWatch(watcher)
		for {
			select {
			case entry := <-watcher.Updates():
				if entry == nil {
					return nil
				}
				if job, err := parseJob(entry); err == nil {
					jobs = append(jobs, job)
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	slices.SortFunc(jobs, func(a, b *Job) int { return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.ID, b.ID)) })
	return jobs, err
}

// update changes a job, unless another command has changed its state meanwhile.
func (f *Fleet) update(ctx context.Context, job *Job, change func(*Job)) error {
	changed := *job
	change(&changed)
	data, err := json.Marshal(changed)
	if err != nil {
		return err
	}
	err = f.retry(ctx, func(ctx context.Context) (err error) {
		changed.revision, err = f.bucket(jobsBucket).Update(ctx, job.ID, data, job.revision)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) {
		// An update whose answer was lost is there already.
		now, readErr := f.Job(ctx, job.ID)
		if readErr != nil {
			return readErr
		}
		if now.State != changed.State {
			return fmt.Errorf("job %s is %s now; another command changed it", job.ID, now.State)
		}
		*job = *now
		return nil
	}
	if err == nil {
		*job = changed
	}
	return err
}

// Cancel ends a job and removes its data. Workers drop its parts.
func (f *Fleet) Cancel(ctx context.Context, id string) error {
	job, err := f.Job(ctx, id)
	if err != nil {
		return err
	}
	if job.State == Done {
		return fmt.Errorf("job %s is done already", id)
	}
	if job.State != Cancelled {
		if err := f.update(ctx, job, func(j *Job) { j.State = Cancelled }); err != nil {
			return err
		}
	}
	return f.clear(ctx, job)
}

// Finish marks a job as done, since its output is complete, and removes its data.
func (f *Fleet) Finish(ctx context.Context, job *Job) error {
	job, err := f.Job(ctx, job.ID)
	if err != nil {
		return err
	}
	if err := f.update(ctx, job, func(j *Job) { j.State = Done }); err != nil {
		return err
	}
	return f.clear(ctx, job)
}

// clear removes everything of a job besides its entry in the list of jobs.
func (f *Fleet) clear(ctx context.Context, job *Job) error {
	err := f.retry(ctx, func(ctx context.Context) error {
		err := f.parts.DeleteConsumer(ctx, job.ID)
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
			return nil
		}
		return err
	})
	purges := map[string]string{
		partsStream:            partsSubject + "." + job.ID + ".*",
		undeliveredStream:      advisories + "." + job.ID,
		"KV_" + commitsBucket:  "$KV." + commitsBucket + "." + job.ID + ".*",
		"KV_" + failuresBucket: "$KV." + failuresBucket + "." + job.ID + ".*",
	}
	errs := []error{err}
	for name, subject := range purges {
		errs = append(errs, f.retry(ctx, func(ctx context.Context) error {
			stream, err := f.js.Stream(ctx, name)
			if err != nil {
				return err
			}
			return stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
		}))
	}
	data, err := f.openStore(ctx, job)
	switch {
	case err == nil:
		errs = append(errs, data.clear(ctx))
	case !errors.Is(err, jetstream.ErrBucketNotFound):
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the data of job %s: %w", job.ID, err)
	}
	return nil
}
