package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

// A model of the hub is downloaded at the first Open; Progress reports it.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	config := engine.Config{
		Model:     "./my-model",
		MaxLength: 256, // tokens of a query and a document together
		Progress: func(p engine.Download) {
			fmt.Fprintf(os.Stderr, "%s: %d of %d bytes\n", p.File, p.Done, p.Total)
		},
		Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	}
	e, err := engine.Open(ctx, config)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Println("there is no ./my-model; taking builtin")
		config.Model = weights.Builtin
		e, err = engine.Open(ctx, config)
	}
	cancel()
	if err != nil {
		log.Fatal(err)
	}
	info := e.Info()
	fmt.Println(info.Model, info.MaxLength, info.Activation)
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// there is no ./my-model; taking builtin
	// builtin 256 sigmoid
}

func ExampleEngine_Rerank() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	documents := []string{
		"A command line calculator with arbitrary precision.",
		"An image editor for retouching photographs and drawing.",
	}
	ranking, err := e.Rerank(ctx, "edit photos", documents, engine.RerankOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range ranking.Items {
		fmt.Println(documents[item.Index])
	}
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// An image editor for retouching photographs and drawing.
	// A command line calculator with arbitrary precision.
}

// A document longer than the model's limit can be scored in parts; the best part
// counts. Explain finds its best sentence.
func ExampleEngine_Rerank_long() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin", MaxLength: 64})
	if err != nil {
		log.Fatal(err)
	}
	manual := strings.Repeat("The calculator works with numbers of any size. ", 10) +
		"Its plug-in for the image editor retouches photographs. " +
		strings.Repeat("It runs on every computer. ", 10)
	ranking, err := e.Rerank(ctx, "edit photos", []string{manual}, engine.RerankOptions{Long: engine.Passages, Explain: true})
	if err != nil {
		log.Fatal(err)
	}
	best := ranking.Items[0].Best
	fmt.Println(manual[best.Start:best.End])
	fmt.Println("parts scored:", ranking.Items[0].Passage.Count)
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Its plug-in for the image editor retouches photographs.
	// parts scored: 4
}

// Any number of goroutines may call Score; their pairs share batches.
func ExampleEngine_Score() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	result, err := e.Score(ctx, []engine.Pair{
		{Query: "edit photos", Document: "An image editor for retouching photographs."},
		{Query: "edit photos", Document: "A mail reader for the terminal."},
	})
	if err != nil {
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

// A queue limit bounds how long requests wait. A request that finds no room is
// refused at once, without executing any part, and can be retried. A request
// larger than the whole queue never fits.
func ExampleEngine_Score_overloaded() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin", QueueTokens: 100})
	if err != nil {
		log.Fatal(err)
	}
	pair := engine.Pair{Query: "edit photos", Document: "An image editor for retouching photographs."}

	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for wait := time.Millisecond; ; wait *= 2 {
				_, err := e.Score(ctx, []engine.Pair{pair})
				if !errors.Is(err, engine.ErrOverloaded) {
					if err != nil {
						log.Fatal(err)
					}
					return
				}
				time.Sleep(wait)
			}
		})
	}
	callers.Wait()
	fmt.Println("requests answered:", e.Stats().Requests)

	_, err = e.Score(ctx, []engine.Pair{pair, {Query: pair.Query, Document: strings.Repeat("photo ", 100)}})
	fmt.Println("is too large:", errors.Is(err, engine.ErrTooLarge))
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// requests answered: 8
	// is too large: true
}

// Score returns at once when its context ends.
func ExampleEngine_Score_cancelled() {
	e, err := engine.Open(context.Background(), engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	pairs := make([]engine.Pair, 1000)
	for i := range pairs {
		pairs[i] = engine.Pair{Query: "edit photos", Document: fmt.Sprintf("%d %s", i, strings.Repeat("photo ", 400))}
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = e.Score(ctx, pairs)
	fmt.Println(errors.Is(err, context.Canceled))
	if err := e.Close(); err != nil { // waits only for the running batches
		log.Fatal(err)
	}
	_, err = e.Score(context.Background(), pairs)
	fmt.Println(errors.Is(err, engine.ErrClosed))
	// Output:
	// true
	// true
}

// Tokenize shows which tokens a model receives for a pair.
func ExampleEngine_Tokenize() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := e.Tokenize(ctx, []engine.Pair{{Query: "edit photos", Document: "An image editor."}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tokens[0].IDs)
	fmt.Println(tokens[0].TypeIDs)
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// [101 10086 7760 102 2019 3746 3559 1012 102]
	// [0 0 0 0 1 1 1 1 1]
}

// A file too large for memory can be scored in chunks. While one chunk executes,
// the next is read. Results arrive in order, each with its chunk.
func ExampleStream() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Model: "builtin"})
	if err != nil {
		log.Fatal(err)
	}
	type chunk struct {
		from  int // line of its first pair
		pairs []engine.Pair
	}
	read := func(yield func(chunk, error) bool) { // stands for the reader of the file
		for from := 1; from < 7; from += 2 {
			c := chunk{from: from}
			for line := from; line < from+2; line++ {
				c.pairs = append(c.pairs, engine.Pair{Query: "edit photos", Document: fmt.Sprintf("document %d", line)})
			}
			if !yield(c, nil) {
				return
			}
		}
	}
	for scored, err := range engine.Stream(ctx, e, read, func(c chunk) []engine.Pair { return c.pairs }) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("line %d: %d scores\n", scored.Chunk.from, len(scored.Scores))
	}
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// line 1: 2 scores
	// line 3: 2 scores
	// line 5: 2 scores
}
