package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// errMissing reports an object that a store does not have.
var errMissing = errors.New("no such object")

// errAway reports a store that does not answer for now.
var errAway = errors.New("does not answer")

// isAway reports whether a store may do later what it did not do now: it was away, or the
// disk of a folder was full.
func isAway(err error) bool {
	return errors.Is(err, errAway) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// storePatience is how long submitters and workers wait for a store that is away.
const storePatience = 10 * time.Minute

// waitForStore repeats a call of a store while the store is away.
func (f *Fleet) waitForStore(ctx context.Context, call func() error) error {
	for end := time.Now().Add(storePatience); ; {
		err := call()
		if !isAway(err) || time.Now().After(end) {
			return err
		}
		f.log.Warn().Err(err).Msg("waiting for the store")
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A store holds the data of one job: objects of a few megabytes, by name.
type store interface {
	put(ctx context.Context, name string, data []byte) error
	get(ctx context.Context, name string) ([]byte, error) // errMissing without the object
	has(ctx context.Context, name string) (bool, error)
	remove(ctx context.Context, name string) error // no error without the object
	clear(ctx context.Context) error               // removes everything of the job
}

// openStore returns the store of a job.
func (f *Fleet) openStore(ctx context.Context, job *Job) (store, error) {
	if job.Store != "" {
		return openPlace(job.Store, job.ID)
	}
	var bucket jetstream.ObjectStore
	err := f.retry(ctx, func(ctx context.Context) (err error) {
		bucket, err = f.js.ObjectStore(ctx, dataBucket+job.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the data of job %s: %w", job.ID, err)
	}
	return &objects{dataBucket + job.ID, f, bucket}, nil
}

// createStore makes the store of a new job.
func (f *Fleet) createStore(ctx context.Context, job *Job) error {
	if job.Store != "" {
		_, err := openPlace(job.Store, job.ID)
		return err
	}
	return f.retry(ctx, func(ctx context.Context) error {
		_, err := f.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: dataBucket + job.ID, Description: "pairs and results of an mlxrank job", Storage: jetstream.FileStorage,
			Replicas: max(1, f.parts.CachedInfo().Config.Replicas),
		})
		return err
	})
}

// objects is a store in JetStream.
type objects struct {
	name   string // of the bucket
	fleet  *Fleet
	bucket jetstream.ObjectStore
}

// chunkBytes is the size of the messages of an object, below the 1 MB that a server
// allows by default. Each is synced to the disk, so few are better than many.
const chunkBytes = 512 << 10

func (o *objects) put(ctx context.Context, name string, data []byte) error {
	meta := jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkBytes}}
	return o.fleet.retry(ctx, func(ctx context.Context) error {
		_, err := o.bucket.Put(ctx, meta, bytes.NewReader(data))
		return err
	})
}

func (o *objects) get(ctx context.Context, name string) (data []byte, err error) {
	err = o.fleet.retry(ctx, func(ctx context.Context) error {
		object, err := o.bucket.Get(ctx, name)
		if errors.Is(err, jetstream.ErrObjectNotFound) {
			return fmt.Errorf("%s: %w", name, errMissing)
		}
		if err != nil {
			return err
		}
		data, err = io.ReadAll(object)
		return errors.Join(err, object.Close())
	})
	return data, err
}

func (o *objects) has(ctx context.Context, name string) (found bool, err error) {
	err = o.fleet.retry(ctx, func(ctx context.Context) error {
		_, err := o.bucket.GetInfo(ctx, name)
		if errors.Is(err, jetstream.ErrObjectNotFound) {
			return nil
		}
		found = err == nil
		return err
	})
	return found, err
}

func (o *objects) remove(ctx context.Context, name string) error {
	return o.fleet.retry(ctx, func(ctx context.Context) error {
		if err := o.bucket.Delete(ctx, name); !errors.Is(err, jetstream.ErrObjectNotFound) {
			return err
		}
		return nil
	})
}

func (o *objects) clear(ctx context.Context) error {
	return o.fleet.retry(ctx, func(ctx context.Context) error {
		err := o.fleet.js.DeleteObjectStore(ctx, o.name)
		if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
			return nil
		}
		return err
	})
}
