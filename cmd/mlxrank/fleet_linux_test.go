package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/fleet"
)

// TestFleetDiskFull fills the disk of mlxrank fleet start, whose file is removed. It goes
// on in a new process at the same address when there is room again. Clients wait until
// then.
func TestFleetDiskFull(t *testing.T) {
	t.Parallel()
	server := startOnSmallDisk(t)
	client, err := fleet.Connect(t.Context(), fleet.ConnectConfig{URL: server.url, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ballast := filepath.Join(server.dir, "ballast")
	if err := fill(ballast); err != nil {
		t.Fatal(err)
	}
	canary := fleet.Canary{Pairs: []engine.Pair{{Query: "city", Document: "london"}}, Scores: make([]fleet.Score, 1)}
	created := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 50 && err == nil; i++ {
			err = client.Create(t.Context(), &fleet.Job{}, canary)
		}
		created <- err
	}()
	server.waitForLog(t, "the server cannot write to its disk")
	if len(created) > 0 {
		t.Fatalf("jobs were created on a full disk: %v", <-created)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	server.waitForLog(t, "the server goes on")
	if err := <-created; err != nil {
		t.Error(err)
	}
	if jobs, err := client.Jobs(t.Context()); err != nil || len(jobs) != 50 {
		t.Errorf("%d jobs (%v), expected 50", len(jobs), err)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(server.stdout)
	if err := errors.Join(err, server.Wait()); err != nil || len(rest) > 0 {
		t.Errorf("the server ended with %v and wrote %q, expected nothing more", err, rest)
	}
}

// A diskServer is mlxrank fleet start on a disk of its own.
type diskServer struct {
	*exec.Cmd
	stdout *bufio.Reader
	url    string
	dir    string // as this process sees it

	mu  sync.Mutex
	log bytes.Buffer
}

func (s *diskServer) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(data)
}

// startOnSmallDisk starts a server, whose folder is a tmpfs in a namespace of its own.
func startOnSmallDisk(t *testing.T) *diskServer {
	t.Helper()
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "mlxrank")
	if err := os.Link(program, copied); err != nil {
		t.Fatal(err)
	}
	s := &diskServer{Cmd: exec.CommandContext(t.Context(), "sh", "-c", `mount -t tmpfs -o size=64m none "$1" && exec "$0" fleet start --listen 127.0.0.1:0 --dir "$1"`, copied, dir)}
	s.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	s.Stderr = s
	stdout, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	s.stdout = bufio.NewReader(stdout)
	line, err := s.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("the server does not start: %v\n%s", err, s.log.String())
	}
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	s.url = line[strings.LastIndex(line, " ")+1 : len(line)-1]
	s.dir = filepath.Join(fmt.Sprintf("/proc/%d/root", s.Process.Pid), dir)
	return s
}

func (s *diskServer) waitForLog(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		s.mu.Lock()
		log := s.log.String()
		s.mu.Unlock()
		if strings.Contains(log, text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the server does not report that %s:\n%s", text, log)
		}
	}
}

// fill writes a file until its disk is full.
func fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	for err == nil {
		_, err = file.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}
