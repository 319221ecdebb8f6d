package score

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

const chunkRecords = input.ChunkRecords

// quickModel writes a model that scores thousands of pairs in no time.
func quickModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(16, 2, 1), Seed: 7})
	return dir
}

// interruptAt runs a command whose standard input is text, and interrupts it after n
// bytes.
func interruptAt(t *testing.T, text string, n int, args ...string) clitest.Result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stdin := io.MultiReader(strings.NewReader(text[:n]), readerFunc(func([]byte) (int, error) {
		cancel()
		select {}
	}))
	return mlxrank.RunContext(ctx, t, stdin, args...)
}

// msmarcoLines returns n different pairs in MS MARCO's columns, with the pairs of
// different queries mixed.
func msmarcoLines(n int) string {
	var b strings.Builder
	for i, p := range testPairs(n) {
		fmt.Fprintf(&b, "%d\t%d\t%s\t%s\n", i%3, i, p.Query, p.Document)
	}
	return b.String()
}

// csvLines returns a table of a header row and n different pairs, with line ends and
// quotes in cells.
func csvLines(n int) string {
	var b strings.Builder
	b.WriteString("qid,question,docid,title,body\r\n")
	for i, p := range testPairs(n) {
		fmt.Fprintf(&b, "%d,%s,%d,\"a \"\"title\"\",\n\",%s\r\n", i%3, p.Query, i, p.Document)
	}
	return b.String()
}

// otherQueries replaces the query of id 2 in the second half of the lines.
func otherQueries(lines string) string {
	half := len(lines) / 2
	return lines[:half] + strings.ReplaceAll(lines[half:], "\tdata\t", "\tother\t")
}

// TestScoreResumes interrupts runs several times and checks that their output is the
// same as that of one run.
func TestScoreResumes(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	model := quickModel(t)
	lines := clitest.PairLines(3*chunkRecords + 5)
	for _, test := range []struct {
		name, text, output string
		flags              []string
	}{
		{"JSONL", lines, "out", nil},
		{"to gzip", lines, "out.gz", nil},
		{"to zstd", lines, "out.zst", nil},
		{"with lines skipped", strings.ReplaceAll(lines, `"query":"data"`, `"q":"data"`), "out", []string{"--on-error", "skip"}},
		{"all skipped", strings.ReplaceAll(lines, `"query"`, `"q"`), "out", []string{"--on-error", "skip"}},
		{"MS MARCO", msmarcoLines(3*chunkRecords + 5), "out", nil},
		{"with a header", "qid\tpid\tquery\tpassage\n" + msmarcoLines(3*chunkRecords+4), "out", []string{"--header"}},
		{"to a run with a header", "qid\tpid\tquery\tpassage\n" + msmarcoLines(3*chunkRecords+4), "out", []string{"--header", "--output-format", "trec", "--run-tag", "mine"}},
		{"CSV", csvLines(3*chunkRecords + 4), "out", []string{"--format", "csv", "--fields", "title,body", "--query-fields", "question"}},
		{"CSV to a run", csvLines(3*chunkRecords + 4), "out", []string{"--format", "csv", "--fields", "title,body", "--query-fields", "question", "--output-format", "trec"}},
		{"to a run", msmarcoLines(3*chunkRecords + 5), "out", []string{"--output-format", "trec"}},
		{"to a run without other queries of an id", otherQueries(msmarcoLines(3*chunkRecords + 5)), "out", []string{"--output-format", "trec", "--on-error", "skip"}},
		{"to a packed run", msmarcoLines(3*chunkRecords + 5), "out.gz", []string{"--output-format", "trec"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"score", "--model", model, "--input", "-"}, test.flags...)
			whole := filepath.Join(dir, "whole-"+test.output)
			mlxrank.MustRun(t, test.text, append(args, "--output", whole)...)
			want, err := os.ReadFile(whole)
			if err != nil {
				t.Fatal(err)
			}
			output := filepath.Join(dir, test.output)
			args = append(args, "--output", output, "--resume")
			for _, cut := range []struct{ percent, chunks int }{{50, 1}, {90, 2}, {95, 2}} {
				r := interruptAt(t, test.text, len(test.text)*cut.percent/100, args...)
				done := fmt.Sprintf("interrupted; finished work (%d lines) is kept in %s", cut.chunks*chunkRecords, output+scored.PartialSuffix)
				clitest.CheckFailure(t, r, command.ExitInterrupted, done, "run the same command with --resume")
			}
			r := mlxrank.MustRun(t, test.text, args...)
			if !strings.Contains(r.ErrOut, "resumed   after 2048 lines of an earlier run") {
				t.Errorf("the summary does not report the resumed run:\n%s", r.ErrOut)
			}
			clitest.CheckDir(t, dir, map[string]string{filepath.Base(whole): string(want), test.output: string(want)})
		})
	}
}

// interruptedRun leaves a run that was interrupted after two chunks, and returns the
// command line that resumes it.
func interruptedRun(t *testing.T, dir, model string) (input, output string, args []string) {
	t.Helper()
	input, output = filepath.Join(dir, "in"), filepath.Join(dir, "out")
	lines := clitest.PairLines(2*chunkRecords + 5)
	// The input is a pipe, so that the interrupt comes at a known byte.
	args = []string{"score", "--model", model, "--input", "-", "--output", output}
	clitest.CheckFailure(t, interruptAt(t, lines, len(lines)-10, args...), command.ExitInterrupted, "2048 lines")
	clitest.WriteFile(t, input, lines)
	return input, output, append(args, "--resume")
}

// TestScoreResumeRefused checks that a run does not resume after a change of what the
// scores depend on.
func TestScoreResumeRefused(t *testing.T) {
	touched := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, test := range []struct {
		name  string
		edit  func(t *testing.T, model string)
		text  func(string) string
		flags []string
		words []string
	}{
		{name: "input changed", text: func(s string) string { return strings.Replace(s, "page 3 ", "page 4 ", 1) }, words: []string{"standard input cannot be resumed", "first", "bytes"}},
		{name: "input shorter", text: func(s string) string { return s[:100] }, words: []string{"standard input cannot be resumed"}},
		{name: "input empty", text: func(string) string { return "" }, words: []string{"standard input cannot be resumed"}},
		{name: "dtype", flags: []string{"--dtype", "int8"}, words: []string{"dtype was float32 and is int8"}},
		{name: "activation", flags: []string{"--activation", "raw"}, words: []string{"activation was sigmoid and is raw"}},
		{name: "maximum length", flags: []string{"--max-length", "5"}, words: []string{"maximum length was 128 and is 5"}},
		{name: "overwriting", flags: []string{"--overwrite-score"}, words: []string{"--overwrite-score was false and is true"}},
		{name: "run tag", flags: []string{"--output-format", "trec", "--run-tag", "mine"}, words: []string{"--run-tag was mlxrank and is mine"}},
		{name: "model touched", edit: func(t *testing.T, model string) {
			if err := os.Chtimes(filepath.Join(model, "model.safetensors"), touched, touched); err != nil {
				t.Fatal(err)
			}
		}, words: []string{"model.safetensors was ", "bytes of 20", " and is ", "2001-02-03T04:05:06Z"}},
		{name: "file in the model", edit: func(t *testing.T, model string) {
			clitest.WriteFile(t, filepath.Join(model, "added_tokens.json"), "{}")
		}, words: []string{"added_tokens.json was not there and is 2 bytes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			model, dir := quickModel(t), t.TempDir()
			input, output, args := interruptedRun(t, dir, model)
			text := clitest.Contents(t, dir)["in"]
			if test.edit != nil {
				test.edit(t, model)
			}
			if test.text != nil {
				text = test.text(text)
			}
			before := clitest.Contents(t, dir)
			r := mlxrank.Run(t, text, append(args, test.flags...)...)
			clitest.CheckFailure(t, r, command.ExitFailure, append(test.words, "cannot be resumed")...)
			clitest.CheckDir(t, dir, before)
			if test.name == "dtype" {
				args[slices.Index(args, "-")] = input
				clitest.CheckFailure(t, mlxrank.Run(t, "", args...), command.ExitFailure, "input was a stream and is 2053 records with SHA-256 ", output)
				clitest.CheckDir(t, dir, before)
			}
		})
	}
	t.Run("calibration", func(t *testing.T) {
		model, dir := quickModel(t), t.TempDir()
		_, _, args := interruptedRun(t, dir, model)
		file := clitest.WriteFile(t, filepath.Join(t.TempDir(), "calibration.json"), fmt.Sprintf(`{"temperature": 0.5, "shift": 1, "model": %q}`, model))
		r := mlxrank.Run(t, clitest.Contents(t, dir)["in"], append(args, "--calibration", file)...)
		clitest.CheckFailure(t, r, command.ExitFailure, "calibration was none and is temperature 0.5, shift 1", "cannot be resumed")
	})
	t.Run("skipped lines", func(t *testing.T) {
		dir := t.TempDir()
		lines := "{}\n" + clitest.PairLines(chunkRecords+5)
		args := []string{"score", "--model", quickModel(t), "--input", "-", "--output", filepath.Join(dir, "out"), "--on-error"}
		clitest.CheckFailure(t, interruptAt(t, lines, len(lines)-10, append(args, "skip")...), command.ExitInterrupted, "1024 lines")
		before := clitest.Contents(t, dir)
		clitest.CheckFailure(t, mlxrank.Run(t, lines, append(args, "fail", "--resume")...), command.ExitFailure, "1 line", "--on-error skip")
		clitest.CheckDir(t, dir, before)
		mlxrank.MustRun(t, lines, append(args, "skip", "--resume")...)
	})
}

// TestScoreResumeAfterBadLine resumes after a line that ended a stream.
func TestScoreResumeAfterBadLine(t *testing.T) {
	model, dir := quickModel(t), t.TempDir()
	text := clitest.PairLines(chunkRecords) + "oops\n" + clitest.PairLines(2)
	output := filepath.Join(dir, "out")
	args := []string{"score", "--model", model, "--input", "-", "--output", output}
	clitest.CheckFailure(t, mlxrank.Run(t, text, args...), command.ExitFailure, "line 1025", "finished work (1024 lines) is kept in")
	clitest.CheckFailure(t, mlxrank.Run(t, text, append(args, "--resume")...), command.ExitFailure, "line 1025")
	mlxrank.MustRun(t, text, append(args, "--resume", "--on-error", "skip")...)
	got := readPacked(t, output)
	want := mlxrank.MustRun(t, text, "score", "--model", model, "--input", "-", "--output", "-", "--on-error", "skip")
	if got != want.Out {
		t.Errorf("resumed, it is another file")
	}
}

// TestScoreResumeNothing checks that --resume starts from the beginning if there is
// nothing to resume.
func TestScoreResumeNothing(t *testing.T) {
	model, dir := quickModel(t), t.TempDir()
	output := filepath.Join(dir, "out")
	for range 2 {
		r := mlxrank.MustRun(t, clitest.PairLines(2), "score", "--model", model, "--input", "-", "--output", output, "--resume")
		if strings.Contains(r.ErrOut, "resumed") {
			t.Errorf("it was resumed:\n%s", r.ErrOut)
		}
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--input", "-", "--output", "-", "--resume"), command.ExitUsage, "--resume needs an output file")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--input", "-", "--output", os.DevNull, "--resume"), command.ExitUsage, "--resume needs an output file")
}

// TestScoreInputChanges changes a file while it is scored, and checks that the run
// leaves nothing. Lines added to the file during the run are not read.
func TestScoreInputChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	defer func(every string) { scored.CheckpointEvery = every }(scored.CheckpointEvery)
	scored.CheckpointEvery = "0s"
	model := clitest.TinyModel(t)
	lines := clitest.PairLines(12 * chunkRecords)
	for _, test := range []struct {
		name   string
		change func(file *os.File) error
		words  []string
	}{
		{"changed", func(file *os.File) error {
			_, err := file.WriteAt([]byte("\n"), int64(len(lines)-1))
			if err == nil {
				_, err = file.WriteAt([]byte("7"), int64(strings.LastIndex(lines, "page ")+5))
			}
			return err
		}, []string{"in: the file changed during the run"}},
		{"cut", func(file *os.File) error { return file.Truncate(int64(strings.LastIndex(lines, "{"))) }, []string{"the file changed during the run"}},
		{"grown", func(file *os.File) error {
			_, err := file.WriteAt([]byte("oops\n"), int64(len(lines)))
			return err
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			input, output := clitest.WriteFile(t, filepath.Join(dir, "in"), lines), filepath.Join(dir, "out")
			done := make(chan clitest.Result, 1)
			go func() {
				done <- mlxrank.Run(t, "", "score", "--model", model, "--input", input, "--output", output)
			}()
			for {
				if _, err := os.Stat(output + scored.StateSuffix); err == nil {
					break
				}
				if len(done) > 0 {
					t.Fatalf("it ended before a checkpoint: %+v", <-done)
				}
				time.Sleep(time.Millisecond)
			}
			file, err := os.OpenFile(input, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(file); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			r := <-done
			if test.words != nil {
				clitest.CheckFailure(t, r, command.ExitFailure, test.words...)
				clitest.CheckDir(t, dir, map[string]string{"in": clitest.Contents(t, dir)["in"]})
				return
			}
			if got := strings.Count(readPacked(t, output), "\n"); r.Status != command.ExitOK || got != 12*chunkRecords {
				t.Errorf("status %d, %d lines, want %d\n%s", r.Status, got, 12*chunkRecords, r.ErrOut)
			}
		})
	}
}

// TestInputGrows checks that a file is read up to the end that it had when opened.
func TestInputGrows(t *testing.T) {
	path := clitest.WriteFile(t, filepath.Join(t.TempDir(), "in"), "one")
	in, err := input.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	clitest.WriteFile(t, path, "one and more")
	for range 2 {
		got, err := io.ReadAll(in)
		if err != nil || string(got) != "one" {
			t.Errorf("got %q, %v", got, err)
		}
		if err := in.Rewind(); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}
