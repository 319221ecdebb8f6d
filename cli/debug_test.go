package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func TestDebugActivations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pair.safetensors")
	pair := []string{"debug", "activations", "--model", clitest.TinyModel(t), "--query", "q", "--document", "d"}
	if r := mlxrank.Run(t, "", append(pair, "--output", path)...); r.Status != 0 || r.Out != "" {
		t.Errorf("status %d, output %q: %s", r.Status, r.Out, r.ErrOut)
	}
	if file, err := os.ReadFile(path); err != nil || !strings.Contains(string(file), `"encoder.layer.0.attention"`) {
		t.Errorf("%d bytes without a layer's activations: %v", len(file), err)
	}
	if r := mlxrank.Run(t, "", pair...); r.Status != command.ExitUsage || !strings.Contains(r.ErrOut, "output") {
		t.Errorf("without --output: status %d, %s", r.Status, r.ErrOut)
	}
}
