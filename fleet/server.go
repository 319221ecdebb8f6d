package fleet

import (
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	nats "github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// DefaultAddress is where a server listens by default: on this machine only.
const DefaultAddress = "127.0.0.1:4222"

// ServerConfig configures a server.
type ServerConfig struct {
	Dir    string // folder of the data; StartServer makes it
	Listen string // HOST:PORT; "" is DefaultAddress, port 0 takes a free one
	// Token is what clients must send. With "", StartServer uses the one in Dir, and
	// makes it the first time.
	Token    string
	TLS      *tls.Config // nil for plain connections
	MaxStore int64       // max bytes of all data, at least 64 MiB
	Logger   zerolog.Logger

	unsynced bool // sync as NATS does by default; for tests of power failures
}

// Server is a NATS server with JetStream in this process. It syncs every write to the
// disk before it acknowledges it.
type Server struct {
	config  ServerConfig
	options *nats.Options
	address *net.TCPAddr
	lock    *flock.Flock
	token   string
	server  *nats.Server
	failure atomic.Pointer[string] // why the server can write no more, nil if it can
	ended   chan struct{}          // closed when only a new process can go on
	closing chan struct{}          // Close was called
	guarded chan struct{}          // guard has returned
}

// MinStore is the least MaxStore in bytes: room for the parts and results of a job.
const MinStore = 64 << 20

// StartServer starts a server and waits until it accepts connections.
func StartServer(c ServerConfig) (_ *Server, err error) {
	host, port, err := splitAddress(cmp.Or(c.Listen, DefaultAddress))
	if err != nil {
		return nil, err
	}
	if c.MaxStore < MinStore {
		return nil, fmt.Errorf("fleet: the store is limited to %d bytes; expected at least %d", c.MaxStore, MinStore)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("fleet: make the server's folder: %w", err)
	}
	s := &Server{config: c, lock: flock.New(filepath.Join(c.Dir, "lock")), ended: make(chan struct{}), closing: make(chan struct{}), guarded: make(chan struct{})}
	if locked, err := s.lock.TryLock(); err != nil || !locked {
		return nil, errors.Join(fmt.Errorf("fleet: %s is in use by another server; stop it, or choose another folder", c.Dir), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if s.token, err = tokenOf(c); err != nil {
		return nil, err
	}
	if err := checkFree(host, port); err != nil {
		return nil, err
	}
	s.options = &nats.Options{
		ServerName: "mlxrank", Host: host, Port: port, Authorization: s.token,
		TLSConfig: c.TLS, TLS: c.TLS != nil, TLSTimeout: 10, AuthTimeout: 15,
		// Clients reach the server at the address that they were given. Others that the
		// server has, such as 127.0.0.1, would lead them to themselves.
		Cluster: nats.ClusterOpts{NoAdvertise: true},
		// The limit of the account, which clients see, must be below the server\'s.
		JetStream: true, StoreDir: c.Dir, JetStreamMaxStore: c.MaxStore + 1<<20, JetStreamMaxMemory: 256 << 20,
		// By default JetStream syncs every two minutes, and a power failure loses writes
		// that it acknowledged.
		SyncAlways: !c.unsynced,
		NoSigs:     true, NoSystemAccount: false, MaxConn: 64 << 10,
		PingInterval: 20 * time.Second, MaxPingsOut: 3, WriteDeadline: 30 * time.Second,
	}
	if s.server, err = s.start(); err != nil {
		return nil, err
	}
	s.address = s.server.Addr().(*net.TCPAddr)
	s.options.Port = s.address.Port
	go s.guard()
	return s, nil
}

// start starts the NATS server.
func (s *Server) start() (*nats.Server, error) {
	c := s.config
	server, err := nats.NewServer(s.options.Clone())
	if err != nil {
		return nil, fmt.Errorf("fleet: start the server: %w", err)
	}
	server.SetLogger(serverLog{c.Logger, &s.failure}, false, false)
	server.Start()
	if !server.ReadyForConnections(30*time.Second) || !server.JetStreamEnabled() {
		return nil, errors.Join(fmt.Errorf("fleet: the server at %s did not start; its log says why, and %s must be on a disk with room", c.Listen, c.Dir), stop(server))
	}
	limits := map[string]nats.JetStreamAccountLimits{"": {
		MaxMemory: -1, MaxStore: c.MaxStore, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}}
	if err := server.GlobalAccount().UpdateJetStreamLimits(limits); err != nil {
		return nil, errors.Join(fmt.Errorf("fleet: limit the store: %w", err), stop(server))
	}
	return server, nil
}

// stopTimeout bounds the end of a server that waits for itself.
const stopTimeout = 20 * time.Second

// stop stops a server. A server that does not stop loses nothing: all that it has
// acknowledged is on the disk.
func stop(server *nats.Server) error {
	stopped := make(chan struct{})
	go func() {
		server.Shutdown()
		server.WaitForShutdown()
		close(stopped)
	}()
	select {
	case <-stopped:
		return nil
	case <-time.After(stopTimeout):
		return errors.New("fleet: NATS does not stop; all that it acknowledged is on the disk")
	}
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("fleet: address %q is not HOST:PORT, such as %s or 0.0.0.0:4222", address, DefaultAddress)
	}
	if port == 0 {
		port = nats.RANDOM_PORT
	}
	return cmp.Or(host, "0.0.0.0"), port, nil
}

// checkFree rejects an address that another program has: the server would end the
// process.
func checkFree(host string, port int) error {
	if port == nats.RANDOM_PORT {
		return nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("fleet: %w; choose another address with --listen", err)
	}
	return listener.Close()
}

// tokenOf returns the token of the configuration or of the folder.
func tokenOf(c ServerConfig) (string, error) {
	if c.Token != "" {
		return c.Token, nil
	}
	path := filepath.Join(c.Dir, "token")
	data, err := os.ReadFile(path)
	if err == nil {
		if token := strings.TrimSpace(string(data)); token != "" {
			return token, nil
		}
		return "", fmt.Errorf("fleet: %s is empty; remove it to make a new token", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("fleet: read the token: %w", err)
	}
	random := make([]byte, 20)
	rand.Read(random) // never fails
	token := strings.ToLower(base32.StdEncoding.EncodeToString(random))
	return token, atomicfile.Write(path, []byte(token+"\n"), 0o600)
}

// URL returns the address for clients on this machine, with the token.
func (s *Server) URL() string { return s.urlOf("127.0.0.1") }

// URLs returns the addresses at which other machines may reach the server, with the
// token; none if it listens on this machine only.
func (s *Server) URLs() []string {
	var list []string
	for _, host := range reachable(s.address.IP) {
		list = append(list, s.urlOf(host))
	}
	return list
}

func (s *Server) urlOf(host string) string {
	if host == "127.0.0.1" && !s.address.IP.IsUnspecified() {
		host = s.address.IP.String()
	}
	scheme := "nats"
	if s.options.TLS {
		scheme = "tls"
	}
	return (&url.URL{Scheme: scheme, User: url.User(s.token), Host: net.JoinHostPort(host, strconv.Itoa(s.address.Port))}).String()
}

// reachable lists the addresses of this machine that others may dial, for a server that
// listens on ip.
func reachable(ip net.IP) []string {
	switch {
	case ip.IsLoopback():
		return nil
	case !ip.IsUnspecified():
		return []string{ip.String()}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var four, six []string
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		switch {
		case !ok || !network.IP.IsGlobalUnicast():
		case network.IP.To4() != nil:
			four = append(four, network.IP.String())
		default:
			six = append(six, network.IP.String())
		}
	}
	return append(four, six...)
}

// Address returns the HOST:PORT at which the server listens.
func (s *Server) Address() string { return s.address.String() }

// Ended returns a channel that is closed when the server cannot go on in this process, such
// as after a full disk, and the disk has room. A new process with the same folder and address goes
// on where this one ended, without Close.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Close stops the server. Jobs go on when it starts again.
func (s *Server) Close() error {
	close(s.closing)
	<-s.guarded
	return errors.Join(stop(s.server), s.lock.Close())
}
