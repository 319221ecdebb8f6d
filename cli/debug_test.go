package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDebugActivations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pair.safetensors")
	pair := []string{"debug", "activations", "--model", tinyModel(t), "--query", "q", "--document", "d"}
	if r := mlxrank.run(t, "", append(pair, "--output", path)...); r.status != 0 || r.out != "" {
		t.Errorf("status %d, output %q: %s", r.status, r.out, r.errOut)
	}
	if file, err := os.ReadFile(path); err != nil || !strings.Contains(string(file), `"encoder.layer.0.attention"`) {
		t.Errorf("%d bytes without a layer's activations: %v", len(file), err)
	}
	if r := mlxrank.run(t, "", pair...); r.status != exitUsage || !strings.Contains(r.errOut, "output") {
		t.Errorf("without --output: status %d, %s", r.status, r.errOut)
	}
}
