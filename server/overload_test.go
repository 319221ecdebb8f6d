package server

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// A refusal for the predicted wait says when to come again, rounded up; one for
// lack of room says a second.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"8": fmt.Errorf("scoring: %w", &engine.OverloadedError{RetryAfter: 7100 * time.Millisecond}),
		"1": engine.ErrOverloaded,
	} {
		s := newServer(t, Config{Engine: &fakeEngine{before: func(context.Context) error { return err }}})
		for _, a := range apis {
			w := post(s, a.path, a.body("q", "a"))
			if got := w.Header().Get("Retry-After"); w.Code != http.StatusTooManyRequests || got != want {
				t.Errorf("%s: status %d, Retry-After %q, want 429 and %s", a.path, w.Code, got, want)
			}
		}
	}
}

// The engine is told the time that a call has, from its headers on.
func TestEngineKnowsTheDeadline(t *testing.T) {
	t.Parallel()
	var left time.Duration
	s := newServer(t, Config{Limits: Limits{RequestTimeout: time.Minute}, Engine: &fakeEngine{before: func(ctx context.Context) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil
	}}})
	if w := post(s, "/rerank", `{"query": "q", "texts": ["a"]}`); w.Code != http.StatusOK || left > time.Minute || left < 50*time.Second {
		t.Errorf("status %d, %v left of a minute", w.Code, left)
	}
}
