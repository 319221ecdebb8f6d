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

// A finisher makes an output of rows: a TREC run, or Parquet with scores.
type finisher interface {
	// write writes the output for the rows of a file to w. Temporary files go to dir,
	// or to the system's folder if dir is empty.
	write(w io.Writer, rows *os.File, dir string) error
}

// newFinished wraps an output that finisher makes of rows. Until all records are
// scored, it writes the rows. On an error it returns out unchanged.
func newFinished(out destination, k finisher) (destination, error) {
	if p, ok := out.(*partial); ok {
		compressor := p.compressor
		p.compressor = &records.Compressor{} // the rows are not compressed
		return &finishedFile{p, compressor, k}, nil
	}
	rows, err := records.Scratch("")
	if err != nil {
		return out, err
	}
	return &finishedStream{out.(*stream), rows, k}, nil
}

// finishedFile is an output in a file. Its partial file holds the rows.
type finishedFile struct {
	*partial
	runCompressor *records.Compressor // partial.compressor is for the rows
	finisher      finisher
}

func (r *finishedFile) commit() error {
	// The checkpoint keeps all rows even if the finisher fails.
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
		if err := r.finisher.write(packed, r.file, filepath.Dir(run.Name())); err != nil {
			return err
		}
		return packed.Close()
	})
	if err != nil {
		return r.wrap(err)
	}
	return r.finish(r.statePath(), r.dataPath())
}

// finishedStream is an output to a stream. The rows are in a file without a name.
type finishedStream struct {
	*stream
	rows     *os.File
	finisher finisher
}

func (r *finishedStream) write(lines []byte, _ position, _ tally) error {
	_, err := r.rows.Write(lines)
	return err
}

func (r *finishedStream) commit() error {
	if err := r.finisher.write(r.Writer, r.rows, ""); err != nil {
		return r.wrap(err)
	}
	return r.stream.commit()
}

func (r *finishedStream) close(err error) error {
	return errors.Join(r.stream.close(err), r.rows.Close())
}
