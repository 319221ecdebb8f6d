package engine

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A token that was added to the tokenizer but not to the model has no embedding.
// Texts are refused only if the token is within the part that counts.
func TestTokenBeyondTheEmbeddings(t *testing.T) {
	dir := tinyDir(t, nil)
	e := openTinyEngine(t, Config{Model: dir})
	plain, err := e.Score(context.Background(), []Pair{{"what is new", "a program"}})
	if err != nil {
		t.Fatal(err)
	}
	file := weightstest.Tokenizer(1000)
	file["added_tokens"] = append(file["added_tokens"].([]map[string]any), map[string]any{
		"id": 1000, "content": "[QRY]", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
	})
	weightstest.WriteJSON(t, filepath.Join(dir, "tokenizer.json"), file)
	e = openTinyEngine(t, Config{Model: dir})
	score := func(document string) (*Result, error) {
		return e.Score(context.Background(), []Pair{{"what is new", document}})
	}
	got, err := score("a program")
	if err != nil || got.Logits[0] != plain.Logits[0] {
		t.Errorf("without the token: %v, %v; want %v", got.Logits, err, plain.Logits)
	}
	if _, err := score("a [QRY] program"); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), `"[QRY]" with the id 1000`) {
		t.Errorf("got %v, want ErrText that names the token", err)
	}
	if _, err := score(strings.Repeat("a program ", 100) + "[QRY]"); err != nil {
		t.Errorf("the token is cut off, yet: %v", err)
	}
	// The error has the index in the caller's list, even if there are equal pairs or
	// documents scored in parts, and names the text at fault.
	fault := func(err error) (int, bool) {
		t.Helper()
		var text *TextError
		if !errors.As(err, &text) || !errors.Is(err, ErrText) || strings.Contains(text.Err.Error(), "pair") {
			t.Fatalf("got %v, want a TextError whose reason has no index", err)
		}
		return text.Index, text.Query
	}
	long := strings.Repeat("a program. ", 100)
	documents := []string{"a", "a", long, "a [QRY] program"}
	for _, how := range []Long{Truncate, Passages} {
		_, err := e.Rerank(context.Background(), "what is new", documents, RerankOptions{Long: how})
		if i, query := fault(err); i != 3 || query {
			t.Errorf("%s: document %d (query: %v), want document 3", how, i, query)
		}
	}
	_, err = e.Score(context.Background(), []Pair{{"a", "b"}, {"a [QRY]", "b"}})
	if i, query := fault(err); i != 1 || !query {
		t.Errorf("pair %d (query: %v), want the query of pair 1", i, query)
	}
}
