package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A client may still be sending when its answer is ready: the rest of a body that
// is too large, or a body that no handler reads. Closing the connection would then
// reset it, and the client's system would drop the answer. So the server ends its
// sending side, reads and drops what arrives within these limits, and then closes.
const (
	lingerTime  = 30 * time.Second // in all
	lingerIdle  = 2 * time.Second  // between two packets
	lingerBytes = 256 << 20

	// A short body that arrives with its headers is read before the answer, so that
	// the connection can be kept open.
	settleTime  = 100 * time.Millisecond
	settleBytes = 256 << 10
)

// A halfCloser is a connection whose sending side can be closed alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// A lingeringListener makes its connections linger when they are closed.
type lingeringListener struct {
	net.Listener
	hurried *atomic.Bool // connections close at once
}

func (l *lingeringListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if h, ok := c.(halfCloser); ok {
		return &lingeringConn{halfCloser: h, listener: l}, nil
	}
	return c, nil
}

type lingeringConn struct {
	halfCloser
	listener  *lingeringListener
	answering atomic.Bool // something was written since the connection was last idle
	closing   atomic.Bool
}

func (c *lingeringConn) Write(data []byte) (int, error) {
	c.answering.Store(true)
	return c.halfCloser.Write(data)
}

// Close lingers if something was answered. A second call closes at once.
func (c *lingeringConn) Close() error {
	if c.answering.Load() && !c.listener.hurried.Load() && c.closing.CompareAndSwap(false, true) {
		c.linger()
	}
	return c.halfCloser.Close()
}

func (c *lingeringConn) linger() {
	if c.CloseWrite() != nil {
		return // the client is gone
	}
	rest := io.LimitReader(&patientReader{c, time.Now().Add(lingerTime)}, lingerBytes)
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return // a limit is reached, or the client is gone
	}
}

// A patientReader waits up to lingerIdle for each packet, until a deadline.
type patientReader struct {
	conn  net.Conn
	until time.Time
}

func (r *patientReader) Read(data []byte) (int, error) {
	deadline := time.Now().Add(lingerIdle)
	if r.until.Before(deadline) {
		deadline = r.until
	}
	if err := r.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return r.conn.Read(data)
}

// watchIdle runs as the ConnState hook of http.Server.
func watchIdle(c net.Conn, state http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if l, ok := c.(*lingeringConn); ok && state == http.StateIdle {
		l.answering.Store(false)
	}
}

// A watchedBody records whether it was read to its end.
type watchedBody struct {
	io.ReadCloser
	ended bool
}

func (b *watchedBody) Read(data []byte) (int, error) {
	n, err := b.ReadCloser.Read(data)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// watchBody replaces the request's body. It returns nil if there is none.
func watchBody(r *http.Request) *watchedBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &watchedBody{ReadCloser: r.Body}
	r.Body = b
	return b
}

// endConnection makes the connection end after the answer, because the rest of the
// request's body is not waited for. HTTP/2 can refuse it without that: the connection
// has other requests.
func endConnection(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor < 2 {
		w.Header().Set("Connection", "close")
	}
}

// settleBody runs before the answer's headers are written. It drops a short unread
// body that has arrived, and makes any other end the connection, for which net/http
// would wait without a deadline.
func settleBody(w http.ResponseWriter, r *http.Request, b *watchedBody) {
	if b == nil || b.ended || r.ProtoMajor >= 2 || w.Header().Get("Connection") == "close" {
		return
	}
	// A client that expects 100 Continue sends no body after another answer.
	if r.Header.Get("Expect") == "" && r.ContentLength <= settleBytes {
		control := http.NewResponseController(w)
		setDeadline(control.SetReadDeadline, time.Now().Add(settleTime))
		if _, err := io.CopyN(io.Discard, b, settleBytes+1); errors.Is(err, io.EOF) {
			setDeadline(control.SetReadDeadline, noDeadline)
			return
		}
	}
	endConnection(w, r)
}

// leaveBody limits net/http's wait for the rest of an unread body.
func leaveBody(w http.ResponseWriter, b *watchedBody) {
	if b != nil && !b.ended {
		setDeadline(http.NewResponseController(w).SetReadDeadline, time.Now().Add(lingerIdle))
	}
}
