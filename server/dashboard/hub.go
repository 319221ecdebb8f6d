package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	mostWatchers = 64
	behind       = 8 // events that wait for a watcher at most
	writeTime    = 10 * time.Second
)

// A hub sends events to watchers and waits for none of them.
type hub struct {
	watchers map[chan []byte]bool
	closed   bool
}

// join returns a channel of events, which the hub closes to disconnect the
// watcher. It returns nil if the hub is full or closed.
func (h *hub) join() chan []byte {
	if h.closed || len(h.watchers) == mostWatchers {
		return nil
	}
	if h.watchers == nil {
		h.watchers = make(map[chan []byte]bool)
	}
	events := make(chan []byte, behind)
	h.watchers[events] = true
	return events
}

// leave removes a watcher. It does nothing for one that was removed already.
func (h *hub) leave(events chan []byte) {
	if h.watchers[events] {
		delete(h.watchers, events)
		close(events)
	}
}

// send removes watchers that are too far behind.
func (h *hub) send(event []byte) {
	for events := range h.watchers {
		select {
		case events <- event:
		default:
			h.leave(events)
		}
	}
}

func (h *hub) close() {
	h.closed = true
	for events := range h.watchers {
		h.leave(events)
	}
}

// join adds a watcher. The first event is the history.
func (d *Dashboard) join() (events chan []byte, first []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if events = d.hub.join(); events != nil {
		first = event("history", d.snapshot())
	}
	return events, first
}

func (d *Dashboard) leave(events chan []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hub.leave(events)
}

// watch streams events until the client disconnects or falls behind, or until the
// dashboard ends. HEAD requests, which GET routes accept too, get the headers
// alone.
func (d *Dashboard) watch(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		streamHeaders(w.Header())
		return
	}
	events, first := d.join()
	if events == nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "the server is stopping, or the dashboard has too many watchers (limit 64); try again later", http.StatusServiceUnavailable)
		return
	}
	defer d.leave(events)
	streamHeaders(w.Header())
	out := stream{http.NewResponseController(w), w}
	if out.send(first) != nil {
		return
	}
	out.forward(r.Context(), events)
}

func streamHeaders(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies would buffer events
}

// A stream is a response without an end.
type stream struct {
	control *http.ResponseController
	http.ResponseWriter
}

func (s stream) forward(ctx context.Context, events <-chan []byte) {
	for {
		select {
		case event, ok := <-events:
			if !ok || s.send(event) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// send gives the client writeTime to read the event.
func (s stream) send(event []byte) error {
	if err := limitWriting(s.control); err != nil {
		return err
	}
	if _, err := s.Write(event); err != nil {
		return err
	}
	return s.control.Flush()
}

// event makes a server-sent event. data is JSON without line breaks.
func event(name string, data []byte) []byte {
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)
}
