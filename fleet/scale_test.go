package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	system "github.com/shirou/gopsutil/v4/process"

	"github.com/mlxrank/mlxrank/engine"
)

var (
	scaleWorkers = flag.Int("scale-workers", 40, "workers of TestScale")
	scaleParts   = flag.Int("scale-parts", 300, "parts of TestScale")
	scalePart    = flag.Duration("scale-part", 300*time.Millisecond, "time that a worker of TestScale takes for a part")
	scaleAckWait = flag.Duration("scale-ack-wait", 3*time.Second, "ack wait of TestScale")
	scaleIdle    = flag.Duration("scale-idle", 2*time.Second, "time that TestScale watches its workers without parts")
	scaleOutput  = flag.String("scale-output", "", "file for the figures of TestScale, as JSON, and its plot, as .png")
)

// scaleSize is the number of pairs in a part of TestScale.
const scaleSize = 20

// scaleTimeout bounds TestScale.
const scaleTimeout = 20 * time.Minute

// traffic is what the server has sent and received since its start.
type traffic struct {
	InMsgs, OutMsgs, InBytes, OutBytes int64
	Connections                        int
	Subscriptions                      uint32
}

func serverTraffic(s *Server) string {
	v, err := s.server.Varz(nil)
	if err != nil {
		return err.Error()
	}
	data, err := json.Marshal(traffic{v.InMsgs, v.OutMsgs, v.InBytes, v.OutBytes, v.Connections, v.Subscriptions})
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// A scaleSample is the state of a simulated fleet at a time.
type scaleSample struct {
	Seconds  float64 `json:"seconds"`
	Finished int     `json:"finished"` // parts
	Alive    int     `json:"alive"`    // workers
	CPU      float64 `json:"cpu_s"`    // of the server, since its start
	MemoryMB float64 `json:"memory_mb"`
	DiskMB   float64 `json:"disk_mb"`
	traffic
}

// scaleReport is what TestScale measures.
type scaleReport struct {
	Workers        int           `json:"workers"`
	Parts          int           `json:"parts"`
	PartSeconds    float64       `json:"part_s"`
	AckWaitSeconds float64       `json:"ack_wait_s"`
	Died           int           `json:"workers_died"`
	Abandoned      int           `json:"parts_abandoned"` // that workers had when they died
	Scored         int           `json:"parts_scored"`    // those that were scored twice count twice
	IdealSeconds   float64       `json:"ideal_s"`         // without deaths and overhead
	Seconds        float64       `json:"wall_s"`
	UploadSeconds  float64       `json:"upload_s"`
	PerPart        perPart       `json:"per_part"`
	Idle           idleRates     `json:"idle_per_worker"`
	Samples        []scaleSample `json:"samples"`
}

// perPart is the server's effort for a part, from the first commit to the last.
type perPart struct {
	CPUMilliseconds float64 `json:"cpu_ms"`
	InMsgs          float64 `json:"in_msgs"`
	OutMsgs         float64 `json:"out_msgs"`
	InKB            float64 `json:"in_kb"`
	OutKB           float64 `json:"out_kb"`
}

// idleRates are the server's effort for a worker that waits for a part.
type idleRates struct {
	CPUMilliseconds float64 `json:"cpu_ms_per_s"`
	InMsgs          float64 `json:"in_msgs_per_s"`
	OutMsgs         float64 `json:"out_msgs_per_s"`
}

// TestScale simulates a fleet: workers in this process, each with its own connection,
// and a server in a process of its own. A third of the workers die without a word, with
// the parts that they have, and come back.
func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), scaleTimeout)
	defer cancel()
	server := startProcess(t, role{Kind: "server", Dir: filepath.Join(t.TempDir(), "server"), Listen: freeAddress(t), MaxStore: 8 << 30}, nil)
	server.waitForLine("nats://")
	s := &simulation{t: t, server: server, url: server.output()[0], start: time.Now(), gate: make(chan struct{})}
	s.report = scaleReport{Workers: *scaleWorkers, Parts: *scaleParts, PartSeconds: scalePart.Seconds(), AckWaitSeconds: scaleAckWait.Seconds()}
	s.report.IdealSeconds = float64(*scaleParts) / float64(*scaleWorkers) * scalePart.Seconds()
	f := connect(t, s.url)
	var workers sync.WaitGroup
	defer workers.Wait()
	working, stop := context.WithCancel(ctx)
	defer stop()
	for i := range *scaleWorkers {
		workers.Go(func() { s.worker(working, i) })
	}
	waitFor(t, "the workers to connect", func() bool { return s.alive.Load() == int64(*scaleWorkers) })
	s.run(ctx, f)
	s.idle()
	stop()
	s.log()
	s.write()
}

// A simulation is a fleet of workers in this process.
type simulation struct {
	t      *testing.T
	server *process
	url    string
	start  time.Time
	report scaleReport

	alive, scored, died, abandoned atomic.Int64
	gate                           chan struct{} // closed when the workers may take parts
	finished                       atomic.Int64
}

// worker works until ctx ends. Every third worker dies once, at a random time.
func (s *simulation) worker(ctx context.Context, i int) {
	for life := 0; ctx.Err() == nil; life++ {
		s.live(ctx, i, i%3 == 0 && life == 0)
		if ctx.Err() == nil {
			wait(ctx, time.Duration(rand.Float64()*float64(*scaleAckWait))) // until it is back
		}
	}
}

// live is the life of a worker.
func (s *simulation) live(ctx context.Context, i int, mortal bool) {
	f, err := Connect(ctx, ConnectConfig{URL: s.url, Name: fmt.Sprint("worker ", i), Logger: zerolog.Nop()})
	if err != nil {
		if ctx.Err() == nil {
			s.t.Errorf("worker %d: %v", i, err)
			wait(ctx, time.Second)
		}
		return
	}
	defer f.Close()
	s.alive.Add(1)
	defer s.alive.Add(-1)
	life, end := context.WithCancel(ctx)
	defer end()
	b := &simulated{fake{identity: fakeIdentity}, s, atomic.Bool{}}
	ended := make(chan struct{})
	var dead atomic.Bool
	go func() {
		defer close(ended)
		c := WorkerConfig{Name: fmt.Sprint("worker ", i), Logger: zerolog.Nop(), Open: func(context.Context, Settings) (Backend, error) {
			<-s.gate
			return b, nil
		}}
		if err := f.Work(life, make(chan struct{}), c); err != nil && life.Err() == nil && !dead.Load() {
			s.t.Errorf("worker %d: %v", i, err)
		}
	}()
	if mortal {
		<-s.gate
		wait(ctx, time.Duration(rand.Float64()*s.report.IdealSeconds*float64(time.Second)))
		if ctx.Err() == nil {
			dead.Store(true)
			f.conn.Close() // before the worker can say anything
			s.died.Add(1)
			if b.working.Load() {
				s.abandoned.Add(1)
			}
			end()
		}
	}
	<-ended
}

// wait waits for a time. It reports whether ctx goes on.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// simulated is a backend that takes a given time for a part.
type simulated struct {
	fake
	simulation *simulation
	working    atomic.Bool
}

// Score takes half of a part's time: the parts of a test have two chunks.
func (b *simulated) Score(ctx context.Context, pairs []engine.Pair) ([]Score, error) {
	if len(pairs) < scaleSize/2 { // the canary
		return b.fake.Score(ctx, pairs)
	}
	first := b.working.CompareAndSwap(false, true)
	if !wait(ctx, *scalePart/2) {
		return nil, ctx.Err()
	}
	if !first {
		b.working.Store(false)
		b.simulation.scored.Add(1)
	}
	return b.fake.Score(ctx, pairs)
}

// idle measures the server while all parts of the only job are finished.
func (s *simulation) idle() {
	wait(s.t.Context(), 2*time.Second)
	before, start := s.sample(), time.Now()
	wait(s.t.Context(), *scaleIdle)
	after, took := s.sample(), time.Since(start).Seconds()*float64(*scaleWorkers)
	s.report.Idle = idleRates{(after.CPU - before.CPU) * 1000 / took, float64(after.InMsgs-before.InMsgs) / took, float64(after.OutMsgs-before.OutMsgs) / took}
}

// run runs the job and samples the server every second.
func (s *simulation) run(ctx context.Context, f *Fleet) {
	job := create(s.t, f, Job{AckWait: *scaleAckWait, MaxDeliver: 50})
	results, err := f.Results(ctx, job.Job)
	if err != nil {
		s.t.Fatal(err)
	}
	defer results.Close()
	s.upload(ctx, f, job)
	close(s.gate)
	s.start = time.Now()
	var sampling sync.WaitGroup
	sampled, stop := context.WithCancel(ctx)
	sampling.Go(func() {
		for {
			s.finished.Store(int64(results.Progress().Parts))
			s.report.Samples = append(s.report.Samples, s.sample())
			if !wait(sampled, time.Second) {
				return
			}
		}
	})
	for p, part := range job.parts {
		scores, err := results.Wait(ctx, part, testChunks(p, scaleSize))
		if err != nil {
			s.t.Fatal(err)
		}
		i := 0
		for _, chunk := range testChunks(p, scaleSize) {
			for _, pair := range chunk {
				if scores[i] != fakeScore(pair) {
					s.t.Fatalf("part %d, pair %d: %v, expected %v", p, i, scores[i], fakeScore(pair))
				}
				i++
			}
		}
	}
	s.report.Seconds = time.Since(s.start).Seconds()
	s.finished.Store(int64(results.Progress().Parts))
	stop()
	sampling.Wait()
	s.report.Samples = append(s.report.Samples, s.sample())
	s.summarize(f, job.Job)
}

// upload uploads the parts, which the workers take later.
func (s *simulation) upload(ctx context.Context, f *Fleet, job *testJob) {
	start := time.Now()
	uploader, err := f.Uploader(ctx, job.Job)
	if err != nil {
		s.t.Fatal(err)
	}
	for p := range *scaleParts {
		if err := uploader.Add(ctx, testChunks(p, scaleSize), int64(p), int64(p+1)); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := uploader.Seal(ctx); err != nil {
		s.t.Fatal(err)
	}
	job.parts = uploader.Parts()
	s.report.UploadSeconds = time.Since(start).Seconds()
}

// summarize checks that each part has one commit, ever, and computes the figures.
func (s *simulation) summarize(f *Fleet, job *Job) {
	ctx := testContext(s.t)
	commits, err := f.commitsOf(ctx, job)
	if err != nil {
		s.t.Fatal(err)
	}
	stream, err := f.js.Stream(ctx, "KV_"+commitsBucket)
	if err != nil {
		s.t.Fatal(err)
	}
	if last := stream.CachedInfo().State.LastSeq; len(commits) != *scaleParts || last != uint64(*scaleParts) {
		s.t.Errorf("%d parts are committed by %d writes, expected %d by as many", len(commits), last, *scaleParts)
	}
	r := &s.report
	r.Scored, r.Died, r.Abandoned = int(s.scored.Load()), int(s.died.Load()), int(s.abandoned.Load())
	first, last := r.Samples[0], r.Samples[len(r.Samples)-1]
	n := float64(last.Finished - first.Finished)
	r.PerPart = perPart{
		(last.CPU - first.CPU) * 1000 / n, float64(last.InMsgs-first.InMsgs) / n, float64(last.OutMsgs-first.OutMsgs) / n,
		float64(last.InBytes-first.InBytes) / n / 1000, float64(last.OutBytes-first.OutBytes) / n / 1000,
	}
}

// log prints the figures.
func (s *simulation) log() {
	r := &s.report
	first, last := r.Samples[0], r.Samples[len(r.Samples)-1]
	peak := 0.0
	for _, sample := range r.Samples {
		peak = max(peak, sample.MemoryMB)
	}
	s.t.Logf("upload %.1f s, %.0f parts/s", r.UploadSeconds, float64(r.Parts)/r.UploadSeconds)
	s.t.Logf("%d workers, %d parts of %.1f s: %.1f s, ideal %.1f s, %.0f parts/s; %d died, %d abandoned, %d scored", r.Workers, r.Parts, r.PartSeconds, r.Seconds, r.IdealSeconds, float64(r.Parts)/r.Seconds, r.Died, r.Abandoned, r.Scored)
	s.t.Logf("server: CPU %.1f s (%.2f cores), memory %.0f MB at most, disk %.0f MB; a part: %+v; an idle worker: %+v", last.CPU-first.CPU, (last.CPU-first.CPU)/r.Seconds, peak, last.DiskMB, r.PerPart, r.Idle)
}

// sample measures the server.
func (s *simulation) sample() scaleSample {
	sample := scaleSample{Seconds: time.Since(s.start).Seconds(), Finished: int(s.finished.Load()), Alive: int(s.alive.Load())}
	p, err := system.NewProcess(int32(s.server.command.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	times, timesErr := p.Times()
	memory, memoryErr := p.MemoryInfo()
	if err := errors.Join(timesErr, memoryErr, json.Unmarshal([]byte(s.server.say("traffic")), &sample.traffic)); err != nil {
		s.t.Error(err)
		return sample
	}
	sample.CPU, sample.MemoryMB = times.User+times.System, float64(memory.RSS)/1e6
	filepath.WalkDir(s.server.role.Dir, func(_ string, d fs.DirEntry, err error) error { //nolint:errcheck // files come and go
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sample.DiskMB += float64(info.Size()) / 1e6
		}
		return nil
	})
	return sample
}

func (s *simulation) write() {
	if *scaleOutput == "" {
		return
	}
	data, err := json.MarshalIndent(s.report, "", " ")
	if err == nil {
		err = os.WriteFile(*scaleOutput, append(data, '\n'), 0o666)
	}
	if err == nil {
		err = plotScale(&s.report, *scaleOutput+".png")
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
