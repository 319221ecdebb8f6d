package fleet

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// slowStore is a store that takes its time to answer.
type slowStore struct {
	store
	delay time.Duration
	gets  *atomic.Int64
}

func (s slowStore) get(ctx context.Context, name string) ([]byte, error) {
	s.gets.Add(1)
	time.Sleep(s.delay)
	return s.store.get(ctx, name)
}

// TestReadAhead reads finished results from a slow store: several at a time, each once.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	const parts = 40
	job := submit(t, f, Job{}, parts, 10)
	startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
	results, err := f.Results(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	waitFor(t, "all parts", func() bool { return results.Progress().Parts == parts })
	slow := slowStore{results.data, 100 * time.Millisecond, new(atomic.Int64)}
	results.data = slow
	start := time.Now()
	for p, part := range job.parts {
		scores, err := results.Wait(testContext(t), part, job.chunks[p])
		if err != nil {
			t.Fatal(err)
		}
		if want := fakeScore(job.chunks[p][0][0]); len(scores) != 10 || scores[0] != want {
			t.Errorf("part %d: %d scores, the first %v; expected 10 and %v", p, len(scores), scores[0], want)
		}
	}
	if took, alone := time.Since(start), parts*slow.delay; took > alone/2 || slow.gets.Load() != parts {
		t.Errorf("%d parts were read by %d calls in %v, expected as many calls in less than half of %v", parts, slow.gets.Load(), took, alone)
	}
}
