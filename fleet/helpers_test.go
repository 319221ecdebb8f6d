package fleet

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// testTimeout bounds what each test asks for, on a slow and busy machine too.
func testTimeout() time.Duration {
	if isLong() {
		return 20 * time.Minute
	}
	return 2 * time.Minute
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout())
	t.Cleanup(cancel)
	return ctx
}

// startServer starts a server in a folder, "" for one of its own, on a free port.
func startServer(t testing.TB, c ServerConfig) *Server {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.MaxStore == 0 {
		c.MaxStore = 1 << 30
	}
	c.Logger = testLog(t)
	server, err := StartServer(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func testLog(t testing.TB) zerolog.Logger {
	return zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
}

func connect(t testing.TB, url string) *Fleet {
	t.Helper()
	f, err := Connect(testContext(t), ConnectConfig{URL: url, Name: t.Name(), Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// A fake scores pairs by a hash of their texts.
type fake struct {
	identity Identity
	delay    time.Duration // of a pair
	change   func(pair engine.Pair, s *Score) error
}

func (b *fake) Identity() Identity { return b.identity }

func (b *fake) Close() error { return nil }

func (b *fake) Score(ctx context.Context, pairs []engine.Pair) ([]Score, error) {
	scores := make([]Score, len(pairs))
	for i, pair := range pairs {
		scores[i] = fakeScore(pair)
		if b.change != nil {
			if err := b.change(pair, &scores[i]); err != nil {
				return nil, err
			}
		}
	}
	select {
	case <-time.After(b.delay * time.Duration(len(pairs))):
		return scores, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func fakeScore(pair engine.Pair) Score {
	h := fnv.New32a()
	h.Write([]byte(pair.Query + "\x00" + pair.Document))
	logit := float32(h.Sum32()%100000)/10000 - 5
	return Score{Logit: logit, Score: float32(1 / (1 + math.Exp(-float64(logit))))}
}

var fakeIdentity = Identity{Program: "test", Model: "model-a", DType: engine.Float32, Class: "fake"}

// open returns a function for WorkerConfig.Open that gives a fake.
func open(b fake) func(context.Context, Settings) (Backend, error) {
	if b.identity == (Identity{}) {
		b.identity = fakeIdentity
	}
	return func(context.Context, Settings) (Backend, error) { return &b, nil }
}

// startWorker starts a worker, which stops at the end of the test or when stop is called.
func startWorker(t testing.TB, url string, c WorkerConfig) (stop func()) {
	t.Helper()
	return startWorkerOn(t, connect(t, url), c)
}

// startWorkerOn is startWorker on a connection.
func startWorkerOn(t testing.TB, f *Fleet, c WorkerConfig) (stop func()) {
	t.Helper()
	if c.Open == nil {
		c.Open = open(fake{})
	}
	c.Logger = testLog(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Work(ctx, make(chan struct{}), c) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker %s: %v", c.Name, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// A testJob is a job whose pairs the test knows.
type testJob struct {
	*Job
	chunks [][][]engine.Pair // by part
	parts  []Part
}

// submit submits a job of parts with size pairs each.
func submit(t testing.TB, f *Fleet, job Job, parts, size int) *testJob {
	t.Helper()
	j := create(t, f, job)
	addParts(t, f, j, parts, size)
	return j
}

// addParts uploads parts with size pairs each, and ends the upload.
func addParts(t testing.TB, f *Fleet, j *testJob, parts, size int) {
	t.Helper()
	ctx := testContext(t)
	uploader, err := f.Uploader(ctx, j.Job)
	if err != nil {
		t.Fatal(err)
	}
	for p := range parts {
		j.chunks = append(j.chunks, [][]engine.Pair{testPairs(p*size, size/2), testPairs(p*size+size/2, size-size/2)})
		if err := uploader.Add(ctx, j.chunks[p], int64(p), int64(p+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := uploader.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	j.parts = uploader.Parts()
}

// create starts a job with defaults for tests.
func create(t testing.TB, f *Fleet, job Job) *testJob {
	t.Helper()
	if job.Identity == (Identity{}) {
		job.Identity = fakeIdentity
	}
	if job.Settings.Model == "" {
		job.Settings.Model = "a"
	}
	canary := Canary{Pairs: testPairs(0, 3)}
	for _, pair := range canary.Pairs {
		canary.Scores = append(canary.Scores, fakeScore(pair))
	}
	if err := f.Create(testContext(t), &job, canary); err != nil {
		t.Fatal(err)
	}
	return &testJob{Job: &job}
}

func testPairs(from, n int) []engine.Pair {
	pairs := make([]engine.Pair, n)
	for i := range pairs {
		pairs[i] = engine.Pair{Query: fmt.Sprintf("query %d", (from+i)/10), Document: fmt.Sprintf("document %d\u2028 \"é\"", from+i)}
	}
	return pairs
}

// check waits for all results of a job and compares them with the fake's scores.
func (j *testJob) check(t testing.TB, f *Fleet) {
	t.Helper()
	ctx := testContext(t)
	results, err := f.Results(ctx, j.Job)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	for p, part := range j.parts {
		scores, err := results.Wait(ctx, part, j.chunks[p])
		if err != nil {
			t.Fatalf("part %d: %v", p, err)
		}
		i := 0
		for _, chunk := range j.chunks[p] {
			for _, pair := range chunk {
				if want := fakeScore(pair); scores[i] != want {
					t.Fatalf("part %d, pair %d: %+v, expected %+v", p, i, scores[i], want)
				}
				i++
			}
		}
		if i != len(scores) {
			t.Fatalf("part %d has %d scores, expected %d", p, len(scores), i)
		}
	}
	if progress := results.Progress(); progress.Parts != len(j.parts) {
		t.Errorf("%d parts are committed, expected %d", progress.Parts, len(j.parts))
	}
}

func place(t testing.TB) string { return "file://" + filepath.ToSlash(t.TempDir()) }
