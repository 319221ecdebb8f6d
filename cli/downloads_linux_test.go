package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestInterruptDuringBar checks that the message of an interrupt has a separate line.
func TestInterruptDuringBar(t *testing.T) {
	text := clitest.Shown(t, func(w io.Writer) {
		s, _ := clitest.StartHub(t)
		s.Repos[clitest.HubModel].Files["config.json"] = []byte(`{"model_type":"llama"}`)
		if status := runProgram(t.Context(), []string{"mlxrank", "rerank", "--model", clitest.HubModel, "--query", "q", "d"}, command.Streams{Out: io.Discard, Err: w}); status != command.ExitFailure {
			t.Errorf("status %d", status)
		}
	})
	if before, message, ok := strings.Cut(text, "mlxrank: "); !ok || !strings.HasSuffix(before, "\x1b[2K\r") || !strings.Contains(message, "llama") {
		t.Errorf("got %q", text)
	}
}
