package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// overHTTP2 makes the client of v speak HTTP/2 in cleartext only.
func (v *served) overHTTP2(t *testing.T) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	v.transport = transport
	return transport
}

// start sends a request that ends with ctx, and passes on its status, 0 without an answer.
func (v *served) start(ctx context.Context, t *testing.T, body io.Reader) <-chan int {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+v.address+"/rerank", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answered := make(chan int, 1)
	go func() {
		w, err := v.transport.RoundTrip(r)
		if err != nil {
			answered <- 0
			return
		}
		if _, err := io.Copy(io.Discard, w.Body); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if err := w.Body.Close(); err != nil {
			t.Error(err)
		}
		answered <- w.StatusCode
	}()
	return answered
}

// Every format has the same answers over HTTP/2 as over HTTP/1, at the same address. All
// requests share one connection, which refusals do not end.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Key: "secret", Limits: Limits{BodyBytes: 1 << 20}})
	for _, a := range apis {
		body := a.body("q", "a document", "another")
		_, want, _ := v.ask(t, a.path, body, "Authorization", "Bearer secret")
		before := v.connections.Load()
		plain := v.transport
		v.overHTTP2(t)
		if status, got, _ := v.ask(t, a.path, body, "Authorization", "Bearer secret"); status != 200 || withoutID(got) != withoutID(want) {
			t.Errorf("%s: %d %s, want %s", a.path, status, got, want)
		}
		if status, got, header := v.ask(t, a.path, body); status != 401 || !strings.Contains(got, "Authorization: Bearer KEY") || header.Get("Connection") != "" {
			t.Errorf("%s without the key: %d %s", a.path, status, got)
		}
		if status, got, _ := v.ask(t, a.path, strings.Repeat(" ", 2<<20), "Authorization", "Bearer secret"); status != 413 || !strings.Contains(got, "exceeds 1048576 bytes") {
			t.Errorf("%s, too large: %d %s", a.path, status, got)
		}
		if status, _, _ := v.ask(t, a.path, body, "Authorization", "Bearer secret", "Host", "rerank.example.org"); status != 200 {
			t.Errorf("%s under another name: %d", a.path, status)
		}
		if n := v.connections.Load() - before; n != 1 {
			t.Errorf("%s: %d connections", a.path, n)
		}
		v.transport = plain
	}
}

// A client that leaves frees its work at once, whether it resets its stream or its
// connection; the other requests of the connection go on.
func TestHTTP2ClientsThatLeave(t *testing.T) {
	t.Parallel()
	ended, finish := make(chan struct{}, 8), make(chan struct{})
	e := &fakeEngine{before: func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			ended <- struct{}{}
			return ctx.Err()
		case <-finish:
			return nil
		}
	}}
	v := serveOn(t, Config{Engine: e})
	v.overHTTP2(t)
	ctx, leave := context.WithCancel(t.Context())
	stays := v.start(t.Context(), t, strings.NewReader(smallRequest))
	waitFor(t, "a connection to share", func() bool { return v.inProgress() == 1 })
	for range 3 {
		v.start(ctx, t, strings.NewReader(smallRequest))
	}
	waitFor(t, "running requests", func() bool { return v.inProgress() == 4 })
	if n := v.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	leave()
	for range 3 {
		<-ended
	}
	waitFor(t, "one running request", func() bool { return v.inProgress() == 1 })
	close(finish)
	if status := <-stays; status != 200 {
		t.Errorf("the other request: %d", status)
	}
	waitFor(t, "an empty budget", func() bool { return v.bodies.taken.Load() == 0 })
}

func TestHTTP2ConnectionLost(t *testing.T) {
	t.Parallel()
	var freed sync.WaitGroup
	freed.Add(2)
	v := serveOn(t, Config{Engine: &fakeEngine{before: func(ctx context.Context) error {
		defer freed.Done()
		return waits(ctx)
	}}})
	c := v.dial(t)
	framer := greet(t, c)
	for _, stream := range []uint32{1, 3} {
		writeHeaders(t, framer, stream, "content-type", "application/json")
		if err := framer.WriteData(stream, true, []byte(smallRequest)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "running requests", func() bool { return v.inProgress() == 2 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	freed.Wait()
	waitFor(t, "no running request", func() bool { return v.inProgress() == 0 && v.bodies.taken.Load() == 0 && v.connections.Load() == 0 })
}

// greet begins an HTTP/2 connection.
func greet(t *testing.T, c io.ReadWriter) *http2.Framer {
	t.Helper()
	send(t, c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return framer
}

// writeHeaders sends the headers of a request that has a body.
func writeHeaders(t *testing.T, framer *http2.Framer, stream uint32, headers ...string) {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	all := append([]string{":method", "POST", ":scheme", "http", ":path", "/rerank", ":authority", "localhost"}, headers...)
	for i := 0; i < len(all); i += 2 {
		if err := encoder.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	const piece = 16 << 10
	first := block.Next(piece)
	err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndHeaders: block.Len() == 0})
	for err == nil && block.Len() > 0 {
		part := block.Next(piece)
		err = framer.WriteContinuation(stream, block.Len() == 0, part)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The limits of a connection are announced, and hold for clients that ignore them.
func TestHTTP2Limits(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Engine: &fakeEngine{before: waits}})
	framer := greet(t, v.dial(t))
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	announced, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("the first frame is %v", frame)
	}
	if n, _ := announced.Value(http2.SettingMaxConcurrentStreams); n != maxStreams {
		t.Errorf("%d streams are announced", n)
	}
	if n, _ := announced.Value(http2.SettingMaxHeaderListSize); n < maxHeaderBytes || n > 2*maxHeaderBytes {
		t.Errorf("headers of %d bytes are announced", n)
	}
	for i := range uint32(maxStreams) {
		writeHeaders(t, framer, 2*i+1, "content-type", "application/json")
	}
	writeHeaders(t, framer, 2*maxStreams+1, "content-type", "application/json")
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if reset, ok := frame.(*http2.RSTStreamFrame); ok {
			if reset.StreamID != 2*maxStreams+1 || reset.ErrCode != http2.ErrCodeRefusedStream && reset.ErrCode != http2.ErrCodeProtocol {
				t.Errorf("stream %d is refused: %v", reset.StreamID, reset.ErrCode)
			}
			break
		}
	}

	framer = greet(t, v.dial(t))
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	large := strings.Repeat("x", 40<<10)
	writeHeaders(t, framer, 1, "x-large", large, "x-more", large)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if answer, ok := frame.(*http2.MetaHeadersFrame); ok {
			if status := answer.PseudoValue("status"); status != "431" {
				t.Errorf("large headers: %s", status)
			}
			break
		}
	}
}

// Bodies that do not arrive and answers that are not read release what they hold.
func TestHTTP2SlowClients(t *testing.T) {
	t.Parallel()
	v := serveOn(t, Config{Limits: Limits{BodyTimeout: 100 * time.Millisecond}})
	v.overHTTP2(t)
	body, w := io.Pipe()
	if status := <-v.start(t.Context(), t, body); status != 408 {
		t.Errorf("a body that does not arrive: %d", status)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	v = serveOn(t, Config{Limits: Limits{WriteTimeout: 200 * time.Millisecond}})
	transport := v.overHTTP2(t)
	r, err := http.NewRequest(http.MethodPost, "http://"+v.address+"/rerank", strings.NewReader(`{"query": "q", "return_text": true, "texts": ["`+strings.Repeat("d", 4<<20)+`"]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := transport.RoundTrip(r)
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("%v %v", answer, err)
	}
	waitFor(t, "the end of the answer", func() bool { return v.answers.taken.Load() == 0 })
	if _, err := io.Copy(io.Discard, answer.Body); err == nil {
		t.Error("an answer that was not read in time is complete")
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, "an empty budget", func() bool { return v.bodies.taken.Load() == 0 && v.answers.taken.Load() == 0 })
}

// A server that stops answers the running requests of a connection and refuses new ones.
func TestHTTP2OrderlyEnd(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	v := serveOn(t, Config{Engine: &fakeEngine{before: func(context.Context) error { <-finish; return nil }}})
	v.overHTTP2(t)
	running := v.start(t.Context(), t, strings.NewReader(smallRequest))
	waitFor(t, "a running request", func() bool { return v.inProgress() == 1 })
	v.stop()
	waitFor(t, "draining", v.isDraining)
	if status, body, _ := v.ask(t, "/v2/rerank", apis[2].body("q", "d")); status != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("a late request: %d %s", status, body)
	}
	close(finish)
	if status := <-running; status != 200 {
		t.Errorf("the running request: %d", status)
	}
	if err := v.end(); err != nil {
		t.Error(err)
	}
	w, err := v.transport.RoundTrip(request("http://"+v.address+"/ready", ""))
	switch {
	case err == nil:
		t.Errorf("it still answers: %s, %v", w.Status, w.Body.Close())
	case errors.Is(err, context.DeadlineExceeded):
		t.Errorf("it still takes requests: %v", err)
	}
}
