// Command rag answers a question the way retrieval-augmented generation begins:
// BM25 finds passages that share words with it, the cross-encoder puts those that
// answer it first, and the best become part of a prompt for a language model.
//
//	go run . "speed up the start of applications"
//
// The prompt goes to standard output, for the model of your choice. The change of
// the ranking goes to standard error.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
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

// descriptions holds the descriptions of 500 Debian packages, in JSON Lines.
//
//go:embed passages.jsonl
var descriptions []byte

// A passage is a text to find and quote, with its source. It is short enough for
// the cross-encoder to read all of it.
type passage struct {
	Package string `json:"package"`
	Text    string `json:"text"`
}

// settings holds the model and the numbers of passages.
type settings struct {
	model      string
	candidates int // passages that BM25 finds and the cross-encoder ranks
	quoted     int // passages in the prompt
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var s settings
	flag.StringVar(&s.model, "model", "builtin", "`model` to rank with: builtin, a directory, or an id of the Hugging Face hub")
	flag.IntVar(&s.candidates, "candidates", 50, "passages that BM25 finds")
	flag.IntVar(&s.quoted, "quoted", 4, "passages that the prompt quotes")
	flag.Parse()
	if flag.NArg() != 1 || s.candidates < 1 || s.quoted < 1 {
		fmt.Fprintln(os.Stderr, `usage: rag [--model MODEL] [--candidates N] [--quoted N] "QUESTION"`)
		os.Exit(2)
	}
	passages, err := readPassages(bytes.NewReader(descriptions))
	if err == nil {
		err = run(ctx, os.Stdout, os.Stderr, passages, flag.Arg(0), s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rag:", err)
		os.Exit(1)
	}
}

func readPassages(r io.Reader) ([]passage, error) {
	var passages []passage
	for decoder := json.NewDecoder(r); ; {
		var p passage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return passages, nil
		}
		if err != nil {
			return nil, fmt.Errorf("passage %d: %w", len(passages), err)
		}
		passages = append(passages, p)
	}
}

// run runs the pipeline for one question. A service would open the index and the
// engine once.
func run(ctx context.Context, out, facts io.Writer, passages []passage, question string, s settings) (err error) {
	index, err := newIndex(passages)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer func() { err = errors.Join(err, index.Close()) }()
	e, err := engine.Open(ctx, engine.Config{Model: s.model})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	found, err := search(ctx, index, question, s.candidates)
	if err != nil {
		return err
	}
	ranked, err := rerank(ctx, e, passages, found, question, s.quoted)
	if err != nil {
		return err
	}
	if err := printChange(facts, passages, ranked, len(found)); err != nil {
		return err
	}
	_, err = io.WriteString(out, prompt(passages, ranked, question))
	return err
}

// A hit is a passage that was found, with the results of both stages.
type hit struct {
	passage int     // index of the passage
	rank    int     // in the results of BM25, from 1
	score   float32 // from the cross-encoder
}

// rerank returns the n found passages with the highest scores from the
// cross-encoder, best first.
func rerank(ctx context.Context, e *engine.Engine, passages []passage, found []int, question string, n int) ([]hit, error) {
	texts := make([]string, len(found))
	for i, number := range found {
		texts[i] = passages[number].Text
	}
	ranking, err := e.Rerank(ctx, question, texts, engine.RerankOptions{TopN: n})
	if err != nil {
		return nil, fmt.Errorf("rerank: %w", err)
	}
	hits := make([]hit, len(ranking.Items))
	for i, item := range ranking.Items {
		hits[i] = hit{passage: found[item.Index], rank: item.Index + 1, score: item.Score}
	}
	return hits, nil
}

// printChange prints the best passages with their ranks in the results of BM25.
func printChange(w io.Writer, passages []passage, ranked []hit, found int) error {
	if _, err := fmt.Fprintf(w, "of %d passages that BM25 found:\nnow  BM25   score  passage\n", found); err != nil {
		return err
	}
	for i, h := range ranked {
		if _, err := fmt.Fprintf(w, "%3d  %4d  %.4f  %s\n", i+1, h.rank, h.score, passages[h.passage].Package); err != nil {
			return err
		}
	}
	return nil
}

// prompt returns a prompt that asks for an answer from the passages alone, with
// their names as sources. It states when no passage was found, so that the model
// does not invent an answer.
func prompt(passages []passage, ranked []hit, question string) string {
	var b strings.Builder
	b.WriteString("Answer the question from these passages alone, and name the passages you used in brackets. " +
		"If they do not answer it, reply that they do not.\n\n")
	if len(ranked) == 0 {
		b.WriteString("(No passage was found.)\n\n")
	}
	for _, h := range ranked {
		fmt.Fprintf(&b, "[%s] %s\n\n", passages[h.passage].Package, passages[h.passage].Text)
	}
	fmt.Fprintf(&b, "Question: %s\n", question)
	return b.String()
}
