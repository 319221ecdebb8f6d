package workload

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/mlxrank/mlxrank/engine"
)

// readParquet reads up to size pairs from a file of MS MARCO on the hub: each query
// with each of its passages.
func readParquet(r io.ReaderAt, bytes int64, size int) (pairs []engine.Pair, err error) {
	// The library panics on some malformed files.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the parquet file is damaged: %v", v)
		}
	}()
	file, err := parquet.OpenFile(r, bytes)
	if err != nil {
		return nil, err
	}
	query, err := column(file, "query")
	if err != nil {
		return nil, err
	}
	// The name of a list's items depends on the writer, so the names above them
	// identify the column.
	passage, err := column(file, "passages", "passage_text")
	if err != nil {
		return nil, err
	}
	reader := parquet.NewReader(file)
	defer func() { err = errors.Join(err, reader.Close()) }()
	rows := make([]parquet.Row, 64)
	for len(pairs) < size {
		n, err := reader.ReadRows(rows)
		for _, row := range rows[:n] {
			pairs = append(pairs, newPairs(row, query, passage)...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return pairs[:min(size, len(pairs))], nil
}

// column finds the column of texts with a path that begins with names.
func column(file *parquet.File, names ...string) (int, error) {
	for i, path := range file.Schema().Columns() {
		if len(path) < len(names) || !slices.Equal(path[:len(names)], names) {
			continue
		}
		if leaf, ok := file.Schema().Lookup(path...); ok && leaf.Node.Type().Kind() == parquet.ByteArray {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no column %v of texts; expected the columns of MS MARCO on the hub", names)
}

// newPairs copies a row's values, which the reader owns, into pairs.
func newPairs(row parquet.Row, query, passage int) []engine.Pair {
	var q string
	var pairs []engine.Pair
	for _, value := range row {
		if value.IsNull() {
			continue
		}
		switch value.Column() {
		case query:
			q = string(value.ByteArray())
		case passage:
			pairs = append(pairs, engine.Pair{Document: string(value.ByteArray())})
		}
	}
	for i := range pairs {
		pairs[i].Query = q
	}
	return pairs
}
