package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// residentMB returns the resident memory of a process in MB.
func residentMB(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "VmRSS:")
	var kB int
	if _, err := fmt.Sscan(after, &kB); err != nil {
		t.Fatal(err)
	}
	return kB / 1024
}

// TestServeReturnsMemory checks that an idle server frees the memory of large bodies
// whose connections broke.
func TestServeReturnsMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	s := startServing(t, "--model", tinyModel(t), "--listen", "127.0.0.1:0")
	before := residentMB(t, s.Process.Pid)
	const head = "POST /rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16000000\r\n\r\n"
	part := strings.Repeat("x", 15_000_000)
	most := 0
	for range 3 {
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				c, err := net.Dial("tcp", strings.TrimPrefix(s.address, "http://"))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.WriteString(c, head+part); err != nil {
					t.Error(err)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		clients.Wait()
		most = max(most, residentMB(t, s.Process.Pid))
	}
	if most < before+60 {
		t.Errorf("%d MB at first and %d MB at most: the bodies are not in memory", before, most)
	}
	now := most
	for start := time.Now(); now > before+30 && time.Since(start) < 30*time.Second; time.Sleep(100 * time.Millisecond) {
		now = residentMB(t, s.Process.Pid)
	}
	if now > before+30 {
		t.Errorf("%d MB before, %d MB at most, and %d MB when idle", before, most, now)
	}
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d", status)
	}
}
