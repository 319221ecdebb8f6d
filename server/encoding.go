package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// acceptedEncodings is sent with status 415, as RFC 9110 says in section 12.5.3.
const acceptedEncodings = "gzip, zstd"

// maxWindow is the largest zstd window that RFC 9659 allows for HTTP.
const maxWindow = 8 << 20

// contentEncoding returns the coding of a body, "" for none; ok is false for a
// coding that is not accepted and for several codings.
func contentEncoding(r *http.Request) (coding string, ok bool) {
	for _, name := range strings.Split(strings.Join(r.Header.Values("Content-Encoding"), ","), ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case name == "" || name == "identity":
		case coding != "":
			return "", false
		default:
			coding = name
		}
	}
	switch coding {
	case "x-gzip": // a synonym in RFC 9110
		return "gzip", true
	case "", "gzip", "zstd":
		return coding, true
	}
	return "", false
}

// readJSON reads a body and decodes its content coding. The caller returns the
// body's bytes to the budget, even after a failure.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request) ([]byte, *failure) {
	coding, ok := contentEncoding(r)
	if !ok {
		w.Header().Set("Accept-Encoding", acceptedEncodings)
		return nil, failf(http.StatusUnsupportedMediaType, kindValidation, "the content encoding is not accepted; send %s or none", acceptedEncodings)
	}
	body, f := s.readBody(w, r)
	if f == nil && coding != "" {
		sent := int64(len(body))
		body, f = s.decompress(r.Context(), coding, body)
		s.bodies.give(sent)
	}
	json := bytes.TrimPrefix(body, byteOrderMark) // some editors write it
	s.bodies.give(int64(len(body) - len(json)))
	return json, f
}

// decompress decodes a body. Decoded bytes count against the limit of a body and
// against the budget, and decoding stops at either.
func (s *Server) decompress(ctx context.Context, coding string, body []byte) ([]byte, *failure) {
	select { // a decoder has memory of its own, so their number is limited
	case s.decoders <- struct{}{}:
		defer func() { <-s.decoders }()
	case <-ctx.Done():
		return nil, s.failEnded(ctx)
	}
	broken := func(err error) *failure {
		return failf(http.StatusBadRequest, kindValidation, "the body is not %s: %v", coding, err)
	}
	reader, err := newDecoder(coding, body)
	if err != nil {
		return nil, broken(err)
	}
	var decoded []byte
	piece := make([]byte, 64<<10)
	for {
		n, err := reader.Read(piece)
		if int64(len(decoded)+n) > s.Limits.BodyBytes {
			return decoded, s.failTooLarge()
		}
		if !s.bodies.take(int64(n)) {
			return decoded, s.failBodies()
		}
		decoded = append(decoded, piece[:n]...)
		if errors.Is(err, io.EOF) {
			return decoded, nil
		}
		if err != nil {
			return decoded, broken(err)
		}
	}
}

// newDecoder returns a decoder that needs no closing: both kinds decode in the
// reading goroutine and hold nothing but memory.
func newDecoder(coding string, body []byte) (io.Reader, error) {
	if coding == "gzip" {
		return gzip.NewReader(bytes.NewReader(body))
	}
	return zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

func newDecoders() chan struct{} { return make(chan struct{}, max(2, runtime.GOMAXPROCS(0))) }
