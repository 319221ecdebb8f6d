package rerank

import (
	"reflect"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func TestQueryFromStandardInput(t *testing.T) {
	model := clitest.TinyModel(t)
	want := rerankJSON(t, "", "--model", model, "--query", "a city", "london", "paris")
	for _, stdin := range []string{"a city", "a city\n", "a city\r\n", "\uFEFFa city\n"} {
		got := rerankJSON(t, stdin, "--model", model, "--query", "-", "london", "paris")
		if got.Query != "a city" || !reflect.DeepEqual(got.Results[0], want.Results[0]) {
			t.Errorf("%q: query %q, first %+v, want %+v", stdin, got.Query, got.Results[0], want.Results[0])
		}
	}
	for stdin, words := range map[string][]string{
		"":                              {"no query"},
		"\t":                            {"no query"},
		"a\nb\n":                        {"2 lines", "one line", "mlxrank score"},
		"caf\xe9\n":                     {"not UTF-8"},
		strings.Repeat("a", maxQuery+1): {"more than 1048576 bytes"},
	} {
		clitest.CheckFailure(t, mlxrank.Run(t, stdin, "rerank", "--model", model, "--query", "-", "london"), command.ExitFailure, words...)
	}
}

// TestDocumentsNamedLikeFiles checks that arguments are documents unless all of them
// name files, and that file names from standard input are documents.
func TestDocumentsNamedLikeFiles(t *testing.T) {
	model := clitest.TinyModel(t)
	for _, args := range [][]string{{"run_test.go", "no such file"}, {"."}} {
		mlxrank.MustRun(t, "", append([]string{"rerank", "--model", model, "--query", "q"}, args...)...)
	}
	r := rerankJSON(t, "run_test.go\napp.go\n", "--model", model, "--query", "q", "--documents", "-")
	if len(r.Results) != 2 {
		t.Errorf("%d results, want 2", len(r.Results))
	}
}
