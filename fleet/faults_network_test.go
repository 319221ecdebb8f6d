package fleet

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A proxy passes connections on, and may fall silent: what is sent waits, and neither
// side learns of it.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	gate  sync.RWMutex // held while the proxy is silent
	conns []net.Conn
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	go p.run()
	t.Cleanup(func() {
		listener.Close() //nolint:errcheck // of a test
		p.cut()
	})
	return p
}

func (p *proxy) run() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close() //nolint:errcheck // of a test
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		go p.pass(client, server)
		go p.pass(server, client)
	}
}

func (p *proxy) pass(from, to net.Conn) {
	defer to.Close() //nolint:errcheck // of a test
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.gate.RLock()
		p.gate.RUnlock() //nolint:staticcheck // it waits
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// silence lets nothing pass for a time.
func (p *proxy) silence(d time.Duration) {
	p.gate.Lock()
	time.Sleep(d)
	p.gate.Unlock()
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close() //nolint:errcheck // it may be closed
	}
	p.conns = nil
}

// TestSilentNetwork has the network between the server and workers fall silent for longer
// than the ack wait, and break.
func TestSilentNetwork(t *testing.T) {
	t.Parallel()
	f := newProcessFleet(t, role{}, nil)
	p := startProxy(t, f.server.role.Listen)
	through := strings.Replace(f.url, f.server.role.Listen, p.listener.Addr().String(), 1)
	f.addWorkers(2, role{URL: through, Delay: 5 * time.Millisecond})
	f.submit(partsOrLong(60, 400), Job{AckWait: time.Second})
	client, job := f.client()
	for range partsOrLong(2, 20) {
		done := len(f.scoredParts())
		f.waitForScored(done + 4)
		p.silence(2500 * time.Millisecond)
		f.checkSums(client, job)
		f.waitForScored(done + 8)
		p.cut()
	}
	f.check()
}
