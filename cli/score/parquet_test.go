package score

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/engine"
)

type parquetPair struct {
	N        int64  `parquet:"n"`
	Question string `parquet:"question"`
	Body     string `parquet:"body,zstd"`
}

// writeParquet writes a file of pairs.
func writeParquet(t *testing.T, path string, pairs []engine.Pair) string {
	t.Helper()
	rows := make([]parquetPair, len(pairs))
	for i, p := range pairs {
		rows[i] = parquetPair{int64(i) << 55, p.Query, p.Document}
	}
	var b bytes.Buffer
	err := parquet.Write(&b, rows, parquet.MaxRowsPerRowGroup(1000))
	if err != nil {
		t.Fatal(err)
	}
	return clitest.WriteFile(t, path, b.String())
}

// TestScoreParquet scores Parquet from a file and from a pipe, to a file and to a pipe.
func TestScoreParquet(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	pairs := testPairs(5)
	in := writeParquet(t, filepath.Join(dir, "pairs.parquet"), pairs)
	data, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "scores.parquet")
	flags := []string{"score", "--model", model, "--query-fields", "question", "--fields", "body"}
	mlxrank.MustRun(t, "", append(flags, "--input", in, "--output", out)...)
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	piped := mlxrank.MustRun(t, string(data), append(flags, "--input", "-", "--format", "parquet", "--output", "-")...)
	if piped.Out != string(file) {
		t.Error("the output to a pipe differs")
	}
	type scored struct {
		parquetPair
		Score float32 `parquet:"score,optional"`
	}
	rows, err := parquet.Read[scored](bytes.NewReader(file), int64(len(file)))
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	scores := make([]float32, len(rows))
	for i, row := range rows {
		scores[i] = row.Score
		if row.N != int64(i)<<55 || row.Question != pairs[i].Query || row.Body != pairs[i].Document {
			t.Errorf("row %d: %+v", i, row)
		}
	}
	checkScores(t, clitest.OpenEngine(t, model), pairs, scores)
	run := mlxrank.MustRun(t, "", append(flags, "--input", in, "--output", "-", "--output-format", "trec", "--query-id-field", "n", "--id-field", "n")...)
	if strings.Count(run.Out, "\n") != 5 || !strings.Contains(run.Out, "36028797018963968 Q0 36028797018963968 1 ") {
		t.Errorf("got %s", run.Out)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, string(data), append(flags, "--input", "-", "--output", "-")...), command.ExitFailure, "looks like a Parquet file", "--format parquet")
	clitest.CheckFailure(t, mlxrank.Run(t, "", append(flags, "--input", in, "--output", "-", "--header")...), command.ExitUsage, "--header", "only files of columns have a header row")
	half := clitest.WriteFile(t, filepath.Join(dir, "half.parquet"), string(data[:len(data)/2]))
	clitest.CheckFailure(t, mlxrank.Run(t, "", append(flags, "--input", half, "--output", "-")...), command.ExitFailure, "half.parquet: not a readable Parquet file", "truncated")
}

// TestScoreParquetWithoutRows scores files without row groups, and one that pyarrow
// wrote, which has an empty row group.
func TestScoreParquetWithoutRows(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	none := writeParquet(t, filepath.Join(dir, "none.parquet"), nil)
	for _, in := range []string{none, filepath.Join("testdata", "empty.parquet")} {
		out := filepath.Join(t.TempDir(), "out.parquet")
		mlxrank.MustRun(t, "", "score", "--model", model, "--query-fields", "question", "--fields", "body", "--input", in, "--output", out)
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := file.Schema().Lookup("score"); !ok || file.NumRows() != 0 {
			t.Errorf("%s: %d rows, schema %v", in, file.NumRows(), file.Schema())
		}
		clitest.CheckDir(t, filepath.Dir(out), map[string]string{"out.parquet": string(data)})
	}
}

// TestScoreParquetResumes interrupts a run after its first checkpoint and continues it.
func TestScoreParquetResumes(t *testing.T) {
	defer func(every string) { scored.CheckpointEvery = every }(scored.CheckpointEvery)
	scored.CheckpointEvery = "0s"
	model, dir := quickModel(t), t.TempDir()
	in := writeParquet(t, filepath.Join(dir, "pairs.parquet"), testPairs(8*chunkRecords+5))
	flags := []string{"score", "--model", model, "--input", in, "--query-fields", "question", "--fields", "body"}
	whole, out := filepath.Join(dir, "whole.parquet"), filepath.Join(dir, "out.parquet")
	mlxrank.MustRun(t, "", append(flags, "--output", whole)...)
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
	r := mlxrank.RunContext(ctx, t, strings.NewReader(""), append(flags, "--output", out)...)
	clitest.CheckFailure(t, r, command.ExitInterrupted, "finished work", "--resume")
	r = mlxrank.MustRun(t, "", append(flags, "--output", out, "--resume")...)
	if !strings.Contains(r.ErrOut, "resumed   after ") {
		t.Errorf("the summary does not report the resumed run:\n%s", r.ErrOut)
	}
	want, err := os.ReadFile(whole)
	got, err2 := os.ReadFile(out)
	if err := errors.Join(err, err2); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the output differs: %v", err)
	}
}
