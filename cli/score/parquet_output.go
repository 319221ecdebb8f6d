package score

import (
	"context"
	"io"
	"os"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
)

// scoredParquet writes the input, which is Parquet, with a column of scores.
type scoredParquet struct {
	ctx   context.Context
	pairs *input.Pairs
}

func (p scoredParquet) write(w io.Writer, rows *os.File, _ string) error {
	if _, err := rows.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return records.WriteParquet(w, p.pairs.Name, p.pairs.Parquet, p.pairs.Parquet.Size(), input.NewReader(p.ctx, rows))
}
