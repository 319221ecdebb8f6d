package weights

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestDocs checks that docs/user/models.md lists the architectures, the poolings and the
// activations that the tables of this package have.
func TestDocs(t *testing.T) {
	t.Parallel()
	text := string(readFile(t, filepath.Join("..", "docs", "user", "models.md")))
	rows := strings.Count(text[strings.Index(text, "### Architectures"):strings.Index(text, "### Modules")], "\n| `")
	if want := len(architectures) + 1; rows != want { // and the head of the table
		t.Errorf("%d rows, want %d", rows, want)
	}
	for _, a := range architectures {
		row := "| `" + a.modelType + "` | `" + a.classifier + "` | `" + strings.Join(a.encoders, "`, `") + "` | " + string(a.positions) + " |\n"
		if !strings.Contains(text, row) {
			t.Errorf("lacks %s", row)
		}
	}
	var modes []string
	for _, mode := range poolingModes {
		modes = append(modes, "`"+mode.name+"`")
	}
	functions := sortedKeys(moduleActivations)
	last := len(functions) - 1
	for _, list := range []string{strings.Join(modes, ", "), strings.Join(functions[:last], ", ") + " or " + functions[last] + " of torch.nn"} {
		if !strings.Contains(text, list) {
			t.Errorf("lacks %s", list)
		}
	}
}
