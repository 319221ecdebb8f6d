package fleet

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// TestPoisonParts has 200 parts of which 5 % end their worker or fail. All others are
// finished, and after the repair these too.
func TestPoisonParts(t *testing.T) {
	t.Parallel()
	const parts = 200
	f := newProcessFleet(t, role{}, nil)
	f.addWorkers(3, role{Poison: true})
	f.submit(parts, Job{AckWait: time.Second, MaxDeliver: 3})
	f.submitter.waitForLine("sealed")
	client, job := f.client()
	waitFor(t, "all sound parts to be finished, and the others to fail", func() bool {
		for _, worker := range f.workers {
			if worker.hasEnded() {
				worker.start()
			}
		}
		s, err := client.Status(testContext(t), job.ID)
		return err == nil && s.Finished+len(s.Failed) == parts
	})
	status, err := client.Status(testContext(t), job.ID)
	if err != nil || status.Finished != parts*95/100 || status.Queued+status.Working != 0 || len(status.Troubled) != 0 {
		t.Errorf("status: %+v (%v), expected %d finished parts", status, err, parts*95/100)
	}
	for part := range parts {
		failure, failed := status.Failed[part]
		is, crash := isPoison(part)
		want := "the device cannot compute this part"
		if crash {
			want = "died or lost its connection"
		}
		if failed != is || is && (!failure.Final || failure.Deliveries != 3 || !strings.Contains(failure.Reason, want)) {
			t.Errorf("part %d: failed: %t, %+v; expected %t for %q", part, failed, failure, is, want)
		}
	}
	for _, worker := range f.workers {
		worker.kill()
		worker.role.Poison = false
		worker.start()
	}
	if err := client.Rebuild(testContext(t), job, true); err != nil {
		t.Fatal(err)
	}
	f.submitter.kill() // it may have ended, with the error of a part
	f.submitter.start()
	f.check()
}

// TestPausedWorker pauses a worker for longer than the ack wait. Another worker finishes
// its part, and the paused one then commits too.
func TestPausedWorker(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	f.addWorkers(1, role{Delay: 20 * time.Millisecond})
	f.submit(partsOrLong(8, 50), Job{AckWait: time.Second})
	f.submitter.waitForLine("received 0")
	f.waitForScored(2)
	f.workers[0].signal(syscall.SIGSTOP)
	f.addWorkers(1, role{})
	f.waitForOutput()
	f.workers[0].signal(syscall.SIGCONT)
	waitFor(t, "the paused worker to finish second", func() bool { return f.outcome().double > 0 })
	f.check()
}

// TestPausedWorkerAlone pauses the only worker for longer than the ack wait. Its commit
// counts: it scores no part again.
func TestPausedWorkerAlone(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	f.addWorkers(1, role{Delay: 20 * time.Millisecond})
	f.submit(4, Job{AckWait: time.Second})
	f.waitForScored(2)
	f.workers[0].signal(syscall.SIGSTOP)
	time.Sleep(3 * time.Second)
	f.workers[0].signal(syscall.SIGCONT)
	if found := f.check(); found.scored != found.parts {
		t.Errorf("%d parts were scored, expected each of %d once", found.scored, found.parts)
	}
}

// TestSecondFinisher has two workers finish one part at the same moment, several times.
func TestSecondFinisher(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	var mu sync.Mutex
	held, both := 0, make(chan struct{})
	meet := func(pair engine.Pair, _ *Score) error {
		if !strings.HasPrefix(pair.Document, "document 9") {
			return nil
		}
		mu.Lock()
		if held++; held == 2 {
			close(both)
		}
		wait := both
		mu.Unlock()
		<-wait
		return nil
	}
	for i := range 2 {
		startWorker(t, server.URL(), WorkerConfig{Name: fmt.Sprint("worker ", i), Open: open(fake{change: meet})})
	}
	for range partsOrLong(3, 30) {
		held, both = 0, make(chan struct{})
		// Workers renew their hold too late for the queue's time.
		job := create(t, f, Job{AckWait: time.Minute})
		short := *job.Job
		short.AckWait = 500 * time.Millisecond
		if err := f.ensureConsumer(testContext(t), &short); err != nil {
			t.Fatal(err)
		}
		addParts(t, f, job, 1, 10)
		job.check(t, f)
		waitForEmptyQueue(t, f)
		checkObjects(t, f, job, 4) // canary, manifest, pairs and one result
		if held != 2 {
			t.Errorf("%d workers had the part, expected 2", held)
		}
		if err := f.Finish(testContext(t), job.Job); err != nil {
			t.Fatal(err)
		}
	}
}

// checkObjects waits until the store of a job has so many objects.
func checkObjects(t *testing.T, f *Fleet, job *testJob, want int) {
	t.Helper()
	waitFor(t, fmt.Sprint(want, " objects in the store"), func() bool {
		bucket, err := f.js.ObjectStore(testContext(t), dataBucket+job.ID)
		if err != nil {
			return false
		}
		list, err := bucket.List(testContext(t))
		return err == nil && len(list) == want
	})
}

// TestWrongWorkers has a worker with another revision of the model, and one whose scores
// become NaN. Both are refused, with the numbers, and a sound one scores the job.
func TestWrongWorkers(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	other := fakeIdentity
	other.Model = "model-b"
	f.addWorkers(1, role{Identity: other})
	f.addWorkers(1, role{NaN: 50})
	f.submit(10, Job{})
	client, job := f.client()
	want := []string{"contents model-b here, and the job needs model-a", "logit NaN here"}
	waitFor(t, "both workers to be refused", func() bool {
		s, err := client.Status(testContext(t), job.ID)
		if err != nil || len(s.Workers) != 2 {
			return false
		}
		for i, worker := range s.Workers {
			if !strings.Contains(worker.Refused[job.ID], want[i]) {
				return false
			}
		}
		return true
	})
	f.checkSums(client, job)
	f.addWorkers(1, role{})
	f.check()
}

// TestPoisonNeighbours has one worker, and a part that ends it. The part that the worker
// reads meanwhile does not fail with it.
func TestPoisonNeighbours(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	f.submit(20, Job{AckWait: time.Second, MaxDeliver: 2})
	f.submitter.waitForLine("sealed")
	client, job := f.client()
	f.addWorkers(1, role{Poison: true})
	waitFor(t, "all parts but the poison", func() bool {
		if f.workers[0].hasEnded() {
			f.workers[0].start()
		}
		s, err := client.Status(testContext(t), job.ID)
		return err == nil && s.Finished+len(s.Failed) == 20
	})
	if s, err := client.Status(testContext(t), job.ID); err != nil || len(s.Failed) != 1 || s.Failed[7].Deliveries != 2 {
		t.Errorf("status: %+v (%v), expected that part 7 alone failed", s, err)
	}
}
