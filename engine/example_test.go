package engine_test

import (
	"context"
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
