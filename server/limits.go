package server

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Limits caps the size of one request and of all requests together, and the time
// that each part of a request may take.
type Limits struct {
	Documents  int   // of a request
	Characters int   // of a request's queries and documents
	BodyBytes  int64 // of a request, decompressed

	Requests        int   // concurrent scoring requests
	BodyBytesAtOnce int64 // of all concurrent requests

	HeaderTimeout  time.Duration // for the client to send the headers
	BodyTimeout    time.Duration // for the client to send the body
	RequestTimeout time.Duration // from the headers to the answer
	WriteTimeout   time.Duration // for the client to read the answer
	IdleTimeout    time.Duration // between two requests of a connection
	DrainDelay     time.Duration // at shutdown: to accept requests although /ready answers 503; no default
	DrainTimeout   time.Duration // to finish running requests after that
}

// DefaultLimits returns the limits that zeros of Limits stand for.
func DefaultLimits() Limits {
	return Limits{
		Documents: 1000, Characters: 8_000_000, BodyBytes: 16 << 20,
		Requests: 2048, BodyBytesAtOnce: 128 << 20,
		HeaderTimeout: 10 * time.Second, BodyTimeout: 30 * time.Second, RequestTimeout: 60 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 120 * time.Second, DrainTimeout: 30 * time.Second,
	}
}

func (l Limits) orDefaults() Limits {
	d := DefaultLimits()
	return Limits{
		Documents: cmp.Or(l.Documents, d.Documents), Characters: cmp.Or(l.Characters, d.Characters), BodyBytes: cmp.Or(l.BodyBytes, d.BodyBytes),
		Requests: cmp.Or(l.Requests, d.Requests), BodyBytesAtOnce: cmp.Or(l.BodyBytesAtOnce, max(d.BodyBytesAtOnce, l.BodyBytes)),
		HeaderTimeout: cmp.Or(l.HeaderTimeout, d.HeaderTimeout), BodyTimeout: cmp.Or(l.BodyTimeout, d.BodyTimeout),
		RequestTimeout: cmp.Or(l.RequestTimeout, d.RequestTimeout), WriteTimeout: cmp.Or(l.WriteTimeout, d.WriteTimeout),
		IdleTimeout: cmp.Or(l.IdleTimeout, d.IdleTimeout), DrainDelay: l.DrainDelay, DrainTimeout: cmp.Or(l.DrainTimeout, d.DrainTimeout),
	}
}

// check rejects a request with too many documents or characters.
func (l Limits) check(o *outcome) *failure {
	if o.documents > l.Documents {
		return failf(http.StatusUnprocessableEntity, kindValidation, "too many documents: %d (limit %d); split the request", o.documents, l.Documents)
	}
	if o.characters > l.Characters {
		return failf(http.StatusRequestEntityTooLarge, kindValidation, "too many characters: %d (limit %d); split the request", o.characters, l.Characters)
	}
	return nil
}

// A budget is a number of bytes that requests share.
type budget struct {
	limit int64
	taken atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.taken.Add(n) <= b.limit {
		return true
	}
	b.taken.Add(-n)
	return false
}

func (b *budget) give(n int64) { b.taken.Add(-n) }

func (s *Server) failTooLarge() *failure {
	return failf(http.StatusRequestEntityTooLarge, kindValidation, "the body exceeds %d bytes; split the request", s.Limits.BodyBytes)
}

func (s *Server) failBodies() *failure {
	return failOverloaded("the bodies of running requests exceed %d bytes; try again later", s.bodies.limit)
}

// readBody reads a body within the limits. The bytes that have arrived count
// against the budget, not the announced length; the caller gives them back.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *failure) {
	limit := s.Limits.BodyBytes
	if r.ContentLength > limit {
		return nil, s.failTooLarge()
	}
	connection := http.NewResponseController(w)
	setDeadline(connection.SetReadDeadline, time.Now().Add(s.Limits.BodyTimeout))
	body := make([]byte, 0, min(max(r.ContentLength+1, 512), 64<<10))
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if n > 0 && !s.bodies.take(int64(n)) {
			body = body[:len(body)-n]
			return body, s.failBodies()
		}
		if int64(len(body)) > limit {
			return body, s.failTooLarge()
		}
		switch {
		case err == io.EOF:
			// A deadline left behind would end the request while it is scored.
			setDeadline(connection.SetReadDeadline, noDeadline)
			return body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return body, failf(http.StatusRequestTimeout, kindTimeout, "the body did not arrive within %v", s.Limits.BodyTimeout)
		case err != nil:
			return body, failf(http.StatusBadRequest, kindValidation, "the body ended early, after %d bytes", len(body))
		}
		if len(body) == cap(body) {
			body = growBody(body, r.ContentLength)
		}
	}
}

// growBody doubles the capacity for a body, up to its announced length. append's
// smaller steps would leave several times the size of a large body as garbage.
func growBody(body []byte, announced int64) []byte {
	room := 2 * int64(cap(body))
	if announced > int64(len(body)) {
		room = min(room, announced+1)
	}
	return append(make([]byte, 0, room), body...)
}

var noDeadline time.Time

// setDeadline sets a deadline if there is a connection; test recorders have none.
func setDeadline(set func(time.Time) error, at time.Time) {
	if err := set(at); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return // the connection is gone, which the next read or write reports
	}
}
