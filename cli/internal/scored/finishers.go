package scored

import (
	"context"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
)

// RunTagFlag is the flag --run-tag, which names the system in a TREC run.
var RunTagFlag = &cli.StringFlag{Name: "run-tag", Value: "mlxrank", DefaultText: "mlxrank", Usage: "`TAG` in the last column of a TREC run"}

// CheckRunTag rejects a tag that a TREC run cannot hold.
func CheckRunTag(tag string) error {
	if tag == "" || !utf8.ValidString(tag) || strings.ContainsFunc(tag, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return command.Usagef("--run-tag %q is not one word; expected text without white space", tag)
	}
	return nil
}

// ranking turns scored rows into a TREC run.
type ranking struct {
	ctx context.Context
	tag string
	log zerolog.Logger
}

// write ranks the rows.
func (k ranking) write(w io.Writer, rows *os.File, dir string) error {
	if _, err := rows.Seek(0, io.SeekStart); err != nil {
		return err
	}
	duplicates, err := records.Rank(w, input.NewReader(k.ctx, rows), dir, k.tag)
	if err == nil && duplicates.Count > 0 {
		k.log.Warn().Int("left_out", duplicates.Count).Strs("first", duplicates.Examples).
			Msg("several lines have the same query and document; the run keeps the best line of each")
	}
	return err
}

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
