package fleet

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// TestJob has three workers score a job, and looks that nothing is left.
func TestJob(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"", place(t)} {
		server := startServer(t, ServerConfig{})
		f := connect(t, server.URL())
		for i := range 3 {
			startWorker(t, server.URL(), WorkerConfig{Name: fmt.Sprint("worker ", i)})
		}
		job := submit(t, f, Job{Store: where}, 20, 30)
		job.check(t, f)
		status, err := f.Status(testContext(t), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		if status.Finished != 20 || status.Pairs != 600 || len(status.Failed) != 0 || len(status.Workers) != 3 {
			t.Errorf("status: %+v", status)
		}
		if err := f.Finish(testContext(t), job.Job); err != nil {
			t.Fatal(err)
		}
		checkEmpty(t, f, job)
	}
}

// checkEmpty checks that the server has nothing of a job besides its entry.
func checkEmpty(t *testing.T, f *Fleet, job *testJob) {
	t.Helper()
	ctx := testContext(t)
	if info, err := f.parts.Info(ctx); err != nil || info.State.Msgs != 0 || info.State.Consumers != 0 {
		t.Errorf("the queue has %d messages and %d consumers (%v)", info.State.Msgs, info.State.Consumers, err)
	}
	if commits, err := f.commitsOf(ctx, job.Job); err != nil || len(commits) != 0 {
		t.Errorf("%d commits are left (%v)", len(commits), err)
	}
	data, err := f.openStore(ctx, job.Job)
	if err != nil {
		return // the bucket is gone
	}
	if _, err := data.get(ctx, canaryName); !errors.Is(err, errMissing) {
		t.Errorf("the canary is left (%v)", err)
	}
}

// TestPoison has parts that always fail: they are listed with the reason, the others are
// finished, and after a repair they can be tried again.
func TestPoison(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	poison := func(pair engine.Pair, _ *Score) error {
		if strings.HasPrefix(pair.Document, "document 33") {
			return errors.New("the device is on fire")
		}
		return nil
	}
	stop := startWorker(t, server.URL(), WorkerConfig{Name: "poisoned", Open: open(fake{change: poison})})
	job := submit(t, f, Job{MaxDeliver: 2}, 10, 10)
	results, err := f.Results(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	_, err = results.Wait(testContext(t), job.parts[3], job.chunks[3])
	var failed *PartError
	if !errors.As(err, &failed) || failed.Failure.Reason != "the device is on fire" || failed.Failure.Deliveries != 2 {
		t.Fatalf("part 3: %v, expected its failure", err)
	}
	for _, part := range append(job.parts[:3:3], job.parts[4:]...) {
		if _, err := results.Wait(testContext(t), part, job.chunks[part.Index]); err != nil {
			t.Fatal(err)
		}
	}
	status, err := f.Status(testContext(t), job.ID)
	if err != nil || len(status.Failed) != 1 || status.Finished != 9 || status.Queued+status.Working != 0 {
		t.Fatalf("status: %+v (%v)", status, err)
	}
	stop()
	startWorker(t, server.URL(), WorkerConfig{Name: "sound"})
	if err := f.Rebuild(testContext(t), job.Job, true); err != nil {
		t.Fatal(err)
	}
	job.check(t, f)
}

// TestNotFinite has a worker that returns NaN: it commits nothing, and leaves the job.
func TestNotFinite(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	nan, pairs := float32(math.NaN()), 0
	broken := func(_ engine.Pair, s *Score) error {
		if pairs++; pairs > 20 {
			s.Logit = nan
		}
		return nil
	}
	startWorker(t, server.URL(), WorkerConfig{Name: "broken", Open: open(fake{change: broken})})
	job := submit(t, f, Job{}, 6, 10)
	waitFor(t, "the broken worker to leave the job", func() bool {
		workers, err := f.Workers(testContext(t))
		return err == nil && len(workers) == 1 && strings.Contains(workers[0].Refused[job.ID], "NaN")
	})
	startWorker(t, server.URL(), WorkerConfig{Name: "sound"})
	job.check(t, f)
}

// TestRefused has workers whose model, class or scores differ.
func TestRefused(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	change := func(f func(*Identity)) fake {
		i := fakeIdentity
		f(&i)
		return fake{identity: i}
	}
	workers := map[string]fake{
		"contents model-b here, and the job needs model-a": change(func(i *Identity) { i.Model = "model-b" }),
		"the number format is float16":                     change(func(i *Identity) { i.DType = engine.Float16 }),
		`the device class is "gpu"`:                        change(func(i *Identity) { i.Class = "gpu" }),
		"mlxrank here is 9.9":                              change(func(i *Identity) { i.Program = "9.9" }),
		"the difference 0.001": {change: func(_ engine.Pair, s *Score) error {
			s.Logit += .001
			return nil
		}},
	}
	for reason, b := range workers {
		startWorker(t, server.URL(), WorkerConfig{Name: reason, Open: open(b)})
	}
	job := submit(t, f, Job{}, 3, 10)
	waitFor(t, "all workers to be refused with the reason", func() bool {
		states, err := f.Workers(testContext(t))
		refused := 0
		for _, s := range states {
			if strings.Contains(s.Refused[job.ID], s.Name) {
				refused++
			}
		}
		return err == nil && refused == len(workers)
	})
	if status, err := f.Status(testContext(t), job.ID); err != nil || status.Finished != 0 || status.Queued != 3 {
		t.Errorf("status: %+v (%v), expected 3 parts in the queue", status, err)
	}
	// With a tolerance, the classes and formats mix.
	mixed := submit(t, f, Job{Tolerance: .01}, 3, 10)
	results, err := f.Results(testContext(t), mixed.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	for _, part := range mixed.parts {
		if _, err := results.Wait(testContext(t), part, mixed.chunks[part.Index]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSeveralModels has one worker finish jobs of two models.
func TestSeveralModels(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	one := submit(t, f, Job{Settings: Settings{Model: "a"}}, 5, 10)
	two := submit(t, f, Job{Settings: Settings{Model: "b"}}, 5, 10)
	startWorker(t, server.URL(), WorkerConfig{Name: "both"})
	one.check(t, f)
	two.check(t, f)
}

// TestCancel cancels a job in the middle: its worker drops it and takes the next.
func TestCancel(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	startWorker(t, server.URL(), WorkerConfig{Name: "slow", Open: open(fake{delay: 10 * time.Millisecond})})
	job := submit(t, f, Job{}, 50, 20)
	results, err := f.Results(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	if _, err := results.Wait(testContext(t), job.parts[0], job.chunks[0]); err != nil {
		t.Fatal(err)
	}
	if err := f.Cancel(testContext(t), job.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := results.Wait(testContext(t), job.parts[49], job.chunks[49]); !errors.Is(err, ErrCancelled) {
		t.Errorf("a part of the cancelled job: %v, expected %v", err, ErrCancelled)
	}
	next := submit(t, f, Job{}, 2, 10)
	next.check(t, f)
	if err := f.Finish(testContext(t), next.Job); err != nil {
		t.Fatal(err)
	}
	if err := f.Cancel(testContext(t), job.ID); err != nil { // also removes what a worker wrote since
		t.Fatal(err)
	}
	checkEmpty(t, f, job)
}

// TestDamagedResult has the object of a committed result change: the part is scored
// again.
func TestDamagedResult(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	job := submit(t, f, Job{}, 4, 10)
	stop := startWorker(t, server.URL(), WorkerConfig{Name: "first"})
	job.check(t, f)
	stop()
	commits, err := f.commitsOf(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	data, err := f.openStore(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	if err := data.put(testContext(t), commits[2].Object, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	startWorker(t, server.URL(), WorkerConfig{Name: "second"})
	job.check(t, f)
	if commits, err = f.commitsOf(testContext(t), job.Job); err != nil || commits[2].Worker != "second" || commits[1].Worker != "first" {
		t.Errorf("commits: %v (%v), expected the second worker's for part 2 only", commits, err)
	}
}

// TestRestart restarts the server in the middle of a job.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := StartServer(ServerConfig{Dir: dir, Listen: "127.0.0.1:0", MaxStore: 1 << 30, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	url := server.URL()
	f := connect(t, url)
	job := submit(t, f, Job{}, 30, 20)
	startWorker(t, url, WorkerConfig{Name: "worker", Open: open(fake{delay: time.Millisecond})})
	results, err := f.Results(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	if _, err := results.Wait(testContext(t), job.parts[5], job.chunks[5]); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(redact(url), "nats://")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	startServer(t, ServerConfig{Dir: dir, Listen: address})
	job.check(t, f)
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > testTimeout()/2 {
			t.Fatalf("waited %v for %s", time.Since(start), what)
		}
	}
}
