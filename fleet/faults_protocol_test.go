package fleet

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mlxrank/mlxrank/engine"
)

// TestFinishedJobFreesWorkers removes the queue of a job while a worker acknowledges its
// last part. The worker takes the next job.
func TestFinishedJobFreesWorkers(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{}, 1, 10)
	finished := make(chan struct{})
	var calls int
	hold := func(engine.Pair, *Score) error {
		if calls++; calls == 3+10 {
			if err := f.parts.DeleteConsumer(testContext(t), job.ID); err != nil {
				return err
			}
			go func() {
				time.Sleep(time.Second)
				if err := f.Finish(context.Background(), job.Job); err != nil {
					t.Error(err)
				}
				close(finished)
			}()
		}
		return nil
	}
	startWorker(t, server.URL(), WorkerConfig{Name: "worker", Open: open(fake{change: hold})})
	<-finished
	next := submit(t, f, Job{}, 2, 10)
	next.check(t, f)
	checkNothingLeft(t, f, job)
}

// checkNothingLeft waits until the server has no key of a job besides its entry, not
// even a marker of a deletion.
func checkNothingLeft(t *testing.T, f *Fleet, job *testJob) {
	t.Helper()
	for _, bucket := range []string{commitsBucket, failuresBucket} {
		waitFor(t, "no key in "+bucket, func() bool {
			stream, err := f.js.Stream(testContext(t), "KV_"+bucket)
			if err != nil {
				return false
			}
			info, err := stream.Info(testContext(t), jetstream.WithSubjectFilter("$KV."+bucket+"."+job.ID+".>"))
			return err == nil && len(info.State.Subjects) == 0
		})
	}
	if _, err := f.js.ObjectStore(testContext(t), dataBucket+job.ID); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("the data of job %s: %v, expected %v", job.ID, err, jetstream.ErrBucketNotFound)
	}
}

// TestCancelledInTheMiddle cancels a job while workers score its parts, one of which
// ends its part after everything of the job was removed. What it writes goes too.
func TestCancelledInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"", place(t)} {
		server := startServer(t, ServerConfig{})
		f := connect(t, server.URL())
		job := submit(t, f, Job{Store: where}, 40, 20)
		started := make(chan struct{}, 100)
		slow := func(engine.Pair, *Score) error {
			started <- struct{}{}
			time.Sleep(20 * time.Millisecond)
			return nil
		}
		for i := range 3 {
			startWorker(t, server.URL(), WorkerConfig{Name: fmt.Sprint("worker ", i), Open: open(fake{change: slow})})
		}
		for range 30 {
			<-started
		}
		go func() {
			for range started { // so that no worker waits
			}
		}()
		if err := f.Cancel(testContext(t), job.ID); err != nil {
			t.Fatal(err)
		}
		next := submit(t, f, Job{}, 3, 10)
		next.check(t, f)
		checkNothingLeft(t, f, job)
		status, err := f.Status(testContext(t), job.ID)
		if err != nil || status.Job.State != Cancelled || status.Queued+status.Working+status.Finished != 0 {
			t.Errorf("status of the cancelled job: %+v (%v)", status, err)
		}
	}
}

// TestRedeliveredAfterRelease delivers a part again whose data the submitter has removed,
// as after an acknowledgement that was lost. It is no failure.
func TestRedeliveredAfterRelease(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	job := submit(t, f, Job{}, 3, 10)
	results, err := f.Results(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	for _, part := range job.parts {
		if _, err := results.Wait(testContext(t), part, job.chunks[part.Index]); err != nil {
			t.Fatal(err)
		}
		if err := results.Release(testContext(t), part); err != nil {
			t.Fatal(err)
		}
	}
	waitForEmptyQueue(t, f)
	if err := f.publish(testContext(t), job.parts[1]); err != nil {
		t.Fatal(err)
	}
	waitForEmptyQueue(t, f)
	noted, err := entriesOf[Failure](testContext(t), f, failuresBucket, job.ID+".*", partOfKey)
	if err != nil || len(noted) != 0 {
		t.Errorf("failures: %v (%v), expected none", noted, err)
	}
}

func waitForEmptyQueue(t *testing.T, f *Fleet) {
	t.Helper()
	waitFor(t, "an empty queue", func() bool {
		info, err := f.parts.Info(testContext(t))
		return err == nil && info.State.Msgs == 0
	})
}

// TestStoppedWorkersAreNoFailures stops workers in the middle of a part more often than
// a part may be delivered.
func TestStoppedWorkersAreNoFailures(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{MaxDeliver: 2}, 2, 10)
	for i := range 5 {
		begun := make(chan struct{}, 100)
		never := func(_ engine.Pair, _ *Score) error {
			begun <- struct{}{}
			return nil
		}
		stop := startWorker(t, server.URL(), WorkerConfig{Name: fmt.Sprint("stopped ", i), Open: open(fake{change: never, delay: 50 * time.Millisecond})})
		for range 4 { // three are the canary's
			<-begun
		}
		stop()
	}
	startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	job.check(t, f)
}

// TestLostAdvisory removes JetStream's note of a part that it gave up. The part is
// listed as failed all the same, and can be tried again.
func TestLostAdvisory(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{MaxDeliver: 1, AckWait: time.Second}, 4, 10)
	taken, err := takePart(t, f, job) // and never finished
	if err != nil || taken == nil {
		t.Fatal(err)
	}
	startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	waitFor(t, "the failed part", func() bool {
		s, err := f.Status(testContext(t), job.ID)
		return err == nil && s.Finished == 3 && len(s.Failed) == 1
	})
	if err := f.lost.Purge(testContext(t)); err != nil {
		t.Fatal(err)
	}
	s, err := f.Status(testContext(t), job.ID)
	if err != nil || len(s.Failed) != 1 || s.Finished != 3 || s.Queued+s.Working != 0 {
		t.Fatalf("status: %+v (%v), expected one failed part", s, err)
	}
	results, err := f.Results(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	var failed *PartError
	lost := partOfSubject(taken.Subject()) // parts are uploaded side by side: any of them may be the first
	if _, err = results.Wait(testContext(t), job.parts[lost], job.chunks[lost]); !errors.As(err, &failed) {
		t.Fatalf("part %d: %v, expected its failure", lost, err)
	}
	if err := f.Rebuild(testContext(t), job.Job, true); err != nil {
		t.Fatal(err)
	}
	job.check(t, f)
}

// TestLostQueue removes parts from the queue, and the queue itself. The submitter that
// waits for them queues them again.
func TestLostQueue(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{}, 6, 10)
	if err := f.parts.Purge(testContext(t), jetstream.WithPurgeSubject(subjectOf(job.ID, 2))); err != nil {
		t.Fatal(err)
	}
	startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	job.check(t, f)
	other := submit(t, f, Job{}, 3, 10)
	if err := f.parts.DeleteConsumer(testContext(t), other.ID); err != nil {
		t.Fatal(err)
	}
	other.check(t, f)
}

// TestLateFailure has a slow worker fail a part that has failed for good meanwhile.
func TestLateFailure(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{}, 1, 10)
	final := Failure{Worker: "fast", Reason: "cannot be computed", Deliveries: 8, Final: true}
	for _, failure := range []Failure{{Worker: "slow", Reason: "early", Deliveries: 1}, final, {Worker: "slow", Reason: "late", Deliveries: 2}} {
		if err := f.noteFailure(testContext(t), keyOf(job.ID, 0), failure); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := f.Status(testContext(t), job.ID); err != nil || s.Failed[0] != final {
		t.Errorf("status: %+v (%v), expected %+v", s, err, final)
	}
}

// TestStatusAfterRestart asks a server that was restarted, and so lost the bucket of
// workers, before any worker is back.
func TestStatusAfterRestart(t *testing.T) {
	t.Parallel()
	dir, address := t.TempDir(), freeAddress(t)
	server, err := StartServer(ServerConfig{Dir: dir, Listen: address, MaxStore: 1 << 30, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	f := connect(t, server.URL())
	job := submit(t, f, Job{}, 3, 10)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	startServer(t, ServerConfig{Dir: dir, Listen: address})
	if s, err := f.Status(testContext(t), job.ID); err != nil || s.Queued != 3 || len(s.Workers) != 0 {
		t.Errorf("status: %+v (%v), expected 3 parts in the queue and no worker", s, err)
	}
	startWorker(t, f.conn.ConnectedUrl(), WorkerConfig{Name: "worker"})
	job.check(t, f)
	waitFor(t, "the worker in the list", func() bool {
		workers, err := f.Workers(testContext(t))
		return err == nil && len(workers) == 1
	})
}

// TestDeadWorkersHoldNothing has parts that workers took and died with. They wait: no
// worker has them.
func TestDeadWorkersHoldNothing(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{AckWait: time.Minute}, 3, 10)
	for range 2 {
		if taken, err := takePart(t, f, job); err != nil || taken == nil {
			t.Fatal(err)
		}
	}
	if s, err := f.Status(testContext(t), job.ID); err != nil || s.Queued != 3 || s.Working != 0 {
		t.Errorf("status: %+v (%v), expected 3 parts that wait", s, err)
	}
}

// TestNoGoroutineIsLeft ends workers, results and connections, and looks for goroutines.
func TestNoGoroutineIsLeft(t *testing.T) {
	server := startServer(t, ServerConfig{})
	run := func() {
		f, err := Connect(testContext(t), ConnectConfig{URL: server.URL(), Logger: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ctx, cancel := context.WithCancel(testContext(t))
		ended := make(chan error)
		go func() {
			ended <- f.Work(ctx, make(chan struct{}), WorkerConfig{Open: open(fake{}), Logger: testLog(t)})
		}()
		job := submit(t, f, Job{}, 20, 10)
		job.check(t, f)
		if err := f.Finish(testContext(t), job.Job); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	run()
	before := clientGoroutines()
	for range 3 {
		run()
	}
	waitFor(t, "the goroutines to end", func() bool { return clientGoroutines() <= before })
}

// clientGoroutines counts goroutines that this package or its client started.
func clientGoroutines() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	count := 0
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		// NATS's client 1.55.0 leaks it if an upload ends before it starts, on a busy machine.
		if strings.Contains(stack, "receive (nil chan)") && strings.Contains(stack, "resetPendingAcksOnReconnect") {
			continue
		}
		if strings.Contains(stack, "nats.go@") || strings.Contains(stack, "created by github.com/mlxrank/mlxrank/fleet.") {
			count++
		}
	}
	return count
}

// takePart takes a part as a worker does that never finishes it.
func takePart(t *testing.T, f *Fleet, job *testJob) (jetstream.Msg, error) {
	t.Helper()
	queue, err := f.parts.Consumer(testContext(t), job.ID)
	if err != nil {
		return nil, err
	}
	return queue.Next(jetstream.FetchMaxWait(fetchWait))
}

// TestEndedElsewhere has another command end a job whose results are waited for, and
// whose data are gone.
func TestEndedElsewhere(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	stop := startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	ends := map[error]func(*testJob) error{
		ErrDone:      func(j *testJob) error { return f.Finish(testContext(t), j.Job) },
		ErrCancelled: func(j *testJob) error { return f.Cancel(testContext(t), j.ID) },
	}
	for want, end := range ends {
		job := submit(t, f, Job{}, 3, 10)
		results, err := f.Results(testContext(t), job.Job)
		if err != nil {
			t.Fatal(err)
		}
		defer results.Close()
		if _, err := results.Wait(testContext(t), job.parts[2], job.chunks[2]); err != nil {
			t.Fatal(err)
		}
		if err := end(job); err != nil {
			t.Fatal(err)
		}
		if _, err := results.Wait(testContext(t), job.parts[2], job.chunks[2]); !errors.Is(err, want) {
			t.Errorf("a part of a job that ended: %v, expected %v", err, want)
		}
	}
	stop()
}

// TestWatchOfManyCommits ends a watch while the client has more entries than its channel
// takes.
func TestWatchOfManyCommits(t *testing.T) {
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{}, 1, 10)
	for part := range 600 {
		if _, err := f.createCommit(testContext(t), Part{Job: job.ID, Index: part}, Commit{}); err != nil {
			t.Fatal(err)
		}
	}
	before := clientGoroutines()
	for range 5 {
		watcher, err := f.bucket(commitsBucket).Watch(testContext(t), job.ID+".*")
		if err != nil {
			t.Fatal(err)
		}
		<-watcher.Updates()
		stopWatch(watcher)
	}
	waitFor(t, "the goroutines of the watches to end", func() bool { return clientGoroutines() <= before })
}

// TestSweep has a worker commit a part of a job whose data were removed meanwhile.
func TestSweep(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	for _, where := range []string{"", place(t)} {
		job := submit(t, f, Job{Store: where}, 2, 10)
		data, err := f.openStore(testContext(t), job.Job)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Cancel(testContext(t), job.ID); err != nil {
			t.Fatal(err)
		}
		if where != "" {
			if err := data.put(testContext(t), "results/late", []byte("late")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.createCommit(testContext(t), job.parts[1], Commit{Object: "results/late"}); err != nil {
			t.Fatal(err)
		}
		if err := f.noteFailure(testContext(t), keyOf(job.ID, 1), Failure{Reason: "late"}); err != nil {
			t.Fatal(err)
		}
		(&worker{fleet: f, log: testLog(t)}).sweep(testContext(t), job.Job, data, job.parts[1])
		checkNothingLeft(t, f, job)
		if where == "" {
			continue // the bucket is gone
		}
		if found, err := data.has(testContext(t), "results/late"); found || err != nil {
			t.Errorf("the late result: %t (%v), expected none", found, err)
		}
	}
}
