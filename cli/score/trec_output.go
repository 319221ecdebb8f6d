package score

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// runTagFlag is the flag --run-tag, which names the system in a TREC run.
var runTagFlag = &cli.StringFlag{Name: "run-tag", Value: "mlxrank", DefaultText: "mlxrank", Usage: "`TAG` in the last column of a TREC run"}

// checkRunTag rejects a tag that a TREC run cannot hold.
func checkRunTag(tag string) error {
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

// write ranks the rows of a file and writes the run to w. Temporary files go to dir,
// or to the system's folder if dir is empty.
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

// newRanked wraps an output so that it becomes a TREC run. Until all records are
// scored, it writes rows; commit ranks them. On an error it returns out unchanged.
func newRanked(ctx context.Context, out destination, tag string, log zerolog.Logger) (destination, error) {
	k := ranking{ctx, tag, log}
	if p, ok := out.(*partial); ok {
		compressor := p.compressor
		p.compressor = &records.Compressor{} // the rows are not compressed
		return &rankedFile{p, compressor, k}, nil
	}
	rows, err := records.Scratch("")
	if err != nil {
		return out, err
	}
	return &rankedStream{out.(*stream), rows, k}, nil
}

// rankedFile is a TREC run in a file. Its partial file holds the rows.
type rankedFile struct {
	*partial
	runCompressor *records.Compressor // partial.compressor is for the rows
	ranking       ranking
}

func (r *rankedFile) commit() error {
	// The checkpoint keeps all rows even if ranking them fails.
	if err := r.checkpoint(); err != nil {
		return err
	}
	rows, err := r.file.Stat()
	if err != nil {
		return r.wrap(err)
	}
	mode := rows.Mode().Perm()
	err = atomicfile.WriteVia(r.path+runSuffix, r.path, mode, func(run *os.File) error {
		if err := run.Chmod(mode); err != nil { // WriteVia applies the umask to mode
			return err
		}
		packed := r.runCompressor.Writer(run)
		if err := r.ranking.write(packed, r.file, filepath.Dir(run.Name())); err != nil {
			return err
		}
		return packed.Close()
	})
	if err != nil {
		return r.wrap(err)
	}
	return r.finish(r.statePath(), r.dataPath())
}

// rankedStream is a TREC run to a stream. The rows are in a file without a name.
type rankedStream struct {
	*stream
	rows    *os.File
	ranking ranking
}

func (r *rankedStream) write(lines []byte, _ position, _ tally) error {
	_, err := r.rows.Write(lines)
	return err
}

func (r *rankedStream) commit() error {
	if err := r.ranking.write(r.Writer, r.rows, ""); err != nil {
		return r.wrap(err)
	}
	return r.stream.commit()
}

func (r *rankedStream) close(err error) error {
	return errors.Join(r.stream.close(err), r.rows.Close())
}
