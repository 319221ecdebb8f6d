package service

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestManyFaults kills and stops servers in a random order, one at a time, for a few minutes.
func TestManyFaults(t *testing.T) {
	if !long {
		t.Skip("long: make test-long runs it")
	}
	f := newFixture(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		s, fault := f.servers[r.IntN(len(f.servers))], "kill -9"
		if signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)]; signal == syscall.SIGKILL {
			s.signal(t, signal)
			s.end(t)
		} else {
			fault = "SIGTERM"
			s.signal(t, signal)
			if status := s.end(t); status != 0 {
				t.Errorf("status %d after SIGTERM: %s", status, s.log.String())
			}
		}
		s.start(t)
		s.waitUntilReady(t)
		// A balancer leaves a server out for 5 s. The next fault must leave it two others.
		time.Sleep(5*time.Second + time.Duration(r.IntN(500))*time.Millisecond)
		f.settle(t)
		f.judge(t, fault, func(control) bool { return false })
	}
}

// TestSlowAnswer has a server that takes a request timeout to answer. No balancer may give
// up before it, nor ask another server.
func TestSlowAnswer(t *testing.T) {
	if !long {
		t.Skip("long: make test-long runs it")
	}
	t.Parallel()
	var asked atomic.Int64
	slow := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the balancer is gone
		}
		if r.Method == http.MethodPost {
			asked.Add(1)
			time.Sleep(61 * time.Second)
		}
		if _, err := io.WriteString(w, "slow"); err != nil {
			return // the balancer is gone
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- slow.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(slow.Close(), <-ended); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if n := asked.Load(); n != int64(len(balancers())) {
			t.Errorf("the server was asked %d times, want once by each balancer", n)
		}
	})
	for _, b := range balancers() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			address := l.Addr().String()
			url := b.start(t, []string{address, address, address})
			if status, _, answer, err := post(t.Context(), http.DefaultClient, url, `{}`); err != nil || status != http.StatusOK || string(answer) != "slow" {
				t.Errorf("%d, %q, %v", status, answer, err)
			}
		})
	}
}
