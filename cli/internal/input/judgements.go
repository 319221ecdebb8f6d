package input

import (
	"context"
	"errors"
	"io"

	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// ReadQrels reads judgements from a file: TREC or BEIR qrels, CSV by its name, or
// Parquet.
func ReadQrels(ctx context.Context, path string, stdin io.Reader) (measures.Qrels, error) {
	return readTable(ctx, path, stdin, records.ReadQrels, (*records.Reader).Qrels)
}

// ReadRun reads a run from a file: a TREC run, a run qid pid rank, CSV by its name, or
// Parquet.
func ReadRun(ctx context.Context, path string, stdin io.Reader) (measures.Run, error) {
	return readTable(ctx, path, stdin, records.ReadRun, (*records.Reader).Run)
}

// readTable reads lines or a table.
func readTable[T any](ctx context.Context, path string, stdin io.Reader, lines func(string, io.Reader) (T, error), rows func(*records.Reader) (T, error)) (value T, err error) {
	in, err := Open(ctx, path, stdin)
	if err != nil {
		return value, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	parquet, err := in.IsParquet(records.Auto)
	if err != nil {
		return value, err
	}
	if !parquet && records.FormatOfName(path) != records.CSV {
		return lines(in.Name, in)
	}
	section, err := in.Section()
	if err != nil {
		return value, err
	}
	defer func() { err = errors.Join(err, section.Close()) }()
	reader, err := records.NewTableReader(in.Name, parquet, section, section.Size(), records.Fields{})
	if err != nil {
		return value, err
	}
	return rows(reader)
}
