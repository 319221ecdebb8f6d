package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/server"
)

// Another server mounts the APIs of text-embeddings-inference, Jina and Cohere.
func ExampleServer_Handler() {
	e, err := engine.Open(context.Background(), engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	ranker, err := server.New(server.Config{Engine: e, Version: "my-service 1.0", Limits: server.DefaultLimits()})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ranker/", http.StripPrefix("/ranker", ranker.Handler()))
	mux.Handle("/", http.NotFoundHandler()) // stands for the other routes
	web := httptest.NewServer(mux)          // stands for an http.Server with timeouts

	answer, err := http.Post(web.URL+"/ranker/rerank", "application/json",
		strings.NewReader(`{"query": "edit photos", "texts": ["A mail reader.", "An image editor."]}`))
	if err != nil {
		log.Fatal(err)
	}
	var ranked []struct{ Index int }
	if err := json.NewDecoder(answer.Body).Decode(&ranked); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Status, ranked)
	if err := answer.Body.Close(); err != nil {
		log.Fatal(err)
	}
	web.Close() // first the server, which waits for its handlers, then what they use
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 200 OK [{1} {0}]
}
