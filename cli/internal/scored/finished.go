package scored

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// A finisher makes an output of rows: a TREC run, or Parquet with scores.
type finisher interface {
	// write writes the output for the rows of a file to w. Temporary files go to dir,
	// or to the system's folder if dir is empty.
	write(w io.Writer, rows *os.File, dir string) error
}

// newFinished wraps an output that finisher makes of rows. Until all records are
// scored, it writes the rows. On an error it returns out unchanged.
func newFinished(out Destination, k finisher) (Destination, error) {
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

func (r *finishedFile) Commit() error {
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

func (r *finishedStream) WriteChunk(lines []byte, _ Position, _ Tally) error {
	_, err := r.rows.Write(lines)
	return err
}

func (r *finishedStream) Commit() error {
	if err := r.finisher.write(r.Writer, r.rows, ""); err != nil {
		return r.wrap(err)
	}
	return r.stream.Commit()
}

func (r *finishedStream) Close(err error) error {
	return errors.Join(r.stream.Close(err), r.rows.Close())
}
