package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// One server answers over TLS, by HTTP/1 and HTTP/2, and in cleartext at a Unix socket.
// It ends at all listeners.
func TestServeTLSAndUnixSocket(t *testing.T) {
	t.Parallel()
	trusted := httptest.NewUnstartedServer(nil) // for its certificate
	trusted.StartTLS()
	trusted.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	begun, finish := make(chan struct{}, 1), make(chan struct{})
	s := newServer(t, Config{TLS: &tls.Config{Certificates: trusted.TLS.Certificates}, Engine: &fakeEngine{before: func(context.Context) error {
		select {
		case begun <- struct{}{}:
			<-finish
		default:
		}
		return nil
	}}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, tcp, unix) }()
	begun <- struct{}{}
	client := func(http2 bool, socket string) *http.Client {
		transport := trusted.Client().Transport.(*http.Transport).Clone()
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(!http2)
		transport.Protocols.SetHTTP2(http2)
		if socket != "" {
			transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}
		}
		return &http.Client{Transport: transport, Timeout: 20 * time.Second}
	}
	secure, plain := "https://"+tcp.Addr().String(), "http://localhost"
	for _, test := range []struct {
		client *http.Client
		base   string
		proto  int
	}{{client(false, ""), secure, 1}, {client(true, ""), secure, 2}, {client(false, path), plain, 1}} {
		w, err := test.client.Post(test.base+"/rerank", "application/json", strings.NewReader(smallRequest))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Body.Close(); err != nil || w.StatusCode != 200 || w.ProtoMajor != test.proto {
			t.Errorf("%s: %d over %s, %v", test.base, w.StatusCode, w.Proto, err)
		}
	}
	if w, err := http.Get("http://" + tcp.Addr().String() + "/health"); err == nil {
		if err := w.Body.Close(); err != nil || w.StatusCode != 400 {
			t.Errorf("in cleartext: %d, %v", w.StatusCode, err)
		}
	}

	<-begun
	answered := make(chan bool, 1)
	go func() {
		w, err := client(true, "").Post(secure+"/rerank", "application/json", strings.NewReader(smallRequest))
		if err != nil {
			answered <- false
			return
		}
		answered <- w.Body.Close() == nil && w.StatusCode == 200 && w.ProtoMajor == 2
	}()
	waitFor(t, "a running request", func() bool { return s.inProgress() == 1 })
	stop()
	waitFor(t, "draining", s.isDraining)
	close(finish)
	if !<-answered {
		t.Error("the running request is not answered")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, l := range []net.Listener{tcp, unix} {
		if c, err := net.Dial(l.Addr().Network(), l.Addr().String()); err == nil {
			t.Errorf("it still listens at %v: %v", l.Addr(), c.Close())
		}
	}
}
