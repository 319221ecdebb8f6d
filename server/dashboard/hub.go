package dashboard

import (
	"context"
	"net/http"
	"time"
)

const (
	mostWatchers = 64
	behind       = 8 // events that a watcher may not have taken yet
	writeTime    = 10 * time.Second
)

// A hub hands events to those who watch. It waits for none of them.
type hub struct {
	watchers map[chan []byte]bool
	closed   bool
}

// join gives a channel of events, which is closed when the watcher is let go; nil
// if nobody else is let in.
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

// leave may be called for one who was let go already.
func (h *hub) leave(events chan []byte) {
	if h.watchers[events] {
		delete(h.watchers, events)
		close(events)
	}
}

// tell lets those go who are too far behind.
func (h *hub) tell(event []byte) {
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

// join is the hub's, with the first event: all there is so far.
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

// watch streams events until the client goes, falls behind or the dashboard
// ends. HEAD, which the routes of GET have too, asks for the headers alone.
func (d *Dashboard) watch(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		streamHeaders(w.Header())
		return
	}
	events, first := d.join()
	if events == nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "the dashboard has ended, or too many watch it", http.StatusServiceUnavailable)
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
	h.Set("X-Accel-Buffering", "no") // proxies would hold events back
}

// A stream is an answer without an end.
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

// send gives the client so much time and no more.
func (s stream) send(event []byte) error {
	if err := limitWriting(s.control); err != nil {
		return err
	}
	if _, err := s.Write(event); err != nil {
		return err
	}
	return s.control.Flush()
}
