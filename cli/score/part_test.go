package score

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
)

// scoreParts scores each part of an input and returns the files of the parts.
func scoreParts(t *testing.T, dir string, n int, suffix string, args ...string) []string {
	t.Helper()
	files := make([]string, n)
	for i := range files {
		files[i] = filepath.Join(dir, fmt.Sprintf("part%d%s", n-i, suffix)) // the order is not the order of names
		mlxrank.MustRun(t, "", append(args, "--part", fmt.Sprintf("%d/%d", i+1, n), "--output", files[i], "--quiet")...)
	}
	return files
}

// badLines puts blank lines and lines that cannot be scored between lines.
func badLines(lines string) string {
	var b strings.Builder
	for i, line := range strings.SplitAfter(lines, "\n") {
		if i%3 == 1 {
			b.WriteString("\n{bad}\n")
		}
		b.WriteString(line)
	}
	return b.String()
}

// TestScoreParts checks that merged parts are byte for byte the output of one run.
func TestScoreParts(t *testing.T) {
	model, dir := quickModel(t), t.TempDir()
	write := func(name, text string) string { return writePacked(t, filepath.Join(dir, name), text) }
	queries, documents := write("queries", testQueries), write("documents", testDocuments)
	texts := []string{"--queries", queries, "--documents", documents}
	skip := []string{"--on-error", "skip"}
	csv := []string{"--fields", "title,body", "--query-fields", "question"}
	table := writeParquet(t, filepath.Join(dir, "pairs.parquet"), testPairs(10))
	for _, test := range []struct {
		name, input, suffix string
		flags               []string
	}{
		{"JSONL", write("jsonl", badLines(clitest.PairLines(9))), "", skip},
		{"JSONL, packed", write("jsonl.zst", badLines(clitest.PairLines(9))), ".zst", skip},
		{"TSV", write("pairs.tsv", "\n\n\nquery\tdocument\r\ncity\tone\r\nbad\nwater\ttwo\n\n\ndata\tthree"), "", append(skip, "--header")},
		{"MS MARCO", write("top.tsv", msmarcoLines(9)), "", nil},
		{"MS MARCO to a run", write("top2.tsv.gz", otherQueries(msmarcoLines(9))), "", append(skip, "--output-format", "trec", "--run-tag", "mine")},
		{"a run", write("bm25.run", testRun), "", texts},
		{"CSV", write("pairs.csv", csvLines(9)), "", csv},
		{"CSV to a run", write("more.csv", csvLines(9)), ".gz", append(csv, "--output-format", "trec")},
		{"Parquet", table, "", []string{"--query-fields", "question", "--fields", "body"}},
		{"nothing", write("none.jsonl", ""), "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"score", "--model", model, "--input", test.input}, test.flags...)
			want := mlxrank.MustRun(t, "", append(args, "--output", "-")...).Out
			merge := []string{"score", "merge"}
			if test.input == table {
				merge = append(merge, "--input", table)
			}
			counts := []int{3}
			if !testing.Short() && slices.Contains([]string{"JSONL", "CSV", "a run"}, test.name) {
				counts = []int{1, 3, 16} // 16 are more than there are lines
			}
			for _, n := range counts {
				dir := t.TempDir()
				files := scoreParts(t, dir, n, test.suffix, args...)
				r := mlxrank.MustRun(t, "", append(append(merge, "--output", "-"), files...)...)
				if r.Out != want {
					t.Errorf("%d parts: got\n%.2000q\nwant\n%.2000q", n, r.Out, want)
				}
				packed := filepath.Join(dir, "merged.gz")
				if test.input == table {
					packed = filepath.Join(dir, "merged.parquet")
				}
				mlxrank.MustRun(t, "", append(append(merge, "--quiet", "--output", packed), files...)...)
				if got := readPacked(t, packed); got != want {
					t.Errorf("%d parts: the file has %.2000q", n, got)
				}
			}
		})
	}
}

// TestScorePartsOfPipe scores the parts of a pipe, to a pipe.
func TestScorePartsOfPipe(t *testing.T) {
	model, dir, lines := quickModel(t), t.TempDir(), clitest.PairLines(5)
	args := []string{"score", "--model", model, "--input", "-", "--output", "-"}
	files := make([]string, 2)
	for i := range files {
		r := mlxrank.MustRun(t, lines, append(args, "--part", fmt.Sprintf("%d/2", i+1))...)
		files[i] = clitest.WriteFile(t, filepath.Join(dir, fmt.Sprint(i)), r.Out)
	}
	want, got := mlxrank.MustRun(t, lines, args...), mlxrank.MustRun(t, "", append([]string{"score", "merge", "--output", "-"}, files...)...)
	if got.Out != want.Out {
		t.Errorf("got\n%s\nwant\n%s", got.Out, want.Out)
	}
}

// TestScorePartsOfChunks checks that the parts of the unfused graph, where the last bits
// of a score depend on its batch, have the scores of one run. Each chunk is one batch, since
// smaller batches form by the time that tokenization takes.
func TestScorePartsOfChunks(t *testing.T) {
	t.Setenv("MLXRANK_UNFUSED_GRAPH", "1")
	model, dir := quickModel(t), t.TempDir()
	args := []string{"score", "--model", model, "--input", clitest.WriteFile(t, filepath.Join(dir, "in"), clitest.PairLines(3*chunkRecords+5)),
		"--max-batch", "4096", "--max-batch-tokens", "1000000", "--microbatch-tokens", "1000000"}
	want := mlxrank.MustRun(t, "", append(args, "--output", "-", "--quiet")...)
	files := scoreParts(t, dir, 3, "", args...)
	got := mlxrank.MustRun(t, "", append([]string{"score", "merge", "--output", "-"}, files...)...)
	if got.Out != want.Out {
		t.Error("the merged output differs")
	}
	for i, file := range files[:2] {
		if n := strings.Count(readPacked(t, file), "\n") - 1; n%chunkRecords != 0 || n == 0 {
			t.Errorf("part %d has %d lines, which are no whole chunks", i+1, n)
		}
	}
}

// TestScorePartErrors checks that lines in errors are lines of the whole input, and that
// a part finds an id with two texts.
func TestScorePartErrors(t *testing.T) {
	model, dir := quickModel(t), t.TempDir()
	lines := clitest.WriteFile(t, filepath.Join(dir, "in.jsonl"), clitest.PairLines(8)+"{}\n")
	// On a GPU, all of these lines are one chunk, and one part.
	args := []string{"score", "--model", model, "--device", "cpu", "--input", lines, "--output", filepath.Join(dir, "out"), "--part"}
	clitest.CheckFailure(t, mlxrank.Run(t, "", append(args, "3/3")...), command.ExitFailure, "in.jsonl: line 9:")
	mlxrank.MustRun(t, "", append(args, "1/3")...)
	other := clitest.WriteFile(t, filepath.Join(dir, "ids"), otherQueries(msmarcoLines(12)))
	run := []string{"score", "--model", model, "--device", "cpu", "--input", other, "--output", filepath.Join(dir, "out"), "--output-format", "trec"}
	whole := mlxrank.Run(t, "", run...)
	clitest.CheckFailure(t, whole, command.ExitFailure, "different query in line 3")
	for n, fails := range map[int]bool{1: false, 2: true} {
		r := mlxrank.Run(t, "", append(run, "--part", fmt.Sprintf("%d/2", n))...)
		if fails && r.ErrOut != whole.ErrOut || !fails && r.Status != command.ExitOK {
			t.Errorf("part %d: status %d: %s\nwant %s", n, r.Status, r.ErrOut, whole.ErrOut)
		}
	}
	for _, part := range []string{"0/3", "4/3", "x", ""} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", append(args, part)...), command.ExitUsage, "--part", "expected")
	}
}

// TestScorePartResumes interrupts a part after a checkpoint and continues it.
func TestScorePartResumes(t *testing.T) {
	defer func(every string) { scored.CheckpointEvery = every }(scored.CheckpointEvery)
	scored.CheckpointEvery = "0s"
	model, dir := quickModel(t), t.TempDir()
	in := clitest.WriteFile(t, filepath.Join(dir, "in"), clitest.PairLines(20*chunkRecords))
	args := []string{"score", "--model", model, "--input", in, "--part", "2/2"}
	want, out := filepath.Join(dir, "want.zst"), filepath.Join(dir, "out.zst")
	mlxrank.MustRun(t, "", append(args, "--output", want)...)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			if _, err := os.Stat(out + scored.StateSuffix); err == nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	r := mlxrank.RunContext(ctx, t, strings.NewReader(""), append(args, "--output", out)...)
	clitest.CheckFailure(t, r, command.ExitInterrupted, "finished work", "--resume")
	other := mlxrank.Run(t, "", append(args[:len(args)-1:len(args)-1], "1/2", "--output", out, "--resume")...)
	clitest.CheckFailure(t, other, command.ExitFailure, "--part was 2/2 and is 1/2")
	r = mlxrank.MustRun(t, "", append(args, "--output", out, "--resume")...)
	if !strings.Contains(r.ErrOut, "resumed   after ") || readPacked(t, out) != readPacked(t, want) {
		t.Errorf("the part differs, or did not resume:\n%s", r.ErrOut)
	}
}
