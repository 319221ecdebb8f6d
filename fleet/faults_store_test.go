package fleet

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestFullStore reaches the limit of the server's store, with data of another program.
// Uploads and commits wait, and go on when there is room.
func TestFullStore(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{MaxStore: MinStore})
	f := connect(t, server.URL())
	job := create(t, f, Job{})
	other, err := f.js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "other", Subjects: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	fillStore(t, f)

	uploader, err := f.Uploader(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	uploader.Full = func() { full.Store(true) }
	uploaded := make(chan error, 1)
	go func() {
		var err error
		for p := range 5 {
			if err == nil {
				err = uploader.Add(testContext(t), testChunks(p, 10), int64(p), int64(p+1))
			}
		}
		if err == nil {
			err = uploader.Seal(testContext(t))
		}
		uploaded <- err
	}()
	waitFor(t, "the upload to wait for room", full.Load)
	if s, err := f.Status(testContext(t), job.ID); err != nil || s.Queued != 0 {
		t.Errorf("status: %+v (%v), expected no part in the queue", s, err)
	}
	if err := other.Purge(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-uploaded; err != nil {
		t.Fatal(err)
	}

	fillStore(t, f)
	startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	waitFor(t, "the worker to hold parts", func() bool {
		s, err := f.Status(testContext(t), job.ID)
		return err == nil && s.Working > 0
	})
	time.Sleep(time.Second) // in which it could commit
	if s, err := f.Status(testContext(t), job.ID); err != nil || s.Finished+len(s.Failed) != 0 || s.Queued+s.Working != 5 {
		t.Errorf("status: %+v (%v), expected 5 parts that wait for room", s, err)
	}
	if err := other.Purge(testContext(t)); err != nil {
		t.Fatal(err)
	}
	job.parts = uploader.Parts()
	for p := range job.parts {
		job.chunks = append(job.chunks, testChunks(p, 10))
	}
	job.check(t, f)
}

// TestTemporaryDiskErrors checks which errors of the server's disk pass when there is room.
func TestTemporaryDiskErrors(t *testing.T) {
	for _, test := range []struct {
		api       jetstream.APIError
		temporary bool
	}{
		{jetstream.APIError{Code: 500, ErrorCode: 10051, Description: "write /jobs/msgs/1.blk: no space left on device"}, true}, // of a purge
		{jetstream.APIError{Code: 500, ErrorCode: 10111, Description: "write /jobs/msgs/1.blk: disk quota exceeded"}, true},     // of a rollup
		{jetstream.APIError{Code: 500, ErrorCode: 10049, Description: `mkdir D:\jobs: There is not enough space on the disk.`}, true},
		{jetstream.APIError{Code: 500, ErrorCode: 10051, Description: "write /jobs/msgs/1.blk: input/output error"}, false},
		{jetstream.APIError{Code: 500, ErrorCode: 10049, Description: "error creating store for stream"}, true},
		{jetstream.APIError{Code: 400, ErrorCode: 10060, Description: "bad request"}, false},
	} {
		if err := fmt.Errorf("purge: %w", &test.api); isTemporary(err) != test.temporary {
			t.Errorf("%v: temporary %t, expected %t", err, !test.temporary, test.temporary)
		}
	}
}

// TestStoreAway repeats the calls of a store that passes over a fault, and of no other.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	f := &Fleet{log: testLog(t)}
	for fault, want := range map[error]int{
		fmt.Errorf("bucket %w", errAway):                           3,
		&fs.PathError{Op: "write", Path: "a", Err: syscall.ENOSPC}: 3,
		&fs.PathError{Op: "write", Path: "a", Err: syscall.EDQUOT}: 3,
		&fs.PathError{Op: "write", Path: "a", Err: syscall.EACCES}: 1,
	} {
		t.Run(fault.Error(), func(t *testing.T) {
			t.Parallel()
			calls := 0
			err := f.waitForStore(testContext(t), func() error {
				if calls++; calls < 3 {
					return fault
				}
				return nil
			})
			if calls != want || (want == 3) != (err == nil) {
				t.Errorf("%d calls, and %v; expected %d", calls, err, want)
			}
		})
	}
}

// TestJobThatWasNotCreated has submitters die before the end of Create. Their jobs are
// reported when they are taken up again, and can be cancelled.
func TestJobThatWasNotCreated(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	whole, without, bare := create(t, f, Job{}), create(t, f, Job{}), create(t, f, Job{})
	data, err := f.openStore(testContext(t), without.Job)
	if err == nil {
		err = data.remove(testContext(t), canaryName)
	}
	err = errors.Join(err, f.js.DeleteObjectStore(testContext(t), dataBucket+bare.ID), f.parts.DeleteConsumer(testContext(t), whole.ID))
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range []*testJob{without, bare} {
		if err := f.CheckCreated(testContext(t), job.Job); err == nil || !strings.Contains(err.Error(), "submit it again") {
			t.Errorf("the job is created: %v, expected advice", err)
		}
		if err := f.Cancel(testContext(t), job.ID); err != nil {
			t.Error(err)
		}
	}
	if err := f.CheckCreated(testContext(t), whole.Job); err != nil {
		t.Fatal(err)
	}
	addParts(t, f, whole, 2, 10)
	startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	whole.check(t, f)
}

// fillStore publishes messages of the other program until the server takes none, not
// even small ones.
func fillStore(t *testing.T, f *Fleet) {
	t.Helper()
	message := make([]byte, 512<<10)
	rand.Read(message)
	for size := len(message); size > 0; size /= 2 {
		for {
			_, err := f.js.Publish(testContext(t), "other", message[:size])
			if isFull(err) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
