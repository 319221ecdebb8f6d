package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// TestErrorsNameText checks that an error names the flag, the argument or the line of
// a text, and never the engine's index.
func TestErrorsNameText(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	file := weightstest.Tokenizer(1000)
	file["added_tokens"] = append(file["added_tokens"].([]map[string]any), map[string]any{
		"id": 1000, "content": "[QRY]", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
	})
	weightstest.WriteJSON(t, filepath.Join(model, "tokenizer.json"), file)
	write := func(name, text string) string { return clitest.WriteFile(t, filepath.Join(dir, name), text) }
	lines := write("docs.txt", "a city\n\na [QRY] river\n")
	array := write("docs.json", `["a city", "a [QRY] river"]`)
	pairs := write("pairs.tsv", "city\ta city\ncity\ta [QRY] river\n")
	queries := write("queries.tsv", "city\ta city\nthe [QRY] city\ta river\n")
	for _, test := range []struct {
		name  string
		args  []string
		place string
	}{
		{"argument", []string{"rerank", "--query", "city", "a city", "a [QRY] river"}, "argument 2: "},
		{"query", []string{"rerank", "--query", "[QRY]", "a city", "a river"}, "--query: "},
		{"line", []string{"rerank", "--query", "city", "--documents", lines}, lines + ": line 3: "},
		{"line, in passages", []string{"rerank", "--query", "city", "--documents", lines, "--long", "passages"}, lines + ": line 3: "},
		{"item", []string{"rerank", "--query", "city", "--documents", array}, array + ": item 2: "},
		{"scored line", []string{"score", "--input", pairs, "--output", "-"}, pairs + ": line 2: "},
		{"scored query", []string{"score", "--input", queries, "--output", "-"}, queries + ": line 2: the query: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := mlxrank.Run(t, "", append(test.args, "--model", model)...)
			clitest.CheckFailure(t, r, command.ExitFailure, test.place+"engine: text cannot be tokenised: it contains the token")
			if strings.Contains(r.ErrOut, "pair ") {
				t.Errorf("the engine's index is told: %s", r.ErrOut)
			}
		})
	}
	r := mlxrank.Run(t, "", "tokenize", "--input", pairs, "--model", model)
	clitest.CheckFailure(t, r, command.ExitFailure, pairs+": line 2: engine: text cannot be tokenised: it contains the token")
}
