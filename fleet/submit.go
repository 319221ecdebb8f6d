package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/mlxrank/mlxrank/engine"
)

// Defaults of a job.
const (
	defaultAckWait    = 30 * time.Second
	defaultMaxDeliver = 8
)

// Create starts a job: it sets the job's id, makes its store and its queue, and uploads
// the canary. Workers may take parts as soon as the first is added.
func (f *Fleet) Create(ctx context.Context, job *Job, canary Canary) error {
	job.Version, job.ID, job.State, job.Started = Version, newID(), Uploading, time.Now().UTC()
	if job.AckWait == 0 {
		job.AckWait = defaultAckWait
	}
	if job.MaxDeliver == 0 {
		job.MaxDeliver = defaultMaxDeliver
	}
	value, err := json.Marshal(job)
	if err != nil {
		return err
	}
	// First, so that a job whose submitter dies here is listed and can be cancelled.
	// Workers take no parts before the queue is there.
	err = f.retry(ctx, func(ctx context.Context) (err error) {
		job.revision, err = f.bucket(jobsBucket).Put(ctx, job.ID, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("enter the job: %w", err)
	}
	if err := f.createStore(ctx, job); err != nil {
		return fmt.Errorf("make the store of the job: %w", err)
	}
	data, err := f.openStore(ctx, job)
	if err != nil {
		return err
	}
	packed, err := encodeCanary(canary)
	if err != nil {
		return err
	}
	if err := data.put(ctx, canaryName, packed); err != nil {
		return fmt.Errorf("upload the canary: %w", err)
	}
	return f.ensureConsumer(ctx, job)
}

// CheckCreated rejects a job whose Create did not end: it has no canary, so no worker can
// be admitted.
func (f *Fleet) CheckCreated(ctx context.Context, job *Job) error {
	data, err := f.openStore(ctx, job)
	found := false
	if err == nil {
		found, err = data.has(ctx, canaryName)
	}
	if errors.Is(err, jetstream.ErrBucketNotFound) || err == nil && !found {
		return fmt.Errorf("the submission of job %s ended before its canary was uploaded; cancel the job, and submit it again", job.ID)
	}
	if err != nil {
		return err
	}
	return f.ensureConsumer(ctx, job)
}

// ensureConsumer makes the consumer that hands out the parts of a job.
func (f *Fleet) ensureConsumer(ctx context.Context, job *Job) error {
	err := f.retry(ctx, func(ctx context.Context) error {
		_, err := f.parts.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: job.ID, FilterSubject: partsSubject + "." + job.ID + ".*",
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: job.AckWait, MaxDeliver: job.MaxDeliver,
			MaxAckPending: -1, MaxWaiting: 64 << 10,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("make the queue of job %s: %w", job.ID, err)
	}
	return nil
}

// Uploader adds the parts of a job, in the order of the input.
type Uploader struct {
	fleet *Fleet
	job   *Job
	data  store
	parts []Part
	group *errgroup.Group // of the uploads
	ended context.Context // when an upload has failed
	// Full, if set, is called when the server has no room and the upload waits for
	// workers.
	Full func()
}

// Uploader returns an uploader for a job whose state is Uploading. Parts that an earlier
// uploader has added are added again: that changes nothing.
func (f *Fleet) Uploader(ctx context.Context, job *Job) (*Uploader, error) {
	data, err := f.openStore(ctx, job)
	if err != nil {
		return nil, err
	}
	group, ended := errgroup.WithContext(ctx)
	group.SetLimit(uploads)
	return &Uploader{fleet: f, job: job, data: data, group: group, ended: ended}, nil
}

// uploads is how many parts are uploaded at a time: the server syncs each to its disk.
const uploads = 8

// Add uploads the pairs of the next part, whose records lie in the bytes from to to of
// the decompressed input. The pairs of a chunk are scored together. The upload may end
// after Add does, so that a later call returns its error.
func (u *Uploader) Add(ctx context.Context, chunks [][]engine.Pair, from, to int64) error {
	packed, err := encodePairs(chunks)
	if err != nil {
		return err
	}
	part := Part{
		Version: Version, Job: u.job.ID, Index: len(u.parts), From: from, To: to, SHA256: hashOf(packed),
		Model: u.job.Identity.Model, DType: u.job.Identity.DType, MaxLength: u.job.Settings.MaxLength,
	}
	for _, chunk := range chunks {
		part.Pairs += len(chunk)
	}
	u.parts = append(u.parts, part)
	done, err := u.fleet.isCommitted(ctx, part)
	if err != nil || done {
		return err
	}
	if err := u.waitForRoom(ctx); err != nil {
		return err
	}
	u.group.Go(func() error { return u.upload(ctx, part, packed) })
	return nil
}

func (u *Uploader) upload(ctx context.Context, part Part, packed []byte) error {
	err := u.fleet.waitForStore(ctx, func() error { return u.data.put(ctx, part.pairsName(), packed) })
	if err != nil {
		return fmt.Errorf("upload part %d: %w", part.Index, err)
	}
	return u.fleet.publish(ctx, part)
}

// headroom is the share of the server's store that the pairs of jobs leave free: workers
// need room for results, or no part would ever be finished.
const headroom = 0.2

// waitForRoom waits while the server's store is nearly full.
func (u *Uploader) waitForRoom(ctx context.Context) error {
	if u.ended.Err() != nil {
		return u.failure()
	}
	if u.job.Store != "" {
		return nil
	}
	for told := false; ; {
		var account *jetstream.AccountInfo
		err := u.fleet.retry(ctx, func(ctx context.Context) (err error) {
			account, err = u.fleet.js.AccountInfo(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if hasRoom(account) {
			return nil
		}
		if !told && u.Full != nil {
			u.Full()
			told = true
		}
		select {
		case <-time.After(time.Second):
		case <-u.ended.Done():
			return u.failure()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// failure returns the error that ended the upload.
func (u *Uploader) failure() error {
	if err := u.group.Wait(); err != nil {
		return err
	}
	return context.Cause(u.ended)
}

// hasRoom reports whether the store of an account is less than nearly full. An account may
// have limits for each number of replicas in place of one for all.
func hasRoom(account *jetstream.AccountInfo) bool {
	tiers := []jetstream.Tier{account.Tier}
	for _, tier := range account.Tiers {
		tiers = append(tiers, tier)
	}
	for _, tier := range tiers {
		if limit := float64(tier.Limits.MaxStore); limit > 0 && float64(tier.Store) >= (1-headroom)*limit {
			return false
		}
	}
	return true
}

// Seal ends the upload. It uploads the manifest, from which the queue can be rebuilt.
func (u *Uploader) Seal(ctx context.Context) error {
	if err := u.group.Wait(); err != nil {
		return err
	}
	packed, err := pack(u.parts)
	if err != nil {
		return err
	}
	err = u.fleet.waitForStore(ctx, func() error { return u.data.put(ctx, manifestName, packed) })
	if err != nil {
		return fmt.Errorf("upload the manifest: %w", err)
	}
	return u.fleet.update(ctx, u.job, func(j *Job) { j.State, j.Parts = Open, len(u.parts) })
}

// Parts returns the parts that were added.
func (u *Uploader) Parts() []Part { return u.parts }

const (
	manifestName = "manifest"
	canaryName   = "canary"
)

// publish queues a part. A part that is in the queue already stays as it is.
func (f *Fleet) publish(ctx context.Context, part Part) error {
	message, err := json.Marshal(part)
	if err != nil {
		return err
	}
	err = f.retry(ctx, func(ctx context.Context) error {
		_, err := f.js.Publish(ctx, subjectOf(part.Job, part.Index), message, jetstream.WithExpectStream(partsStream))
		return err
	})
	var api *jetstream.APIError
	if errors.As(err, &api) && strings.Contains(api.Description, "maximum messages per subject exceeded") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("queue part %d: %w", part.Index, err)
	}
	return nil
}

// isCommitted reports whether a part is finished.
func (f *Fleet) isCommitted(ctx context.Context, part Part) (bool, error) {
	err := f.retry(ctx, func(ctx context.Context) error {
		_, err := f.bucket(commitsBucket).Get(ctx, keyOf(part.Job, part.Index))
		return err
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Manifest returns the parts of a job whose state is Open.
func (f *Fleet) Manifest(ctx context.Context, job *Job) ([]Part, error) {
	data, err := f.openStore(ctx, job)
	if err != nil {
		return nil, err
	}
	packed, err := data.get(ctx, manifestName)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of job %s: %w", job.ID, err)
	}
	var parts []Part
	if err := unpack(packed, &parts); err != nil {
		return nil, fmt.Errorf("read the manifest of job %s: %w", job.ID, err)
	}
	if len(parts) != job.Parts {
		return nil, fmt.Errorf("the manifest of job %s has %d parts, expected %d", job.ID, len(parts), job.Parts)
	}
	return parts, nil
}

// Rebuild queues each part of a job that is neither finished nor queued, from the
// manifest. With retry it also queues parts that failed for good, whose deliveries then
// count from zero.
func (f *Fleet) Rebuild(ctx context.Context, job *Job, retry bool) error {
	parts, err := f.Manifest(ctx, job)
	if err != nil {
		return err
	}
	if err := f.ensureConsumer(ctx, job); err != nil {
		return err
	}
	finished, err := f.commitsOf(ctx, job)
	if err != nil {
		return err
	}
	isDone := func(part int) bool { _, done := finished[part]; return done }
	dead, err := f.failedParts(ctx, job, isDone)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if isDone(part.Index) {
			continue
		}
		if _, failed := dead[part.Index]; failed {
			if !retry {
				continue
			}
			if err := f.revive(ctx, part); err != nil {
				return err
			}
		}
		if err := f.publish(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// forget removes all of a key, which a deletion in the bucket would leave a marker of.
func (f *Fleet) forget(ctx context.Context, bucket, key string) error {
	return f.retry(ctx, func(ctx context.Context) error {
		stream, err := f.js.Stream(ctx, "KV_"+bucket)
		if err != nil {
			return err
		}
		return stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+bucket+"."+key))
	})
}

// revive forgets that a part failed, and removes the message that is delivered no more.
func (f *Fleet) revive(ctx context.Context, part Part) error {
	err := f.retry(ctx, func(ctx context.Context) error {
		return f.parts.Purge(ctx, jetstream.WithPurgeSubject(subjectOf(part.Job, part.Index)))
	})
	if err != nil {
		return err
	}
	return f.forget(ctx, failuresBucket, keyOf(part.Job, part.Index))
}
