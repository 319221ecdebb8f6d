package fleet

import (
	"fmt"
	"testing"
	"time"
)

// partsOrLong returns how many parts a job has, more of them in long runs.
func partsOrLong(short, long int) int {
	if isLong() {
		return long
	}
	return short
}

// TestKilledWorkers kills workers at random moments and starts them again.
func TestKilledWorkers(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	f.addWorkers(3, role{Delay: 5 * time.Millisecond})
	f.submit(partsOrLong(40, 400), Job{AckWait: time.Second, MaxDeliver: 100})
	f.submitter.waitForLine("received 0")
	client, job := f.client()
	for kills := 0; !f.isComplete() && kills < partsOrLong(6, 60); kills++ {
		time.Sleep(time.Duration(f.seed.IntN(500)) * time.Millisecond)
		victim := f.workers[f.seed.IntN(len(f.workers))]
		victim.kill()
		f.checkSums(client, job)
		victim.start()
	}
	f.check()
}

// TestKilledServer kills the server at random moments and starts it again in its folder.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	f.addWorkers(2, role{Delay: 2 * time.Millisecond})
	f.submit(partsOrLong(40, 400), Job{})
	for kill := range partsOrLong(3, 20) {
		f.submitter.waitForLine(fmt.Sprint("added ", 5*kill))
		time.Sleep(time.Duration(f.seed.IntN(1000)) * time.Millisecond)
		f.server.kill()
		f.server.start()
		f.waitForServer()
	}
	f.check()
}

// TestKilledSubmitter kills the submitter in the middle of the upload and of waiting.
func TestKilledSubmitter(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	f.submit(partsOrLong(30, 300), Job{})
	for _, line := range []string{"added 3", "added 17", "sealed"} {
		f.submitter.waitForLine(line)
		f.submitter.kill()
		f.submitter.start()
	}
	f.addWorkers(2, role{Delay: 2 * time.Millisecond})
	for _, line := range []string{"received 2", "received 9", "received 20"} {
		f.submitter.waitForLine(line)
		time.Sleep(time.Duration(f.seed.IntN(100)) * time.Millisecond)
		f.submitter.kill()
		f.submitter.start()
	}
	f.check()
}
