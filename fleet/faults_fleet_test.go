package fleet

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is a process of a fleet, which a test may kill, pause and start again.
type process struct {
	t       testing.TB
	role    role
	prepare func(*exec.Cmd) // changes the command, nil for no change

	mu      sync.Mutex
	command *exec.Cmd
	input   io.WriteCloser
	lines   []string      // of its output
	ended   chan struct{} // closed when it has ended
	starts  int
	errors  *lockedBuffer // what all of its runs wrote to stderr
}

// startProcess starts a process, which ends with the test.
func startProcess(t testing.TB, r role, prepare func(*exec.Cmd)) *process {
	t.Helper()
	p := &process{t: t, role: r, prepare: prepare, errors: &lockedBuffer{}}
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s: output %q\n%s", r.Kind, r.Name, p.output(), p.errors.tail(6000))
		}
	})
	return p
}

// start starts the process, which must not run.
func (p *process) start() {
	p.t.Helper()
	text, err := json.Marshal(p.role)
	if err != nil {
		p.t.Fatal(err)
	}
	command := exec.Command(os.Args[0], "-test.run=^$")
	command.Env = append(os.Environ(), roleVariable+"="+string(text))
	command.Stderr = p.errors
	input, err := command.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.prepare != nil {
		p.prepare(command)
	}
	if err := command.Start(); err != nil {
		p.t.Fatalf("start the %s: %v", p.role.Kind, err)
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.command, p.input, p.ended, p.lines = command, input, ended, nil
	p.starts++
	p.mu.Unlock()
	go func() {
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, scanner.Text())
			p.mu.Unlock()
		}
		command.Wait() //nolint:errcheck // tests kill it
		close(ended)
	}()
}

// kill ends the process without warning.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) signal(s os.Signal) {
	p.command.Process.Signal(s) //nolint:errcheck // it may have ended
}

func (p *process) hasEnded() bool { return isClosed(p.ended) }

func (p *process) output() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// say sends a command to the process and waits for its answer.
func (p *process) say(command string) string {
	p.t.Helper()
	before := len(p.output())
	if _, err := fmt.Fprintln(p.input, command); err != nil {
		p.t.Fatal(err)
	}
	waitFor(p.t, "an answer to "+command, func() bool { return len(p.output()) > before })
	return p.output()[before]
}

// waitForLine waits until the process, which must not end, has written a line that
// begins with text.
func (p *process) waitForLine(text string) {
	p.t.Helper()
	waitFor(p.t, fmt.Sprintf("%s to write %q", p.role.Kind, text), func() bool {
		ended := p.hasEnded()
		for _, line := range p.output() {
			if strings.HasPrefix(line, text) {
				return true
			}
		}
		if ended {
			p.t.Fatalf("the %s %s has ended without the line %q", p.role.Kind, p.role.Name, text)
		}
		return false
	})
}

// lockedBuffer is a buffer that goroutines share.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(data)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (b *lockedBuffer) tail(n int) string {
	text := b.String()
	return text[max(0, len(text)-n):]
}

// A processFleet is a server, workers and a submitter, each a process of its own.
type processFleet struct {
	t         testing.TB
	dir       string
	url       string // for clients
	server    *process
	workers   []*process
	submitter *process
	seed      *rand.Rand
}

// faultSize is the number of pairs in a part of these tests.
const faultSize = 20

// newProcessFleet starts a server process. With prepare, it starts in another namespace.
func newProcessFleet(t testing.TB, server role, prepare func(*exec.Cmd)) *processFleet {
	t.Helper()
	f := &processFleet{t: t, dir: t.TempDir(), seed: rand.New(rand.NewPCG(21, 7))}
	server.Kind, server.Dir, server.Listen = "server", cmp.Or(server.Dir, filepath.Join(f.dir, "server")), cmp.Or(server.Listen, freeAddress(t))
	f.server = startProcess(t, server, prepare)
	f.waitForServer()
	return f
}

func freeAddress(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // of a test
	return listener.Addr().String()
}

func (f *processFleet) waitForServer() {
	f.t.Helper()
	f.server.waitForLine("nats://")
	f.url = f.server.output()[0]
}

// addWorkers starts worker processes.
func (f *processFleet) addWorkers(n int, r role) {
	f.t.Helper()
	for range n {
		f.addWorker(r, nil)
	}
}

// addWorker starts a worker process. With prepare, it starts in another namespace, or
// another program.
func (f *processFleet) addWorker(r role, prepare func(*exec.Cmd)) *process {
	f.t.Helper()
	r.Kind, r.URL, r.Log, r.Size = "worker", cmp.Or(r.URL, f.url), f.log(), faultSize
	r.Name = fmt.Sprint("worker-", len(f.workers))
	p := startProcess(f.t, r, prepare)
	f.workers = append(f.workers, p)
	return p
}

func (f *processFleet) log() string { return filepath.Join(f.dir, "scored") }

// submit starts a process that submits a job.
func (f *processFleet) submit(parts int, job Job) { f.t.Helper(); f.submitBy(parts, job, nil) }

func (f *processFleet) submitBy(parts int, job Job, prepare func(*exec.Cmd)) {
	f.t.Helper()
	job.Identity, job.Settings.Model = fakeIdentity, "a"
	job.AckWait = cmp.Or(job.AckWait, 2*time.Second)
	f.submitter = startProcess(f.t, role{
		Kind: "submitter", Name: "submitter", URL: f.url, Job: job, Parts: parts, Size: faultSize, Output: filepath.Join(f.dir, "output"),
	}, prepare)
}

// client returns a connection and the job, once the submitter has made it.
func (f *processFleet) client() (*Fleet, *Job) {
	f.t.Helper()
	file := f.submitter.role.Output + ".job"
	waitFor(f.t, "the job", func() bool { _, err := os.Stat(file); return err == nil })
	id, err := os.ReadFile(file)
	if err != nil {
		f.t.Fatal(err)
	}
	client := connect(f.t, f.url)
	job, err := client.Job(testContext(f.t), string(id))
	if err != nil {
		f.t.Fatal(err)
	}
	return client, job
}

// outcome is what a faulty run did.
type outcome struct {
	parts   int
	scored  int // parts that were scored, repeated ones again
	double  int // finishes that came second
	damaged int // commits that were withdrawn
}

// check waits for the output and compares it with the scores of one machine. It checks
// that each part has one commit, and the sums of Status.
func (f *processFleet) check() outcome {
	f.t.Helper()
	f.waitForOutput()
	r := f.submitter.role
	output, err := os.ReadFile(r.Output)
	if err != nil {
		f.t.Fatal(err)
	}
	var want bytes.Buffer
	for p := range r.Parts {
		for _, chunk := range testChunks(p, r.Size) {
			for _, pair := range chunk {
				want.Write(scoreLines([]Score{fakeScore(pair)}))
			}
		}
	}
	if !bytes.Equal(output, want.Bytes()) {
		f.t.Fatalf("the output of %d bytes is not the single machine's of %d bytes", len(output), want.Len())
	}
	client, job := f.client()
	f.checkCommits(client, job)
	waitFor(f.t, "status to report that all parts are finished", func() bool {
		s, err := client.Status(testContext(f.t), job.ID)
		return err == nil && s.Finished == r.Parts && s.Pairs == r.Parts*r.Size && s.Queued+s.Working+len(s.Failed) == 0
	})
	found := f.outcome()
	f.t.Logf("%d parts, %d scored, %d finished second", found.parts, found.scored, found.double)
	return found
}

// checkCommits checks that there was one commit a part, ever: a key that was created
// again, or changed, would have a higher sequence.
func (f *processFleet) checkCommits(client *Fleet, job *Job) {
	f.t.Helper()
	ctx := testContext(f.t)
	commits, err := client.commitsOf(ctx, job)
	if err != nil {
		f.t.Fatal(err)
	}
	stream, err := client.js.Stream(ctx, "KV_"+commitsBucket)
	if err != nil {
		f.t.Fatal(err)
	}
	parts := f.submitter.role.Parts
	if last := stream.CachedInfo().State.LastSeq; len(commits) != parts || last != uint64(parts) {
		f.t.Errorf("%d parts are committed by %d writes, expected %d by as many", len(commits), last, parts)
	}
}

func (f *processFleet) waitForOutput() {
	f.t.Helper()
	f.submitter.waitForLine("complete")
}

// isComplete reports whether the submitter has all scores.
func (f *processFleet) isComplete() bool { return slices.Contains(f.submitter.output(), "complete") }

// checkSums checks that Status counts each part once. A part that changes its place
// while Status counts may be counted twice or not at all; each worker has two at most.
func (f *processFleet) checkSums(client *Fleet, job *Job) {
	f.t.Helper()
	s, err := client.Status(testContext(f.t), job.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	sum := s.Finished + s.Queued + s.Working + len(s.Failed)
	if slack := 2 * len(f.workers); s.Job.State == Open && (sum < s.Job.Parts-slack || sum > s.Job.Parts+slack) {
		f.t.Errorf("status: %d finished, %d queued, %d working and %d failed parts, expected %d together", s.Finished, s.Queued, s.Working, len(s.Failed), s.Job.Parts)
	}
}

func (f *processFleet) outcome() outcome {
	f.t.Helper()
	found := outcome{parts: f.submitter.role.Parts, scored: len(f.scoredParts())}
	for _, worker := range f.workers {
		found.double += strings.Count(worker.errors.String(), "another worker finished the part first")
	}
	found.damaged = strings.Count(f.submitter.errors.String(), "is damaged")
	return found
}

// scoredParts returns the lines of the log of scored parts.
func (f *processFleet) scoredParts() []string {
	log, err := os.ReadFile(f.log())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Fatal(err)
	}
	return strings.Split(string(log), "\n")[:bytes.Count(log, []byte("\n"))]
}

// waitForScored waits until workers have scored so many parts.
func (f *processFleet) waitForScored(n int) {
	f.t.Helper()
	waitFor(f.t, fmt.Sprint(n, " scored parts"), func() bool { return len(f.scoredParts()) >= n })
}

// isLong reports whether the tests take their time.
func isLong() bool { return os.Getenv("MLXRANK_TEST_LONG") != "" }
