// Command rerank reads passages, one per line, and prints the best answers to a
// query, best first.
//
//	go run ./examples/rerank --model builtin "resize photos" <passages.txt
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mlxrank/mlxrank/engine"
)

func main() {
	// The first signal ends the context and the work. It also calls stop, which
	// restores the default: a second signal ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	model := flag.String("model", "builtin", "`model` to score with: builtin, a directory, or an id of the Hugging Face hub")
	top := flag.Int("top", 10, "number of passages to print, 0 for all")
	flag.Parse()
	if flag.NArg() != 1 || flag.Arg(0) == "" || *top < 0 {
		fmt.Fprintln(os.Stderr, `usage: rerank [--model MODEL] [--top N] "QUERY" <passages.txt`)
		os.Exit(2)
	}
	if err := run(ctx, os.Stdin, os.Stdout, *model, flag.Arg(0), *top); err != nil {
		fmt.Fprintln(os.Stderr, "rerank:", err)
		os.Exit(1)
	}
}

// run ranks the lines of in. It always closes the engine: Close waits for running
// work and frees the model.
func run(ctx context.Context, in io.Reader, out io.Writer, model, query string, top int) (err error) {
	passages, err := readLines(in)
	if err != nil {
		return fmt.Errorf("read passages: %w", err)
	}
	if len(passages) == 0 {
		return errors.New("no passages on standard input; give one per line")
	}
	e, err := engine.Open(ctx, engine.Config{Model: model})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	ranking, err := e.Rerank(ctx, query, passages, engine.RerankOptions{TopN: top})
	if errors.Is(err, engine.ErrTooLarge) {
		return fmt.Errorf("too many passages for one call: %d; use engine.Stream: %w", len(passages), err)
	}
	if err != nil {
		return err
	}
	for _, item := range ranking.Items {
		if _, err := fmt.Fprintf(out, "%.4f\t%s\n", item.Score, passages[item.Index]); err != nil {
			return err
		}
	}
	return nil
}

// readLines returns the lines that are not blank. Lines may have any length.
func readLines(in io.Reader) ([]string, error) {
	var lines []string
	for r := bufio.NewReader(in); ; {
		line, err := r.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
