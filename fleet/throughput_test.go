package fleet

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestThroughput has worker processes of a fixed speed: together they reach at least 0.95
// of the sum, from the first commit to the last.
func TestThroughput(t *testing.T) {
	if os.Getenv("MLXRANK_TEST_LONG") == "" {
		t.Skip("slow: MLXRANK_TEST_LONG=1 runs it")
	}
	const delay, partsEach = 75 * time.Millisecond, 25 // a part of faultSize pairs takes 1.5 s
	for _, workers := range []int{2, 4} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			f := newProcessFleet(t, role{}, nil)
			f.submit(workers*partsEach, Job{})
			f.addWorkers(workers, role{Identity: fakeIdentity, Delay: delay})
			f.waitForOutput()
			client, job := f.client()
			watcher, err := client.bucket(commitsBucket).Watch(testContext(t), job.ID+".*")
			if err != nil {
				t.Fatal(err)
			}
			var first, last time.Time
			count := 0
			for entry := range watcher.Updates() {
				if entry == nil {
					break
				}
				if at := entry.Created(); count == 0 || at.Before(first) {
					first = at
				}
				if at := entry.Created(); at.After(last) {
					last = at
				}
				count++
			}
			// The first commits of all workers come at about the same time: they are the start.
			rate := float64((count-workers)*faultSize) / last.Sub(first).Seconds()
			sum := float64(workers) / delay.Seconds()
			t.Logf("%d parts, %.1f s: %.2f pairs/s, %.3f of the sum %.2f", count, last.Sub(first).Seconds(), rate, rate/sum, sum)
			if rate < 0.95*sum {
				t.Errorf("%.3f of the sum, expected at least 0.95", rate/sum)
			}
		})
	}
}
