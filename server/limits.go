package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Limits bound what a call and all calls together may take.
type Limits struct {
	Documents  int   // of a call
	Characters int   // of a call: its query and its documents
	BodyBytes  int64 // of a call

	Requests        int   // scoring calls at work at once
	BodyBytesAtOnce int64 // of all calls at work

	HeaderTimeout  time.Duration // to send the headers
	BodyTimeout    time.Duration // to send the body
	RequestTimeout time.Duration // to answer, from the headers on
	WriteTimeout   time.Duration // to take the answer
	IdleTimeout    time.Duration // between calls of a connection
	DrainTimeout   time.Duration // to finish what runs, once told to stop
}

// DefaultLimits are those of a server that is told nothing else.
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
		Documents: orElse(l.Documents, d.Documents), Characters: orElse(l.Characters, d.Characters), BodyBytes: orElse(l.BodyBytes, d.BodyBytes),
		Requests: orElse(l.Requests, d.Requests), BodyBytesAtOnce: orElse(l.BodyBytesAtOnce, max(d.BodyBytesAtOnce, l.BodyBytes)),
		HeaderTimeout: orElse(l.HeaderTimeout, d.HeaderTimeout), BodyTimeout: orElse(l.BodyTimeout, d.BodyTimeout),
		RequestTimeout: orElse(l.RequestTimeout, d.RequestTimeout), WriteTimeout: orElse(l.WriteTimeout, d.WriteTimeout),
		IdleTimeout: orElse(l.IdleTimeout, d.IdleTimeout), DrainTimeout: orElse(l.DrainTimeout, d.DrainTimeout),
	}
}

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// check refuses more than a call may bring.
func (l Limits) check(documents, characters int) *failure {
	if documents > l.Documents {
		return failf(http.StatusUnprocessableEntity, kindValidation, "%d documents are more than the %d that a call may bring; send them in several", documents, l.Documents)
	}
	if characters > l.Characters {
		return failf(http.StatusRequestEntityTooLarge, kindValidation, "%d characters are more than the %d that a call may bring; send the documents in several", characters, l.Characters)
	}
	return nil
}

// A budget is bytes that calls share.
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
	return failf(http.StatusRequestEntityTooLarge, kindValidation, "the body has more than %d bytes; send the documents in several calls", s.Limits.BodyBytes)
}

func (s *Server) failBodies() *failure {
	return failOverloaded("the bodies of the calls at work take %d bytes, as many as the server holds; try again later", s.bodies.limit)
}

// readBody reads a body within the limits. What has come of a slow one counts
// against the budget, not what is announced; the caller gives it back.
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
			// A deadline left behind would end the call while it is scored.
			setDeadline(connection.SetReadDeadline, time.Time{})
			return body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return body, failf(http.StatusRequestTimeout, kindTimeout, "the body did not come within %v", s.Limits.BodyTimeout)
		case err != nil:
			return body, failf(http.StatusBadRequest, kindValidation, "the body broke off after %d bytes", len(body))
		}
		if len(body) == cap(body) {
			body = growBody(body, r.ContentLength)
		}
	}
}

// growBody doubles the room for a body, up to its announced length. append's
// smaller steps would leave several times a large body as garbage.
func growBody(body []byte, announced int64) []byte {
	room := 2 * int64(cap(body))
	if announced > int64(len(body)) {
		room = min(room, announced+1)
	}
	return append(make([]byte, 0, room), body...)
}

// setDeadline sets one where there is a connection; a recorder of tests has none.
func setDeadline(set func(time.Time) error, at time.Time) {
	if err := set(at); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return // the connection is gone, which reading or writing will tell
	}
}
