package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	nats "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// startNATS starts a NATS server that is not ours.
func startNATS(t testing.TB, options *nats.Options) *nats.Server {
	t.Helper()
	options.Host, options.NoSigs = "127.0.0.1", true
	if options.Port == 0 {
		options.Port = nats.RANDOM_PORT
	}
	if options.JetStream && options.StoreDir == "" {
		options.StoreDir = t.TempDir()
	}
	server, err := nats.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		server.Shutdown()
		server.WaitForShutdown()
	})
	if !server.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server did not start")
	}
	return server
}

// failConnect checks the error of a connection that must fail, which must not have secret.
func failConnect(t *testing.T, c ConnectConfig, secret string, want ...string) {
	t.Helper()
	c.Logger = testLog(t)
	start := time.Now()
	f, err := Connect(testContext(t), c)
	if err == nil {
		f.Close()
		t.Errorf("connected, expected an error with %q", want)
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, expected %q in it", err, text)
		}
	}
	if secret != "" && strings.Contains(err.Error(), secret) {
		t.Errorf("the error has the token: %q", err)
	}
	if took := time.Since(start); took > connectTimeout+20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestConnectErrors has addresses and tokens that are wrong.
func TestConnectErrors(t *testing.T) {
	const token = "token-of-the-test"
	server := startServer(t, ServerConfig{Token: token})
	good := strings.TrimPrefix(server.URL(), "nats://"+token+"@")
	website := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(website.Close)
	plain := startNATS(t, &nats.Options{})
	free := freeAddress(t)
	for name, c := range map[string]struct {
		url  string
		want []string
	}{
		"wrong token":     {"nats://" + token + "x@" + good, []string{good, "rejects the credentials", "join line"}},
		"no token":        {"nats://" + good, []string{good, "rejects the credentials", "join line"}},
		"nothing there":   {"nats://" + token + "@" + free, []string{free, "this machine itself", "mlxrank fleet start printed"}},
		"an HTTP server":  {"nats://" + token + "@" + strings.TrimPrefix(website.URL, "http://"), []string{"is no NATS server; check the port"}},
		"no JetStream":    {plain.ClientURL(), []string{"has no JetStream", "nats-server -js", "mlxrank fleet start"}},
		"no scheme":       {token + "@" + good, []string{"is not nats://TOKEN@HOST:PORT"}},
		"not an address":  {"nats://" + token + "%zz@" + good, []string{"is not nats://TOKEN@HOST:PORT"}},
		"another scheme":  {"http://" + token + "@" + good, []string{"is not nats://TOKEN@HOST:PORT"}},
		"a wrong port":    {"nats://" + token + "@127.0.0.1:99999", []string{"invalid port"}},
		"one of two away": {"nats://" + token + "@" + free + ",nats://" + token + "x@" + good, []string{"rejects the credentials"}},
		"TLS to no TLS":   {"tls://" + token + "@" + good, []string{"has no TLS; use nats://"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failConnect(t, ConnectConfig{URL: c.url}, token, c.want...)
		})
	}
}

// TestUnreachable explains a failed connection to another machine.
func TestUnreachable(t *testing.T) {
	err := explainConnect("nats://secret@192.0.2.1:4222", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded})
	for _, want := range []string{"no fleet server answers at nats://192.0.2.1:4222", "--listen 0.0.0.0:4222", "firewall"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, expected %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "this machine itself") {
		t.Errorf("error %q", err)
	}
}

// An authority signs certificates.
type authority struct {
	t           testing.TB
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string // with its own certificate
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.certificate, a.key, a.file, _ = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue makes a certificate and the files with it and its key.
func (a *authority) issue(template *x509.Certificate) (certificate *x509.Certificate, key *ecdsa.PrivateKey, certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	template.NotBefore = template.NotAfter.Add(-2 * time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if certificate, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(kind string, data []byte) string {
		file := filepath.Join(a.dir, kind[:2]+template.SerialNumber.String())
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return file
	}
	return certificate, key, write("CERTIFICATE", der), write("EC PRIVATE KEY", private)
}

// config returns the configuration of a server at 127.0.0.1 whose certificate ends at end.
func (a *authority) config(end time.Time) *tls.Config {
	a.t.Helper()
	_, _, cert, key := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "fleet"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// TestTLS has a server with a certificate, and clients that trust its authority or not.
func TestTLS(t *testing.T) {
	own, other := newAuthority(t, "own"), newAuthority(t, "other")
	later := time.Now().Add(time.Hour)
	server := startServer(t, ServerConfig{TLS: own.config(later)})
	url := server.URL()
	if !strings.HasPrefix(url, "tls://") {
		t.Fatalf("the join line is %s, expected tls://", redact(url))
	}
	f, err := Connect(testContext(t), ConnectConfig{URL: url, CA: own.file, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	stop := startWorkerOn(t, f, WorkerConfig{Name: "worker"})
	job := submit(t, f, Job{}, 3, 10)
	job.check(t, f)
	stop()

	plain := strings.Replace(url, "tls://", "nats://", 1)
	failConnect(t, ConnectConfig{URL: url}, server.token, "does not know", "--ca")
	failConnect(t, ConnectConfig{URL: plain}, server.token, "does not know", "--ca")
	failConnect(t, ConnectConfig{URL: url, CA: other.file}, server.token, "does not know", "--ca")
	failConnect(t, ConnectConfig{URL: strings.Replace(url, "127.0.0.1", "localhost", 1), CA: own.file}, server.token, "is for another name", "localhost")
	failConnect(t, ConnectConfig{URL: strings.Replace(url, server.token, "wrong", 1), CA: own.file}, server.token, "rejects the credentials")
	failConnect(t, ConnectConfig{URL: url, CA: filepath.Join(t.TempDir(), "none.pem")}, server.token, "none.pem", "no such file")
	without := startServer(t, ServerConfig{})
	failConnect(t, ConnectConfig{URL: without.URL(), CA: own.file}, without.token, "has no TLS; use nats://")
	expired := startServer(t, ServerConfig{TLS: own.config(time.Now().Add(-time.Minute))})
	failConnect(t, ConnectConfig{URL: expired.URL(), CA: own.file}, expired.token, "is not valid", "clock")
}

// TestClientCertificates has a server that admits only clients with a certificate.
func TestClientCertificates(t *testing.T) {
	own, other := newAuthority(t, "own"), newAuthority(t, "other")
	config := own.config(time.Now().Add(time.Hour))
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	config.ClientCAs.AddCert(own.certificate)
	server := startServer(t, ServerConfig{TLS: config})
	client := func(a *authority) ConnectConfig {
		_, _, cert, key := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return ConnectConfig{URL: server.URL(), CA: own.file, Cert: cert, CertKey: key, Logger: testLog(t)}
	}
	f, err := Connect(testContext(t), client(own))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	startWorkerOn(t, f, WorkerConfig{Name: "worker"})
	submit(t, f, Job{}, 2, 10).check(t, f)
	failConnect(t, ConnectConfig{URL: server.URL(), CA: own.file}, server.token, "--client-cert and --client-key")
	failConnect(t, client(other), server.token, "--client-cert and --client-key")
}

// TestNKey has a NATS server whose users prove themselves by nkeys.
func TestNKey(t *testing.T) {
	user, public, file := newKey(t, nkeys.CreateUser)
	_ = user
	server := startNATS(t, &nats.Options{JetStream: true, Nkeys: []*nats.NkeyUser{{Nkey: public}}})
	f, err := Connect(testContext(t), ConnectConfig{URL: server.ClientURL(), NKey: file, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	startWorkerOn(t, f, WorkerConfig{Name: "worker"})
	submit(t, f, Job{}, 2, 10).check(t, f)

	_, _, stranger := newKey(t, nkeys.CreateUser)
	failConnect(t, ConnectConfig{URL: server.ClientURL(), NKey: stranger}, "", "rejects the credentials")
	failConnect(t, ConnectConfig{URL: server.ClientURL()}, "", "rejects the credentials", "--nkey")
	failConnect(t, ConnectConfig{URL: server.ClientURL(), NKey: filepath.Join(t.TempDir(), "none")}, "", "read the nkey", "no such file")
	ours := startServer(t, ServerConfig{})
	failConnect(t, ConnectConfig{URL: redact(ours.URL()), NKey: file}, ours.token, "knows no nkeys", "join line")
}

// newKey makes a key and a file with its seed.
func newKey(t testing.TB, create func() (nkeys.KeyPair, error)) (key nkeys.KeyPair, public, file string) {
	t.Helper()
	key, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err = key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return key, public, file
}

// TestCredentialsFile has a NATS server with an operator, whose accounts have limits of
// their own.
func TestCredentialsFile(t *testing.T) {
	operator, operatorID, _ := newKey(t, nkeys.CreateOperator)
	resolver := &nats.MemAccResolver{}
	claims := jwt.NewOperatorClaims(operatorID)
	account := func(limits jwt.JetStreamLimits) (creds string) {
		key, id, _ := newKey(t, nkeys.CreateAccount)
		claims := jwt.NewAccountClaims(id)
		claims.Limits.JetStreamLimits = limits
		text, err := claims.Encode(operator)
		if err == nil {
			err = resolver.Store(id, text)
		}
		user, userID, _ := newKey(t, nkeys.CreateUser)
		token, userErr := jwt.NewUserClaims(userID).Encode(key)
		seed, seedErr := user.Seed()
		data, formatErr := jwt.FormatUserConfig(token, seed)
		creds = filepath.Join(t.TempDir(), "user.creds")
		if err := errors.Join(err, userErr, seedErr, formatErr, os.WriteFile(creds, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		return creds
	}
	unlimited := int64(jwt.NoLimit)
	good := account(jwt.JetStreamLimits{MemoryStorage: 16 << 20, DiskStorage: 64 << 20, Streams: unlimited, Consumer: unlimited})
	small := account(jwt.JetStreamLimits{MemoryStorage: 16 << 20, DiskStorage: 64 << 20, Streams: 2, Consumer: unlimited})
	none := account(jwt.JetStreamLimits{})
	_, systemID, _ := newKey(t, nkeys.CreateAccount)
	system, err := jwt.NewAccountClaims(systemID).Encode(operator)
	if err == nil {
		err = resolver.Store(systemID, system)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := startNATS(t, &nats.Options{
		JetStream: true, TrustedOperators: []*jwt.OperatorClaims{claims}, AccountResolver: resolver, SystemAccount: systemID,
	})
	f, err := Connect(testContext(t), ConnectConfig{URL: server.ClientURL(), Creds: good, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	startWorkerOn(t, f, WorkerConfig{Name: "worker"})
	submit(t, f, Job{}, 2, 10).check(t, f)
	failConnect(t, ConnectConfig{URL: server.ClientURL()}, "", "rejects the credentials", "--creds")
	failConnect(t, ConnectConfig{URL: server.ClientURL(), Creds: none}, "", "has no JetStream")
	failConnect(t, ConnectConfig{URL: server.ClientURL(), Creds: small}, "", "prepare JetStream", "maximum number of streams reached")
	failConnect(t, ConnectConfig{URL: server.ClientURL(), Creds: filepath.Join(t.TempDir(), "none.creds")}, "", "none.creds", "no such file")
}

// TestTokenChanged restarts a server with another token: a client that was connected
// names the cause.
func TestTokenChanged(t *testing.T) {
	const token = "token-of-the-test"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := StartServer(ServerConfig{Dir: t.TempDir(), Listen: address, Token: token, MaxStore: 1 << 30, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	f := connect(t, first.URL())
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	startServer(t, ServerConfig{Listen: address, Token: "another-token"})
	_, err = f.Jobs(testContext(t))
	if err == nil || !strings.Contains(err.Error(), "rejects the credentials") || strings.Contains(err.Error(), token) {
		t.Errorf("error %v, expected one about the credentials, without the token", err)
	}
}
