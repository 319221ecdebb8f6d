package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	firstPause  = time.Second // before a repetition, then twice as long each time
	answerBytes = 64 << 10    // read of an answer, so that the connection is kept
)

// A client uploads spans, as an otlptrace.Client does.
type client struct {
	settings
	http *http.Client
	log  zerolog.Logger

	ctx     context.Context // of all uploads
	cancel  context.CancelFunc
	closing chan struct{} // closed when uploads are no longer repeated
	close   func()

	mu   sync.Mutex
	lost int // spans since the last success
}

func newClient(s settings, log zerolog.Logger) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if s.authorities != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: s.authorities, MinVersion: tls.VersionTLS12}
	}
	c := &client{settings: s, log: log, closing: make(chan struct{})}
	c.close = sync.OnceFunc(func() { close(c.closing) })
	c.ctx, c.cancel = context.WithCancel(context.Background())
	// A redirect could lead the headers, which may have a key, to another host.
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}

// Start does nothing: the first upload connects.
func (*client) Start(context.Context) error { return nil }

// Stop closes the connections.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces sends spans. It reports failures to the log and not to its caller, which
// would print each.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	// The bytes are those of an ExportTraceServiceRequest, whose package imports gRPC.
	data, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err == nil {
		err = c.send(ctx, data)
	}
	c.report(err, count(spans))
	return nil
}

func count(spans []*tracepb.ResourceSpans) (n int) {
	for _, resource := range spans {
		for _, scope := range resource.ScopeSpans {
			n += len(scope.Spans)
		}
	}
	return n
}

// report logs the first of several failures, and the success after them.
func (c *client) report(err error, spans int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && c.lost == 0:
		c.log.Warn().Err(err).Str("receiver", c.url.Redacted()).Msg("traces cannot be sent; they are lost until the receiver takes them")
	case err == nil && c.lost > 0:
		c.log.Info().Int("lost_spans", c.lost).Msg("traces are sent again")
	}
	if c.lost += spans; err == nil {
		c.lost = 0
	}
}

// send repeats an upload that may succeed later, until ctx ends.
func (c *client) send(ctx context.Context, data []byte) error {
	if c.compress {
		var err error
		if data, err = compressed(data); err != nil {
			return err
		}
	}
	for pause := firstPause; ; pause *= 2 {
		after, err := c.post(ctx, data)
		if err == nil || after < 0 || !c.sleep(ctx, max(pause, after)) {
			return err
		}
	}
}

func compressed(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

// sleep reports whether there was time for the pause.
func (c *client) sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-c.closing:
	}
	return false
}

// post sends data once. After a failure it returns the least time until the next attempt,
// negative if that would fail too.
func (c *client) post(ctx context.Context, data []byte) (after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(data))
	if err != nil {
		return -1, err
	}
	r.Header = c.headers.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	if c.compress {
		r.Header.Set("Content-Encoding", "gzip")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, answer.Body, answerBytes)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return 0, err
	}
	switch status := answer.StatusCode; status {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, convErr := strconv.Atoi(answer.Header.Get("Retry-After"))
		if convErr != nil {
			seconds = 0 // absent, or a date
		}
		return time.Duration(max(0, seconds)) * time.Second, fmt.Errorf("the receiver answers %s", answer.Status)
	default:
		return -1, fmt.Errorf("the receiver answers %s", answer.Status)
	}
}
