package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// waitForLog waits until the log has a text n times.
func (s *serving) waitForLog(t *testing.T, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		log := s.log.String()
		s.mu.Unlock()
		if strings.Count(log, text) >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log does not have %q %d times: %s", text, n, log)
		}
	}
}

// makeKey runs mlxrank key new for a file, and returns the key.
func makeKey(t *testing.T, file string, args ...string) string {
	t.Helper()
	cmd, stderr := command(t, append([]string{"key", "new", "--keys", file}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	return strings.TrimSpace(string(out))
}

// writePair writes a certificate for 127.0.0.1 with the given serial number.
func writePair(t *testing.T, chain, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	weightstest.WriteFile(t, chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}))
	weightstest.WriteFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// serial returns the serial number of a server's certificate, and the protocol spoken.
func serial(t *testing.T, address string, config *tls.Config) (int64, string) {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(address, "https://"), config)
	if err != nil {
		t.Fatal(err)
	}
	state := c.ConnectionState()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.Int64(), state.NegotiatedProtocol
}

// TestServeReload changes keys and certificate of a running server by SIGHUP, under nohup
// too. A file that is bad changes nothing.
func TestServeReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, chain, private := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	first := makeKey(t, keys, "--name", "first", "--max-requests", "2")
	writePair(t, chain, private, 1)
	nohup := []string{"sh", "-c", `trap '' HUP; exec "$0" "$@"`, program}
	s := startServer(t, nohup, "--model", tinyModel(t), "--listen", "127.0.0.1:0", "--keys", keys, "--tls-cert", chain, "--tls-key", private)
	trusting := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	ask := func(key string) int {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, s.address+"/v2/rerank", strings.NewReader(`{"query": "city", "documents": ["london"]}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+key)
		w, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Body.Close(); err != nil || w.ProtoMajor != 2 {
			t.Errorf("%s, %v", w.Proto, err)
		}
		return w.StatusCode
	}
	if status := ask(first); status != 200 {
		t.Errorf("the first key: %d", status)
	}
	if n, protocol := serial(t, s.address, trusting); n != 1 || protocol != "h2" {
		t.Errorf("certificate %d over %q", n, protocol)
	}
	if _, err := tls.Dial("tcp", strings.TrimPrefix(s.address, "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	second := makeKey(t, keys, "--name", "second")
	if status := ask(second); status != 401 {
		t.Errorf("a key before it is read: %d", status)
	}
	writePair(t, chain, private, 2)
	s.signal(t, syscall.SIGHUP)
	s.waitForLog(t, "certificate read again", 1)
	if a, b := ask(first), ask(second); a != 200 || b != 200 {
		t.Errorf("both keys: %d %d", a, b)
	}
	if n, _ := serial(t, s.address, trusting); n != 2 {
		t.Errorf("certificate %d", n)
	}

	weightstest.WriteFile(t, keys, []byte("- {name: first}\n"))
	weightstest.WriteFile(t, chain, []byte("nothing"))
	s.signal(t, syscall.SIGHUP)
	s.waitForLog(t, "certificate not read again", 1)
	if a, b := ask(first), ask(second); a != 200 || b != 200 {
		t.Errorf("both keys after a bad file: %d %d", a, b)
	}
	if n, _ := serial(t, s.address, trusting); n != 2 {
		t.Errorf("certificate %d after a bad file", n)
	}
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d: %s", status, s.log.String())
	}
	log := s.log.String()
	if strings.Contains(log, first) || strings.Contains(log, second) || !strings.Contains(log, `"key":"first"`) || !strings.Contains(log, "sha256 is not valid") {
		t.Errorf("the log: %s", log)
	}
}

// TestServeUnixSocket listens at a socket and a port. A socket that a killed server left is
// replaced; one that is in use, and a file, are not.
func TestServeUnixSocket(t *testing.T) {
	t.Parallel()
	model, dir := tinyModel(t), t.TempDir()
	path := filepath.Join(dir, "http.sock")
	s := startServing(t, "--model", model, "--listen", "unix:"+path, "--listen", "127.0.0.1:0")
	if s.address != "unix:"+path {
		t.Fatalf("it listens at %s", s.address)
	}
	umask := syscall.Umask(0)
	syscall.Umask(umask)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o777&^fs.FileMode(umask) {
		t.Errorf("mode %v with umask %o, %v", info.Mode(), umask, err)
	}
	checkUnix(t, path)
	fails := func(words string, args ...string) {
		t.Helper()
		cmd, stderr := command(t, append([]string{"serve", "--model", model, "--device", "cpu"}, args...)...)
		if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), words) {
			t.Errorf("%v: %v %s, want %s", args, err, stderr, words)
		}
	}
	fails("another server listens there", "--listen", "unix:"+path)
	fails("expected the path of a socket", "--listen", "unix:")
	fails("expected the path of a socket", "--listen", "unix:@name")
	fails("LISTEN_FDS names none", "--listen", "systemd")
	file := filepath.Join(dir, "file")
	weightstest.WriteFile(t, file, []byte("text"))
	fails("not a socket, and is not removed", "--listen", "unix:"+file)
	if data, err := os.ReadFile(file); err != nil || string(data) != "text" {
		t.Errorf("the file: %q %v", data, err)
	}

	if err := s.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.end(t)
	s = startServing(t, "--model", model, "--listen", "unix:"+path)
	checkUnix(t, path)
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d: %s", status, s.log.String())
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after the end: %v", err)
	}
}

// checkUnix ranks over a Unix socket, with curl if it is there.
func checkUnix(t *testing.T, path string) {
	t.Helper()
	const body = `{"query": "city", "documents": ["london"]}`
	if curl, err := exec.LookPath("curl"); err == nil {
		out, err := exec.CommandContext(t.Context(), curl, "-sS", "--unix-socket", path, "-H", "Content-Type: application/json", "-d", body, "http://localhost/v2/rerank").CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("relevance_score")) {
			t.Errorf("curl: %s %v", out, err)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	w, err := client.Post("http://localhost/v2/rerank", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Body.Close(); err != nil || w.StatusCode != 200 {
		t.Errorf("%d, %v", w.StatusCode, err)
	}
}

// TestServeSystemd passes sockets as systemd does.
func TestServeSystemd(t *testing.T) {
	t.Parallel()
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	unix.SetUnlinkOnClose(false)
	var files []*os.File
	for _, l := range []interface{ File() (*os.File, error) }{tcp, unix} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	address := "http://" + tcp.Addr().String()
	activated := []string{"sh", "-c", `LISTEN_FDS=2 LISTEN_PID=$$ exec "$0" "$@"`, program}
	s := startServerWith(t, files, activated, "--model", tinyModel(t), "--listen", "systemd")
	for _, c := range []interface{ Close() error }{tcp, unix, files[0], files[1]} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if s.address != address {
		t.Errorf("it listens at %s, want %s", s.address, address)
	}
	if status, body, err := askFor(address, `["london"]`); err != nil || status != 200 {
		t.Errorf("%d %s %v", status, body, err)
	}
	checkUnix(t, path)
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("status %d: %s", status, s.log.String())
	}
	if _, err := os.Lstat(path); err != nil { // systemd keeps it
		t.Error(err)
	}
}

// TestAccessLogWithoutReader serves on after whoever read the standard output, which has
// the access log, has gone away.
func TestAccessLogWithoutReader(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := startServerWith(t, []*os.File{writer}, []string{"sh", "-c", `exec "$0" "$@" >&3 3>&-`, program}, "--model", tinyModel(t), "--listen", "127.0.0.1:0", "--access-log", "-")
	if err := errors.Join(writer.Close(), reader.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status, body, err := askFor(s.address, `["london"]`); status != http.StatusOK || err != nil {
			t.Fatalf("%d %s, %v", status, body, err)
		}
		s.waitForLog(t, "the access log cannot be written", 1)
	}
	s.signal(t, syscall.SIGTERM)
	if status := s.end(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
