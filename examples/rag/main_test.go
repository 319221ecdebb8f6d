package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/blevesearch/bleve/v2"
)

func loaded(t *testing.T) []passage {
	t.Helper()
	passages, err := readPassages(bytes.NewReader(descriptions))
	if err != nil || len(passages) != 500 {
		t.Fatalf("%d passages, %v", len(passages), err)
	}
	return passages
}

// TestRun asks for passages that BM25 ranks low, below passages that share common
// words with the question.
func TestRun(t *testing.T) {
	t.Parallel()
	passages := loaded(t)
	for _, test := range []struct{ question, best, change string }{
		{"speed up the start of applications", "preload", "  1    30  0.1"},
		{"monitor changes to configuration files", "libfile-modified-perl", "  1    12  0.8"},
	} {
		var out, facts strings.Builder
		if err := run(t.Context(), &out, &facts, passages, test.question, settings{"builtin", 50, 3}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(facts.String(), "\n")
		if len(lines) != 6 || !strings.HasPrefix(lines[0], "of 50 passages") || !strings.HasPrefix(lines[2], test.change) || !strings.HasSuffix(lines[2], "  "+test.best) {
			t.Errorf("%s:\n%s", test.question, facts.String())
		}
		paragraphs := strings.Split(out.String(), "\n\n")
		if len(paragraphs) != 5 || !strings.HasPrefix(paragraphs[1], "["+test.best+"] ") || paragraphs[4] != "Question: "+test.question+"\n" {
			t.Errorf("%s: prompt of %d paragraphs\n%s", test.question, len(paragraphs), out.String())
		}
	}
}

func TestNothingFound(t *testing.T) {
	t.Parallel()
	var out, facts strings.Builder
	if err := run(t.Context(), &out, &facts, loaded(t), "xyzzy", settings{"builtin", 50, 3}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "No passage was found") || !strings.HasPrefix(facts.String(), "of 0 passages") {
		t.Errorf("prompt:\n%s\nfacts:\n%s", out.String(), facts.String())
	}
}

// TestScoredByBM25 checks bleve's explanation of a score.
func TestScoredByBM25(t *testing.T) {
	t.Parallel()
	index, err := newIndex(loaded(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := index.Close(); err != nil {
			t.Error(err)
		}
	}()
	request := bleve.NewSearchRequestOptions(bleve.NewMatchQuery("calendar"), 1, 0, true)
	result, err := index.SearchInContext(t.Context(), request)
	if err != nil || len(result.Hits) != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	if text := result.Hits[0].Expl.String(); !strings.Contains(text, "as per bm25 model") {
		t.Errorf("not scored by BM25:\n%s", text)
	}
	found, err := search(t.Context(), index, `"calendar +-~*:( for phone`, 5)
	if err != nil || len(found) != 5 {
		t.Errorf("a question that is not a valid query: %v, %v", found, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	passages := loaded(t)
	ended, end := context.WithCancel(t.Context())
	end()
	var out strings.Builder
	if err := run(ended, &out, &out, passages, "calendar", settings{"builtin", 50, 3}); !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("interrupted: %v, %q", err, out.String())
	}
	if err := run(t.Context(), &out, &out, passages, "calendar", settings{"./none", 50, 3}); err == nil || !strings.Contains(err.Error(), "./none") {
		t.Errorf("no such model: %v", err)
	}
	if _, err := readPassages(strings.NewReader(`{"package": "a", "text": "b"} {"pack`)); err == nil || !strings.Contains(err.Error(), "passage 1") {
		t.Errorf("cut off: %v", err)
	}
}
