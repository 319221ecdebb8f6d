// Command http is a web server with a route that ranks passages. All requests use
// one engine and share its batches.
//
//	go run ./examples/http &
//	curl -s 127.0.0.1:8080/rank -d '{"query": "resize photos", "passages": ["A mail reader.", "An image editor."]}'
//
// For the APIs of text-embeddings-inference, Jina and Cohere, with limits and
// metrics, mount the Handler of package server instead.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err == nil {
		err = run(ctx, listener, engine.Config{
			Model: "builtin",
			// Clients do not wait for long queues. This limit is about ten seconds of
			// work on two cores; the engine rejects requests beyond it.
			QueueTokens: 100_000,
		})
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends. It first shuts down the server, which waits for its
// handlers, and then closes the engine that they use.
func run(ctx context.Context, listener net.Listener, config engine.Config) (err error) {
	e, err := engine.Open(ctx, config)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	mux := http.NewServeMux()
	mux.Handle("POST /rank", rank(e))
	mux.Handle("GET /healthy", healthy(e))
	srv := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10*time.Second + answerTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	err = srv.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		// Closing the connections ends the contexts of their requests, so that the
		// handlers return.
		err = errors.Join(err, srv.Close())
	}
	return err
}

const (
	maxBody       = 1 << 20 // bytes
	answerTimeout = 30 * time.Second
	drainTimeout  = 20 * time.Second
)

type request struct {
	Query    string   `json:"query"`
	Passages []string `json:"passages"`
}

type item struct {
	Passage int     `json:"passage"` // index in the request
	Score   float32 `json:"score"`
}

// rank returns a handler that answers with the passages of a request, best first.
func rank(e *engine.Engine) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req request
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&req); err != nil {
			status := http.StatusBadRequest
			if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, err.Error(), status)
			return
		}
		if req.Query == "" || len(req.Passages) == 0 {
			http.Error(w, "query and passages must not be empty", http.StatusUnprocessableEntity)
			return
		}
		// The context also ends when the client disconnects. The engine then drops
		// the pairs that wait, and Rerank returns without the running ones.
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		ranking, err := e.Rerank(ctx, req.Query, req.Passages, engine.RerankOptions{})
		if err != nil {
			fail(w, err)
			return
		}
		items := make([]item, len(ranking.Items))
		for i, ranked := range ranking.Items {
			items[i] = item{Passage: ranked.Index, Score: ranked.Score}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(items); err != nil {
			log.Print("answer: ", err)
		}
	})
}

// healthy returns a handler by which a load balancer checks the engine.
func healthy(e *engine.Engine) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := e.Healthy(r.Context()); err != nil {
			fail(w, err)
		}
	})
}

// fail answers with the HTTP status for an error of the engine.
func fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, context.Canceled): // the client has disconnected
	case errors.Is(err, engine.ErrOverloaded):
		// The engine has executed no part of the request; it can be sent again.
		w.Header().Set("Retry-After", "1") // seconds
		http.Error(w, "the queue is full; try again later", http.StatusServiceUnavailable)
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "the request took too long; send fewer passages", http.StatusGatewayTimeout)
	case errors.Is(err, engine.ErrTooLarge):
		http.Error(w, "too many passages; split the request", http.StatusRequestEntityTooLarge)
	case errors.Is(err, engine.ErrText):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case errors.Is(err, engine.ErrClosed), errors.Is(err, engine.ErrUnhealthy):
		http.Error(w, "out of service", http.StatusServiceUnavailable)
	default:
		log.Print("rank: ", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}
