package score

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
)

// TestScoreKeepsInput checks that an input whose name has a suffix of ours stays.
func TestScoreKeepsInput(t *testing.T) {
	model := quickModel(t)
	for _, suffix := range suffixes {
		dir := t.TempDir()
		output := filepath.Join(dir, "out")
		input := clitest.WriteFile(t, output+suffix, clitest.PairLines(3))
		r := mlxrank.Run(t, "", "score", "--model", model, "--input", input, "--output", output)
		clitest.CheckFailure(t, r, command.ExitUsage, input, "name another")
		clitest.CheckDir(t, dir, map[string]string{filepath.Base(input): clitest.PairLines(3)})
	}
	// A file that is not a state is not removed, even if it is not an input.
	dir := t.TempDir()
	output := filepath.Join(dir, "out")
	clitest.WriteFile(t, output+stateSuffix, "notes")
	r := mlxrank.Run(t, clitest.PairLines(3), "score", "--model", model, "--input", "-", "--output", output)
	clitest.CheckFailure(t, r, command.ExitFailure, output+stateSuffix, "remove it")
	if got, err := os.ReadFile(output + stateSuffix); err != nil || string(got) != "notes" {
		t.Errorf("it became %q, %v", got, err)
	}
}

// TestScoreLongNames checks that a name without room for the suffixes is refused
// before scoring, and that the longest name with room is accepted.
func TestScoreLongNames(t *testing.T) {
	model := quickModel(t)
	const most = 255
	for length, ok := range map[int]bool{most - len(newSuffix): true, most - len(newSuffix) + 1: false, most: false, most + 1: false} {
		output := filepath.Join(t.TempDir(), strings.Repeat("x", length))
		r := mlxrank.Run(t, clitest.PairLines(3), "score", "--model", model, "--input", "-", "--output", output)
		switch {
		case ok && r.Status != command.ExitOK:
			t.Errorf("%d bytes: %s", length, r.ErrOut)
		case !ok:
			clitest.CheckFailure(t, r, command.ExitFailure, "name", "long")
		}
	}
}

// TestScoreResumeOtherGraph checks that a run does not resume with other kernels, so
// that one file never mixes the scores of both.
func TestScoreResumeOtherGraph(t *testing.T) {
	model := clitest.TinyModel(t)
	_, _, args := interruptedRun(t, t.TempDir(), model)
	t.Setenv("MLXRANK_UNFUSED_GRAPH", "1")
	clitest.CheckFailure(t, mlxrank.Run(t, clitest.PairLines(2*input.ChunkRecords+5), args...), command.ExitFailure, "cannot be resumed", "kernels was ", " and is MLX")
}
