package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"howett.net/plist"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A serving is a running server with its log.
type serving struct {
	*exec.Cmd
	address string
	mu      sync.Mutex
	log     bytes.Buffer // complete after ended is closed
	ended   chan struct{}
}

// startServing starts the program and waits until it listens.
func startServing(t *testing.T, args ...string) *serving {
	t.Helper()
	return startServer(t, []string{program}, args...)
}

// startServer does the same with a command that runs the program.
func startServer(t *testing.T, command []string, args ...string) *serving {
	t.Helper()
	return startServerWith(t, nil, command, args...)
}

// startServerWith does the same with open files, the first of which is number 3.
func startServerWith(t *testing.T, files []*os.File, command []string, args ...string) *serving {
	t.Helper()
	s := &serving{ended: make(chan struct{})}
	s.Cmd = exec.CommandContext(t.Context(), command[0], slices.Concat(command[1:], []string{"serve", "--device", "cpu", "--log-format", "json", "--log-level", "debug"}, args)...)
	s.ExtraFiles = files
	stderr, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		defer close(s.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var event struct{ Address, Message string }
			if json.Unmarshal(lines.Bytes(), &event) == nil && event.Message == "listening" {
				select { // the first one
				case address <- event.Address:
				default:
				}
			}
			s.mu.Lock()
			s.log.Write(append(lines.Bytes(), '\n'))
			s.mu.Unlock()
		}
	}()
	select {
	case s.address = <-address:
	case <-s.ended:
		t.Fatalf("the program ended: %s", s.log.String())
	case <-time.After(time.Minute):
		t.Fatal("the program does not listen")
	}
	return s
}

// end waits for the end of the program and returns its exit status.
func (s *serving) end(t *testing.T) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		t.Fatal("the program does not end")
	}
	if err := s.Wait(); err != nil && s.ProcessState == nil {
		t.Fatal(err)
	}
	return s.ProcessState.ExitCode()
}

func (s *serving) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := s.Process.Signal(signal); err != nil {
		t.Error(err)
	}
}

func askFor(address, documents string, headers ...string) (int, []byte, error) {
	r, err := http.NewRequest(http.MethodPost, address+"/v2/rerank", strings.NewReader(`{"query": "city", "documents": `+documents+`}`))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	body, err := io.ReadAll(w.Body)
	if cerr := w.Body.Close(); err == nil {
		err = cerr
	}
	return w.StatusCode, body, err
}

// TestServe requires the key, expects the scores of rerank, and expects status 0 after
// a signal.
func TestServe(t *testing.T) {
	t.Parallel()
	model, key := tinyModel(t), filepath.Join(t.TempDir(), "key")
	weightstest.WriteFile(t, key, []byte("a-key\n"))
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := startServing(t, "--model", model, "--listen", "127.0.0.1:0", "--api-key-file", key)
		if status, body, err := askFor(s.address, `["london"]`); status != 401 {
			t.Errorf("without the key: %d %s %v", status, body, err)
		}
		status, body, err := askFor(s.address, `["london", "water", "a city"]`, "Authorization", "Bearer a-key")
		if err != nil || status != 200 {
			t.Fatalf("%d %s %v", status, body, err)
		}
		checkRanking(t, model, body)
		s.signal(t, signal)
		if status := s.end(t); status != 0 {
			t.Errorf("status %d, want 0: %s", status, s.log.String())
		}
		if log := s.log.String(); !strings.Contains(log, `"message":"stopped"`) || strings.Contains(log, "london") || strings.Contains(log, `"message":"request"`) || len(scored.FindAllString(log, -1)) != 1 {
			t.Errorf("not one event with a request's figures: %s", log)
		}
	}
}

var scored = regexp.MustCompile(`(?m)^.*"inference_ms":.*"message":"http".*$`)

// checkRanking compares an answer with the output of the rerank command.
func checkRanking(t *testing.T, model string, body []byte) {
	t.Helper()
	var got struct {
		Results []struct {
			Index int
			Score float64 `json:"relevance_score"`
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	cmd, stderr := command(t, "rerank", "--model", model, "--device", "cpu", "--activation", "sigmoid", "--json", "--query", "city", "london", "water", "a city")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	var want struct {
		Results []struct {
			Index int
			Score float64
		}
	}
	if err := json.Unmarshal(out, &want); err != nil || len(want.Results) != 3 || len(got.Results) != 3 {
		t.Fatalf("%v: %s, %s", err, out, body)
	}
	for i, item := range got.Results {
		if item.Index != want.Results[i].Index || math.Abs(item.Score-want.Results[i].Score) > 1e-6 {
			t.Errorf("rank %d has %+v, rerank prints %+v", i, item, want.Results[i])
		}
	}
}

// TestServeHangup sends SIGHUP twice, as a closed terminal does: the server answers the
// running call and ends. Under nohup the server keeps running.
func TestServeHangup(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	// A program inherits that SIGHUP is ignored, as under nohup, unless its parent
	// catches the signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	model := tinyModel(t)
	s := startServing(t, "--model", model, "--listen", "127.0.0.1:0")
	documents, answered := largeCall(t, 1000), make(chan int, 1)
	go func() {
		status, _, err := askFor(s.address, documents)
		if err != nil {
			t.Error(err)
		}
		answered <- status
	}()
	waitForAnswer(t, s.address+"/metrics", 200, `\nmlxrank_requests_live{[^}]*} 1\n`)
	s.signal(t, syscall.SIGHUP)
	s.signal(t, syscall.SIGHUP)
	if status := <-answered; status != 200 {
		t.Errorf("the running call: status %d", status)
	}
	if status := s.end(t); status != 0 {
		t.Errorf("status %d: %s", status, s.log.String())
	}

	s = startServer(t, []string{"sh", "-c", `trap '' HUP; exec "$0" "$@"`, program}, "--model", model, "--listen", "127.0.0.1:0")
	s.signal(t, syscall.SIGHUP)
	time.Sleep(100 * time.Millisecond)
	waitForAnswer(t, s.address+"/ready", 200, "ready")
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d: %s", status, s.log.String())
	}
}

// TestServeSecondSignal sends two signals while callers repeat their calls: after the
// first, the server waits for the calls; the second kills it.
func TestServeSecondSignal(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	s := startServing(t, "--model", tinyModel(t), "--listen", "127.0.0.1:0", "--drain-timeout", "1h", "--cache-mb", "0")
	documents := largeCall(t, 1000)
	var calls sync.WaitGroup
	for range 24 {
		calls.Go(func() {
			for status, err := 200, error(nil); err == nil && status == 200; {
				status, _, err = askFor(s.address, documents)
			}
		})
	}
	t.Cleanup(calls.Wait) // after the end of t.Context, which kills the server
	// The second signal must find calls that still run.
	waitForAnswer(t, s.address+"/metrics", 200, `\nmlxrank_requests_live{[^}]*} (1[2-9]|2\d)\n`)
	s.signal(t, syscall.SIGTERM)
	waitForAnswer(t, s.address+"/ready", 503, "stopping")
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != -1 {
		t.Errorf("status %d, want the signal to kill it at once", status)
	}
}

// waitForAnswer waits until url answers with the status and a body that has the pattern.
func waitForAnswer(t *testing.T, url string, status int, pattern string) {
	t.Helper()
	part := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		w, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(w.Body)
		if err := errors.Join(err, w.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if w.StatusCode == status && part.Match(body) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d %s", url, w.StatusCode, body)
		}
	}
}

// largeCall returns n documents that keep the tiny model busy for a while.
func largeCall(t *testing.T, n int) string {
	t.Helper()
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("%d %s", i, strings.Repeat("river ", 120))
	}
	data, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestServeRestart repeatedly ends a server under load, by SIGKILL and by SIGTERM, and
// restarts it. Every answer is correct, and SIGTERM ends it with status 0. The test is
// not parallel: it needs the same free port several times.
func TestServeRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	model := tinyModel(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := startServing(t, "--model", model, "--listen", address, "--cache-mb", "0")
	const documents = `["london", "water", "a city"]`
	_, want, err := askFor(s.address, documents)
	if err != nil {
		t.Fatal(err)
	}
	var right, refused, broken atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, body, err := askFor("http://"+address, documents)
				switch {
				case err != nil:
					broken.Add(1)
					time.Sleep(time.Millisecond)
				case status == 503:
					refused.Add(1)
				case status != 200 || !bytes.Equal(results(body), results(want)):
					t.Errorf("status %d: %s, want %s", status, body, want)
					return
				default:
					right.Add(1)
				}
			}
		})
	}
	for round := range 6 {
		time.Sleep(150 * time.Millisecond)
		signal, status := syscall.SIGTERM, 0
		if round%2 == 0 {
			signal, status = syscall.SIGKILL, -1
		}
		s.signal(t, signal)
		if got := s.end(t); got != status {
			t.Errorf("%v: status %d, want %d: %s", signal, got, status, s.log.String())
		}
		s = startServing(t, "--model", model, "--listen", address, "--cache-mb", "0")
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	clients.Wait()
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d", status)
	}
	if right.Load() < 100 || broken.Load() == 0 {
		t.Errorf("%d answers and %d broken connections: the server was not under load", right.Load(), broken.Load())
	}
	t.Logf("%d correct answers, %d refusals, %d broken connections", right.Load(), refused.Load(), broken.Load())
}

// results returns an answer without its id.
func results(body []byte) []byte {
	at := bytes.Index(body, []byte(`"results"`))
	if at < 0 {
		return nil
	}
	return body[at:]
}

// TestServiceFiles checks that the service files use flags and settings of the program,
// and checks the systemd unit if systemd-analyze is installed.
func TestServiceFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "scripts", "service")
	help, err := exec.CommandContext(t.Context(), program, "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	checkSetting := func(file, name string) {
		t.Helper()
		flag := "--" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "MLXRANK_"), "_", "-"))
		if !strings.Contains(string(help), flag+" ") {
			t.Errorf("%s sets %s, but serve has no %s", file, name, flag)
		}
	}
	unit, err := os.ReadFile(filepath.Join(dir, "mlxrank.service"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(unit)) {
		if value, ok := strings.CutPrefix(line, "Environment=MLXRANK_"); ok {
			name, _, _ := strings.Cut(value, "=")
			checkSetting("mlxrank.service", name)
		}
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "kubernetes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	variables := regexp.MustCompile(`name: (MLXRANK_\w+)`).FindAllSubmatch(manifest, -1)
	for _, match := range variables {
		checkSetting("kubernetes.yaml", string(match[1]))
	}
	if len(variables) == 0 {
		t.Error("kubernetes.yaml sets no variable")
	}
	socket, err := os.ReadFile(filepath.Join(dir, "mlxrank.socket"))
	if err != nil || !bytes.Contains(socket, []byte("\nListenStream=127.0.0.1:8437\n")) {
		t.Errorf("mlxrank.socket: %s %v", socket, err)
	}
	if analyze, err := exec.LookPath("systemd-analyze"); err == nil {
		copied := filepath.Join(t.TempDir(), "mlxrank.service")
		weightstest.WriteFile(t, filepath.Join(filepath.Dir(copied), "mlxrank.socket"), socket)
		weightstest.WriteFile(t, copied, bytes.ReplaceAll(unit, []byte("/usr/local/bin/mlxrank"), []byte("/bin/true")))
		if out, err := exec.CommandContext(t.Context(), analyze, "verify", copied, filepath.Join(filepath.Dir(copied), "mlxrank.socket")).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze verify: %v: %s", err, out)
		}
	}
	var agent struct {
		ProgramArguments     []string
		EnvironmentVariables map[string]string
		RunAtLoad            bool
	}
	data, err := os.ReadFile(filepath.Join(dir, "org.mlxrank.server.plist"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plist.Unmarshal(data, &agent); err != nil || len(agent.ProgramArguments) < 2 || agent.ProgramArguments[1] != "serve" || !agent.RunAtLoad {
		t.Fatalf("%+v: %v", agent, err)
	}
	for name := range agent.EnvironmentVariables {
		checkSetting("org.mlxrank.server.plist", name)
	}
	for _, arg := range agent.ProgramArguments[2:] {
		if strings.HasPrefix(arg, "--") && !strings.Contains(string(help), arg+" ") {
			t.Errorf("org.mlxrank.server.plist has %s, which serve lacks", arg)
		}
	}
}
