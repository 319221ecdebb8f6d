package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestSummary shows the summary as the flags ask for it, in score and in rerank.
func TestSummary(t *testing.T) {
	model := clitest.TinyModel(t)
	score := []string{"score", "--model", model, "--input", "-", "--output", filepath.Join(t.TempDir(), "out")}
	rerank := []string{"rerank", "--model", model, "--query", "city", "--documents", "-"}
	for _, args := range [][]string{score, rerank} {
		for flags, want := range map[string]string{
			"":                                      "text",
			"--quiet":                               "",
			"--quiet --log-format json":             "",
			"--log-level error":                     "",
			"--log-level error --log-format json":   "",
			"--log-format json":                     "json",
			"--log-level warn --log-format json":    "json",
			"--log-level info --log-format console": "text",
		} {
			got := mlxrank.MustRun(t, clitest.PairLines(3), append(args, strings.Fields(flags)...)...).ErrOut
			switch want {
			case "":
				if got != "" {
					t.Errorf("%s %s: standard error has %q", args[0], flags, got)
				}
			case "text":
				if !strings.Contains(got, "\npairs     3 (") {
					t.Errorf("%s %s: no summary: %q", args[0], flags, got)
				}
			default:
				checkSummaryEvent(t, args[0]+" "+flags, got)
			}
		}
	}
	// Errors stay.
	clitest.CheckFailure(t, mlxrank.Run(t, "{", append(score, "--quiet")...), command.ExitFailure, "line 1")
}

func checkSummaryEvent(t *testing.T, name, line string) {
	t.Helper()
	var event struct {
		Level, Time, Message, Model string
		Pairs                       int
		LatencyMS                   float64 `json:"latency_ms"`
	}
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		t.Fatalf("%s: %q: %v", name, line, err)
	}
	if event.Level != "info" || event.Message != "summary" || event.Time == "" || event.Pairs != 3 || event.Model == "" || event.LatencyMS <= 0 {
		t.Errorf("%s: %q", name, line)
	}
}
