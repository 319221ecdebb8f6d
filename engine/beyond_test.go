package engine

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A token that was added to the tokenizer, but not to the model, stops the texts
// that have it where it counts, and no others.
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
		t.Errorf("the token is cut off, but: %v", err)
	}
}
