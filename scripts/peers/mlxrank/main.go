// Command mlxrank answers the driver of the comparison (scripts/peers) for the
// engine: lines of JSON in, lines of JSON out, as protocol.py describes them.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

type request struct {
	Op    string `json:"op"`
	Pairs string `json:"pairs"`
}

func main() {
	cfg := engine.Config{Activation: "raw"}
	flag.StringVar(&cfg.Model, "model", "", "score with the model in this directory")
	flag.StringVar((*string)(&cfg.DType), "dtype", "float32", "compute in this type")
	flag.StringVar((*string)(&cfg.Device), "device", "cpu", "compute on this device")
	flag.StringVar(&cfg.Library, "library", "", "path of libmlxrank")
	flag.Parse()
	if err := serve(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "peers: mlxrank:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, cfg engine.Config) error {
	e, err := engine.Open(ctx, cfg)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]any{"ready": true, "kernels": e.Info().Kernels, "dtype": e.Info().DType}); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, err := answer(ctx, e, in.Bytes())
		if err != nil {
			return err
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return e.Close()
}

func answer(ctx context.Context, e *engine.Engine, line []byte) (any, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	switch r.Op {
	case "score":
		var texts [][2]string
		if err := read(r.Pairs, &texts); err != nil {
			return nil, err
		}
		seconds, logits, err := score(ctx, e, texts)
		return map[string]any{"seconds": seconds, "logits": logits}, err
	case "requests":
		var requests [][][2]string
		if err := read(r.Pairs, &requests); err != nil {
			return nil, err
		}
		all := make([]float64, 0, len(requests))
		for _, texts := range requests {
			seconds, _, err := score(ctx, e, texts)
			if err != nil {
				return nil, err
			}
			all = append(all, seconds)
		}
		return map[string]any{"seconds": all}, nil
	}
	return nil, fmt.Errorf("a request %q, which no subject knows", r.Op)
}

func score(ctx context.Context, e *engine.Engine, texts [][2]string) (float64, []float32, error) {
	pairs := make([]engine.Pair, len(texts))
	for i, t := range texts {
		pairs[i] = engine.Pair{Query: t[0], Document: t[1]}
	}
	start := time.Now()
	result, err := e.Score(ctx, pairs)
	if err != nil {
		return 0, nil, err
	}
	return time.Since(start).Seconds(), result.Logits, nil
}

func read(path string, to any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}
