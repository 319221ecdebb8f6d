package score

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
)

// TestScoreKeepsInput checks that an input whose name has a suffix of ours stays.
func TestScoreKeepsInput(t *testing.T) {
	model := quickModel(t)
	for _, suffix := range scored.Suffixes {
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
	clitest.WriteFile(t, output+scored.StateSuffix, "notes")
	r := mlxrank.Run(t, clitest.PairLines(3), "score", "--model", model, "--input", "-", "--output", output)
	clitest.CheckFailure(t, r, command.ExitFailure, output+scored.StateSuffix, "remove it")
	if got, err := os.ReadFile(output + scored.StateSuffix); err != nil || string(got) != "notes" {
		t.Errorf("it became %q, %v", got, err)
	}
}

// TestScoreLongNames checks that a name without room for the suffixes is refused
// before scoring, and that the longest name with room is accepted.
func TestScoreLongNames(t *testing.T) {
	model := quickModel(t)
	const most = 255
	for length, ok := range map[int]bool{most - len(scored.Suffixes[0]): true, most - len(scored.Suffixes[0]) + 1: false, most: false, most + 1: false} {
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

// TestScorePlanted puts links and pipes where a run writes next to its output, and
// checks that the run does not follow, change or remove them.
func TestScorePlanted(t *testing.T) {
	model := quickModel(t)
	for _, suffix := range scored.Suffixes {
		for name, plant := range map[string]func(victim, path string) error{
			"symbolic link": os.Symlink,
			"hard link":     os.Link,
			"named pipe":    func(_, path string) error { return unix.Mkfifo(path, 0o666) },
		} {
			t.Run(name+suffix, func(t *testing.T) {
				dir := t.TempDir()
				victim := clitest.WriteFile(t, filepath.Join(dir, "victim"), "precious")
				output := filepath.Join(dir, "out")
				if err := plant(victim, output+suffix); err != nil {
					t.Fatal(err)
				}
				r := mlxrank.Run(t, msmarcoLines(5), "score", "--model", model, "--input", "-", "--format", "msmarco", "--output-format", "trec", "--output", output)
				if temporary := suffix != scored.PartialSuffix && suffix != scored.StateSuffix; temporary == (r.Status != command.ExitOK) {
					t.Errorf("status %d: %s", r.Status, r.ErrOut)
				}
				if r.Status != command.ExitOK {
					clitest.CheckFailure(t, r, command.ExitFailure, output+suffix, "remove it")
				}
				if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
					t.Errorf("the file that was linked to: %q, %v", got, err)
				}
			})
		}
	}
}
