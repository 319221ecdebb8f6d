package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// ConnectConfig names the server, and what the client proves its identity with.
type ConnectConfig struct {
	URL     string // nats://TOKEN@HOST:PORT or tls://...; several with commas for a cluster
	Name    string // of this client, for the server's log
	Creds   string // file with a NATS user's credentials, "" for none
	NKey    string // file with the seed of an nkey, "" for none
	CA      string // file with the certificates that sign the server's, "" for the system's
	Cert    string // file of this client's certificate, "" for none
	CertKey string
	Logger  zerolog.Logger
}

// A Fleet is a connection to the server that holds the jobs. Its methods may be called
// from any goroutine.
type Fleet struct {
	conn    *nats.Conn
	address string // as given, with secrets
	js      jetstream.JetStream
	log     zerolog.Logger

	mu     sync.Mutex
	broken context.CancelFunc // called when the connection breaks
	usable context.Context    // until then
	parts  jetstream.Stream
	lost   jetstream.Stream // undeliveredStream
	values map[string]jetstream.KeyValue
}

// connectTimeout bounds the first connection.
const connectTimeout = 10 * time.Second

// Connect connects to a server and makes the streams that the server lacks. A connection
// that breaks later is made again; calls wait for it until their context ends.
func Connect(ctx context.Context, c ConnectConfig) (*Fleet, error) {
	f := &Fleet{address: c.URL, log: c.Logger, values: map[string]jetstream.KeyValue{}}
	f.setUsable()
	options := []nats.Option{
		nats.Name(c.Name), nats.Timeout(connectTimeout), nats.MaxReconnects(-1),
		nats.ReconnectWait(time.Second), nats.ReconnectJitter(time.Second, time.Second),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(3),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			f.setUsable()
			if err == nil {
				return // Close was called
			}
			c.Logger.Warn().Err(err).Msg("the connection to the fleet's server is lost; trying again")
		}),
		nats.ReconnectHandler(func(*nats.Conn) { c.Logger.Warn().Msg("connected to the fleet's server again") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.Logger.Debug().Err(err).Msg("nats") }),
	}
	if c.Creds != "" {
		options = append(options, nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("read the nkey %s: %w", c.NKey, err)
		}
		options = append(options, option)
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		options = append(options, nats.ClientCert(c.Cert, c.CertKey))
	}
	if strings.HasPrefix(c.URL, "tls://") || c.CA != "" {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	for _, file := range []string{c.Creds, c.CA, c.Cert, c.CertKey} {
		if _, err := os.Stat(file); file != "" && err != nil {
			return nil, err
		}
	}
	if err := checkAddresses(c.URL); err != nil {
		return nil, err
	}
	conn, err := nats.Connect(c.URL, options...)
	if err != nil {
		return nil, explainConnect(c.URL, tellingError(c.URL, options, err))
	}
	f.conn = conn
	if err := f.open(ctx, c.URL); err != nil {
		conn.Close()
		return nil, err
	}
	return f, nil
}

// setUsable ends the calls that wait for an answer on a broken connection: it will never
// come.
func (f *Fleet) setUsable() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		f.broken()
	}
	f.usable, f.broken = context.WithCancel(context.Background())
}

// untilBroken returns a context that also ends when the connection breaks.
func (f *Fleet) untilBroken(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	stop := context.AfterFunc(f.connection(), cancel)
	return ctx, func() { stop(); cancel() }
}

// connection returns a context that ends when the connection breaks. Watches begin again
// then: on their own they notice late that a restarted server does not know them.
func (f *Fleet) connection() context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.usable
}

// stopWatch ends a watch. The client's goroutine may wait to hand over an entry.
func stopWatch(watcher jetstream.KeyWatcher) {
	watcher.Stop() //nolint:errcheck // the connection may be gone
	go func() {
		for range watcher.Updates() { // which Stop ends
		}
	}()
}

// Close closes the connection.
func (f *Fleet) Close() { f.conn.Close() }

// Server returns the address of the server without secrets.
func (f *Fleet) Server() string { return redact(f.conn.ConnectedUrl()) }

// open finds or makes the streams and the buckets.
func (f *Fleet) open(ctx context.Context, address string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if f.js, err = jetstream.New(f.conn); err != nil {
		return err
	}
	if err := f.ensure(ctx); err != nil {
		switch {
		case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
			return fmt.Errorf("the NATS server at %s has no JetStream; start it with JetStream (nats-server -js), or use mlxrank fleet start", redact(address))
		case errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("the NATS server at %s does not answer JetStream requests; the user may lack permission for $JS.API.> and _INBOX.>: %w", redact(address), err)
		case isFull(err):
			return fmt.Errorf("the NATS server at %s has no room on its disk or in its store; make some, and try again: %w", redact(address), err)
		}
		return fmt.Errorf("prepare JetStream at %s: %w", redact(address), err)
	}
	return nil
}

// ensure makes the streams and buckets that are missing. It changes none that are there:
// whoever runs the server may have set replicas or limits.
func (f *Fleet) ensure(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := map[string]jetstream.Stream{}
	replicas := 1
	for _, config := range streams() {
		config.Replicas = replicas
		stream, err := f.js.Stream(ctx, config.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = f.js.CreateStream(ctx, config)
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", config.Name, err)
		}
		found[config.Name] = stream
		// In a cluster, the rest is as safe as the queue that its administrator made.
		replicas = max(1, found[partsStream].CachedInfo().Config.Replicas)
	}
	f.parts, f.lost = found[partsStream], found[undeliveredStream]
	for _, config := range buckets() {
		config.Replicas = replicas
		bucket, err := f.js.KeyValue(ctx, config.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			bucket, err = f.js.CreateKeyValue(ctx, config)
		}
		if err != nil {
			return fmt.Errorf("bucket %s: %w", config.Bucket, err)
		}
		f.values[config.Bucket] = bucket
	}
	return nil
}

func (f *Fleet) bucket(name string) jetstream.KeyValue {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.values[name]
}

// callTimeout bounds one call of the server, which retry repeats.
const callTimeout = 20 * time.Second

// retry calls the server until it answers, the answer is an error that stays, or ctx
// ends.
func (f *Fleet) retry(ctx context.Context, call func(context.Context) error) error {
	wait, start, warned := backoff.NewExponentialBackOff(), time.Now(), false
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 5*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		once, cancel := f.untilBroken(ctx, callTimeout)
		defer cancel()
		err := call(once)
		if err != nil && (ctx.Err() != nil || !isTemporary(err)) {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		level, text := zerolog.DebugLevel, "the fleet's server did not do what was asked; trying until it does"
		if isFull(err) {
			text = "the fleet's server has no room on its disk or in its store; waiting until it has"
		}
		if !warned && (isFull(err) || time.Since(start) > 15*time.Second) {
			warned, level = true, zerolog.WarnLevel
		}
		f.log.WithLevel(level).Err(err).Msg(text)
	}))
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		err = permanent.Unwrap()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if cause := f.conn.LastError(); errors.Is(err, nats.ErrConnectionClosed) && cause != nil {
		return explainConnect(f.address, cause) // NATS gives up when a server rejects the token twice
	}
	return err
}

// isTemporary reports whether a call may succeed when it is repeated: the connection or
// the server was away, or the store was full. The caller's context has not ended, so a
// context that has ended is that of one call.
func isTemporary(err error) bool {
	for _, temporary := range []error{
		nats.ErrTimeout, nats.ErrDisconnected, nats.ErrNoResponders, nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, nats.ErrConnectionReconnecting,
		context.DeadlineExceeded, context.Canceled, jetstream.ErrNoStreamResponse, jetstream.ErrServerShutdown, jetstream.ErrConsumerLeadershipChanged,
		jetstream.ErrNoHeartbeat, jetstream.ErrOrderedConsumerReset, jetstream.ErrJetStreamNotEnabled, // as long as it starts
	} {
		if errors.Is(err, temporary) {
			return true
		}
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Code == unavailable && api.ErrorCode != storeFailed {
		return true // JetStream starts or stops
	}
	return isFull(err) || isLeaderless(err)
}

// isLeaderless reports whether a cluster chooses a leader, or has lost a part of its
// servers.
func isLeaderless(err error) bool {
	const notAvailable, notLeader = 10008, 10009
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == notAvailable || api.ErrorCode == notLeader)
}

// unavailable is the class of JetStream's errors that pass.
const unavailable = 503

// internalError is the class of JetStream's errors that hand on an error of the server.
const internalError = 500

// storeFailed is JetStream's code of a message that a stream did not store.
const storeFailed jetstream.ErrorCode = 10077

// isFull reports whether the server has no room for a message.
func isFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	if api.Code == internalError && isDiskFull(api.Description) {
		return true
	}
	const accountExceeded, insufficientResources, memoryExceeded, storageExceeded = 10002, 10023, 10028, 10047
	switch api.ErrorCode {
	case accountExceeded, insufficientResources, memoryExceeded, storageExceeded:
		return true
	case storeFailed:
		return !strings.Contains(api.Description, "per subject")
	}
	return false
}

// isDiskFull reports whether an error's text is that of a full disk, or of a full quota,
// on any system that the server may run on. Requests that remove messages write to the
// disk too, and are answered with the text alone. For a stream that cannot be made, the
// server keeps the reason in its log.
func isDiskFull(description string) bool {
	for _, text := range []string{"no space left on device", "disk quota exceeded", "not enough space on the disk", "error creating store for stream"} {
		if strings.Contains(description, text) {
			return true
		}
	}
	return false
}
