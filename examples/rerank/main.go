// Command rerank reads passages, one a line, and prints them as they answer a
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
	// The first signal ends the context, and with it the work; a second one ends
	// the program, since stop gives signals their usual meaning back.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	model := flag.String("model", "builtin", "`model` to score with: builtin, a directory, or an id of the Hugging Face hub")
	top := flag.Int("top", 10, "print the best `n` passages, 0 for all")
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

// run ranks the lines of in. The engine is closed on every way out: Close waits
// for what is running and frees the model.
func run(ctx context.Context, in io.Reader, out io.Writer, model, query string, top int) (err error) {
	passages, err := readLines(in)
	if err != nil {
		return fmt.Errorf("read passages: %w", err)
	}
	if len(passages) == 0 {
		return errors.New("there are no passages to rank on standard input")
	}
	e, err := engine.Open(ctx, engine.Config{Model: model})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	ranking, err := e.Rerank(ctx, query, passages, engine.RerankOptions{TopN: top})
	if errors.Is(err, engine.ErrTooLarge) {
		return fmt.Errorf("%d passages are too many for one call; see engine.Stream: %w", len(passages), err)
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

// readLines reads the lines that are not blank, however long they are.
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
