package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/mlxrank/mlxrank/engine"
)

func ExampleEngine_Rerank() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	ranking, err := e.Rerank(ctx, "edit photos", []string{
		"A command line calculator with arbitrary precision.",
		"An image editor for retouching photographs and drawing.",
	}, engine.RerankOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range ranking.Items {
		fmt.Println("document", item.Index)
	}
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// document 1
	// document 0
}

// Score is safe from any number of goroutines: their pairs share batches.
func ExampleEngine_Score() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin", QueueTokens: 100_000})
	if err != nil {
		log.Fatal(err)
	}
	result, err := e.Score(ctx, []engine.Pair{
		{Query: "edit photos", Document: "An image editor for retouching photographs."},
		{Query: "edit photos", Document: "A mail reader for the terminal."},
	})
	switch {
	case errors.Is(err, engine.ErrOverloaded):
		log.Fatal("too much to do; try again later")
	case errors.Is(err, engine.ErrTooLarge):
		log.Fatal("too many pairs at once; split them")
	case err != nil:
		log.Fatal(err)
	}
	fmt.Println("the first scores higher:", result.Scores[0] > result.Scores[1])
	t := result.Timings
	fmt.Println("the stages add up:", t.Inference+t.Tokenization+t.QueueWait+t.Other == t.Latency)
	fmt.Println("pairs executed:", e.Stats().Pairs)
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// the first scores higher: true
	// the stages add up: true
	// pairs executed: 2
}

// A file too large for memory goes through in windows. While one executes the
// next is read; results come in order, each with its window.
func ExampleStream() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	type window struct {
		from  int // line of its first pair
		pairs []engine.Pair
	}
	read := func(yield func(window, error) bool) { // stands for the reader of the file
		for from := 1; from < 7; from += 2 {
			w := window{from: from}
			for line := from; line < from+2; line++ {
				w.pairs = append(w.pairs, engine.Pair{Query: "edit photos", Document: fmt.Sprintf("document %d", line)})
			}
			if !yield(w, nil) {
				return
			}
		}
	}
	for scored, err := range engine.Stream(ctx, e, read, func(w window) []engine.Pair { return w.pairs }) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("line %d: %d scores\n", scored.Window.from, len(scored.Scores))
	}
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// line 1: 2 scores
	// line 3: 2 scores
	// line 5: 2 scores
}
