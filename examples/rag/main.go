// Command rag answers a question the way retrieval-augmented generation begins:
// BM25 finds passages that share words with it, the cross-encoder puts those that
// answer it first, and the best become part of a prompt for a language model.
//
//	go run . "speed up the start of applications"
//
// The prompt goes to standard output, for the model of your choice; how the
// ranking changed goes to standard error.
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

// descriptions are those of 500 Debian packages, in JSON Lines.
//
//go:embed passages.jsonl
var descriptions []byte

// A passage is what is found and quoted: a text short enough for the
// cross-encoder to see all of it, and where it is from.
type passage struct {
	Package string `json:"package"`
	Text    string `json:"text"`
}

// settings say how much is looked at and how much is quoted.
type settings struct {
	model      string
	candidates int // of BM25, to be ranked by the cross-encoder
	quoted     int // of these, in the prompt
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

// run is the pipeline. A service would open index and engine once, for all its
// questions.
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

// A hit is a passage that was found, with what the two stages say of it.
type hit struct {
	passage int     // its number
	place   int     // among BM25's, from 1
	score   float32 // of the cross-encoder
}

// rerank returns the n of what BM25 found that the cross-encoder scores highest,
// best first.
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
		hits[i] = hit{passage: found[item.Index], place: item.Index + 1, score: item.Score}
	}
	return hits, nil
}

// printChange says where BM25 had put what is now at the top.
func printChange(w io.Writer, passages []passage, ranked []hit, found int) error {
	if _, err := fmt.Fprintf(w, "of %d passages that BM25 found:\nnow  BM25   score  passage\n", found); err != nil {
		return err
	}
	for i, h := range ranked {
		if _, err := fmt.Fprintf(w, "%3d  %4d  %.4f  %s\n", i+1, h.place, h.score, passages[h.passage].Package); err != nil {
			return err
		}
	}
	return nil
}

// prompt asks for an answer by the passages alone, with their names as sources.
// Where nothing was found it says so, for the model not to make an answer up.
func prompt(passages []passage, ranked []hit, question string) string {
	var b strings.Builder
	b.WriteString("Answer the question by these passages alone, and name those you used in brackets. " +
		"If they do not answer it, say so.\n\n")
	if len(ranked) == 0 {
		b.WriteString("(No passage was found.)\n\n")
	}
	for _, h := range ranked {
		fmt.Fprintf(&b, "[%s] %s\n\n", passages[h.passage].Package, passages[h.passage].Text)
	}
	fmt.Fprintf(&b, "Question: %s\n", question)
	return b.String()
}
