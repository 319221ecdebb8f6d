package service

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
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

const (
	patience = time.Minute // for what should take a second
	key      = "a-key-of-the-tests"
)

// program is the mlxrank that TestMain builds.
var program string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if flag.Parse(); testing.Short() { // whose tests start no program
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "service")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	program = filepath.Join(dir, "mlxrank")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/mlxrank").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A process runs until its test ends, with the processes that it starts.
type process struct {
	*exec.Cmd
	name  string
	log   lockedBuffer
	ended chan struct{}
}

// A lockedBuffer has no method of bytes.Buffer that would go around the lock.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(data)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startProcess starts a program in a process group of its own.
func startProcess(t *testing.T, name string, env []string, words ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(words[0], words[1:]...), name: name, ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.log, &p.log
	p.Env = append(os.Environ(), env...)
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		if err := p.Wait(); err != nil && p.ProcessState == nil {
			panic(err)
		}
	}()
	t.Cleanup(func() {
		if err := syscall.Kill(-p.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s: %v", name, err)
		}
		p.end(t)
	})
	return p
}

// signal sends a signal unless the process has ended.
func (p *process) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("%s: %v", p.name, err)
	}
}

// end waits for the end of the process and returns its exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s does not end: %s", p.name, p.log.String())
		return 0
	}
}

// A server is a `mlxrank serve` of the builtin model.
type server struct {
	*process
	address string
	flags   []string
}

// startServers starts servers at free ports and waits until they are ready.
func startServers(t *testing.T, n int, flags ...string) []*server {
	t.Helper()
	servers := make([]*server, n)
	for i := range servers {
		servers[i] = &server{address: freeAddress(t), flags: flags}
		servers[i].start(t)
	}
	for _, s := range servers {
		s.waitUntilReady(t)
	}
	return servers
}

// start starts the server, or a new process in place of one that has ended.
func (s *server) start(t *testing.T) {
	t.Helper()
	flags := slices.Concat([]string{program, "serve", "--model", "builtin", "--device", "cpu", "--threads", "1", "--cache-mb", "0", "--listen", s.address}, s.flags)
	s.process = startProcess(t, "the server at "+s.address, nil, flags...)
}

func (s *server) waitUntilReady(t *testing.T) {
	t.Helper()
	waitForStatus(t, s.process, "http://"+s.address+"/ready", http.StatusOK)
}

// waitForStatus waits until a GET of url is answered with the status.
func waitForStatus(t *testing.T, p *process, url string, status int) {
	t.Helper()
	got, err := 0, error(nil)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got, err = statusOf(t.Context(), url); err == nil && got == status {
			return
		}
		select {
		case <-p.ended:
			t.Fatalf("%s has ended: %s", p.name, p.log.String())
		default:
		}
	}
	t.Fatalf("%s: %d, %v, want %d: %s", url, got, err, status, p.log.String())
}

func statusOf(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	return w.StatusCode, w.Body.Close()
}

// freeAddress returns an address of this machine that nothing listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// built returns a path in the folder of set-up.
func built(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(filepath.Join("..", "..", "build", path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(full); err != nil {
		t.Fatalf("%v; run python3 scripts/setup.py balancers", err)
	}
	return full
}

// replaceOnce replaces a text that a file has once.
func replaceOnce(t *testing.T, file, text, old, replacement string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%s has %q %d times, want once", file, old, n)
	}
	return strings.Replace(text, old, replacement, 1)
}
