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
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"howett.net/plist"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A serving program, with its standard error read to its end.
type serving struct {
	*exec.Cmd
	address string
	log     bytes.Buffer // whole once ended is closed
	ended   chan struct{}
}

// startServing waits until the program answers.
func startServing(t *testing.T, args ...string) *serving {
	t.Helper()
	s := &serving{ended: make(chan struct{})}
	s.Cmd = exec.CommandContext(t.Context(), program, append([]string{"serve", "--device", "cpu", "--log-format", "json", "--log-level", "debug"}, args...)...)
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
				address <- event.Address
			}
			s.log.Write(append(lines.Bytes(), '\n'))
		}
	}()
	select {
	case s.address = <-address:
	case <-s.ended:
		t.Fatalf("the program ended: %s", s.log.String())
	case <-time.After(30 * time.Second):
		t.Fatal("the program does not listen")
	}
	return s
}

// end is the exit status.
func (s *serving) end(t *testing.T) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
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

// TestServe asks for a key, answers what rerank prints, and ends with status 0.
func TestServe(t *testing.T) {
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

// checkRanking compares an answer with what the rerank command prints.
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
			t.Errorf("place %d has %+v, rerank prints %+v", i, item, want.Results[i])
		}
	}
}

// A terminal that is closed sends SIGHUP, often twice: the running call is
// answered. Under nohup the server goes on.
func TestServeHangup(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
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
	waitForAnswer(t, s.address+"/metrics", 200, "\nmlxrank_requests_live 1\n")
	s.signal(t, syscall.SIGHUP)
	s.signal(t, syscall.SIGHUP)
	if status := <-answered; status != 200 {
		t.Errorf("the running call: status %d", status)
	}
	if status := s.end(t); status != 0 {
		t.Errorf("status %d: %s", status, s.log.String())
	}

	plain := program
	program = filepath.Join(t.TempDir(), "ignoring")
	defer func() { program = plain }()
	weightstest.WriteFile(t, program, []byte("#!/bin/sh\ntrap '' HUP\nexec '"+plain+"' \"$@\"\n"))
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	s = startServing(t, "--model", model, "--listen", "127.0.0.1:0")
	s.signal(t, syscall.SIGHUP)
	time.Sleep(100 * time.Millisecond)
	waitForAnswer(t, s.address+"/ready", 200, "ready")
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d: %s", status, s.log.String())
	}
}

// TestServeSecondSignal has a running call: the first signal waits for it, the
// second does not.
func TestServeSecondSignal(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	s := startServing(t, "--model", tinyModel(t), "--listen", "127.0.0.1:0", "--drain-timeout", "1h")
	documents := largeCall(t, 1000)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if _, _, err := askFor(s.address, documents); err == nil {
				t.Error("a call was answered though its server was killed")
			}
		})
	}
	defer calls.Wait()
	waitForAnswer(t, s.address+"/metrics", 200, "\nmlxrank_requests_live 8\n")
	s.signal(t, syscall.SIGTERM)
	waitForAnswer(t, s.address+"/ready", 503, "stopping")
	began := time.Now()
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != -1 || time.Since(began) > 2*time.Second {
		t.Errorf("status %d after %v, want to be killed at once", status, time.Since(began))
	}
}

func waitForAnswer(t *testing.T, url string, status int, part string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		w, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(w.Body)
		if err := errors.Join(err, w.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if w.StatusCode == status && strings.Contains(string(body), part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d %s", url, w.StatusCode, body)
		}
	}
}

// largeCall is documents that take the tiny model a while.
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

// TestServeRestart kills and ends a program under load, again and again, and
// restarts it: every answer there is is right, and what was taken in before
// a SIGTERM is answered.
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
	s := startServing(t, "--model", model, "--listen", address)
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
		s = startServing(t, "--model", model, "--listen", address)
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	clients.Wait()
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d", status)
	}
	if right.Load() < 100 || broken.Load() == 0 {
		t.Errorf("%d answers and %d broken connections: it was not under load", right.Load(), broken.Load())
	}
	t.Logf("%d right answers, %d refusals, %d broken connections", right.Load(), refused.Load(), broken.Load())
}

// results is an answer without its id.
func results(body []byte) []byte {
	at := bytes.Index(body, []byte(`"results"`))
	if at < 0 {
		return nil
	}
	return body[at:]
}

// The service files start the program with flags and settings that it has, as
// far as their own tools are here to confirm it.
func TestServiceFiles(t *testing.T) {
	dir := filepath.Join("..", "..", "scripts", "package", "service")
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
	if analyze, err := exec.LookPath("systemd-analyze"); err == nil {
		copied := filepath.Join(t.TempDir(), "mlxrank.service")
		weightstest.WriteFile(t, copied, bytes.ReplaceAll(unit, []byte("/usr/local/bin/mlxrank"), []byte("/bin/true")))
		if out, err := exec.CommandContext(t.Context(), analyze, "verify", copied).CombinedOutput(); err != nil {
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
			t.Errorf("org.mlxrank.server.plist gives %s, which serve has not", arg)
		}
	}
}
