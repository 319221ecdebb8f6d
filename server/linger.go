package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A client may still send when its answer is ready: the rest of a body that is
// too large, or a body that nobody reads. Closing the connection then resets it,
// and the client's system drops the answer. So the server ends its own side,
// reads and drops what still comes, within these bounds, and closes afterwards.
const (
	lingerTime  = 30 * time.Second // for all of it
	lingerIdle  = 2 * time.Second  // between two packets
	lingerBytes = 256 << 20

	// A short body that comes with its headers is read before the answer, so that
	// the connection can be kept.
	settleTime  = 100 * time.Millisecond
	settleBytes = 256 << 10
)

// A halfCloser is a connection whose sending side can be ended alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// A lingeringListener makes its connections linger when they are closed.
type lingeringListener struct {
	net.Listener
	hurried atomic.Bool // connections are closed at once
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

// Close lingers, unless nothing was answered. A second call closes at once.
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
		return // the bounds are reached, or the client is gone
	}
}

// A patientReader waits for each packet as long as a closing connection may.
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

// watchIdle is http.Server's ConnState.
func watchIdle(c net.Conn, state http.ConnState) {
	if l, ok := c.(*lingeringConn); ok && state == http.StateIdle {
		l.answering.Store(false)
	}
}

// A watchedBody knows whether it was read to its end.
type watchedBody struct {
	io.ReadCloser
	ended bool
}

func (b *watchedBody) Read(data []byte) (int, error) {
	n, err := b.ReadCloser.Read(data)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// watchBody replaces the request's body; nil if it has none.
func watchBody(r *http.Request) *watchedBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &watchedBody{ReadCloser: r.Body}
	r.Body = b
	return b
}

// settleBody decides, before the answer's headers are written, what becomes of a
// body that was not read: a short one that is there already is dropped, any other
// ends the connection. net/http would wait for it without a deadline.
func settleBody(w http.ResponseWriter, r *http.Request, b *watchedBody) {
	if b == nil || b.ended || w.Header().Get("Connection") == "close" {
		return
	}
	// A client that waits for 100 Continue sends no body after another answer.
	if r.Header.Get("Expect") == "" && r.ContentLength <= settleBytes {
		control := http.NewResponseController(w)
		setDeadline(control.SetReadDeadline, time.Now().Add(settleTime))
		if _, err := io.CopyN(io.Discard, b, settleBytes+1); errors.Is(err, io.EOF) {
			setDeadline(control.SetReadDeadline, time.Time{})
			return
		}
	}
	w.Header().Set("Connection", "close")
}

// leaveBody bounds net/http's wait for a body that nobody has read to its end.
func leaveBody(w http.ResponseWriter, b *watchedBody) {
	if b != nil && !b.ended {
		setDeadline(http.NewResponseController(w).SetReadDeadline, time.Now().Add(lingerIdle))
	}
}
