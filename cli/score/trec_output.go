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

// runTagFlag names the system in a TREC run.
var runTagFlag = &cli.StringFlag{Name: "run-tag", Value: "mlxrank", DefaultText: "mlxrank", Usage: "`TAG` in the last column of a TREC run"}

// checkRunTag refuses a tag that a TREC run cannot hold.
func checkRunTag(tag string) error {
	if tag == "" || !utf8.ValidString(tag) || strings.ContainsFunc(tag, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return command.Usagef("--run-tag %q is not one word", tag)
	}
	return nil
}

// warnDuplicates logs which rows a run lacks because others have the same ids.
func warnDuplicates(log zerolog.Logger, d records.Duplicates) {
	if d.Count > 0 {
		log.Warn().Int("left_out", d.Count).Strs("first", d.Examples).Msg("several lines have the same query and document: the best one of each is in the run")
	}
}

// ranked makes an output that of a TREC run. The run is made when all is scored,
// of rows that are written until then. If it cannot, out is returned as it is.
func ranked(ctx context.Context, out destination, tag string, log zerolog.Logger) (destination, error) {
	if p, ok := out.(*partial); ok {
		compressor := p.compressor
		p.compressor = &records.Compressor{} // the rows are as they are
		return &rankedFile{partial: p, ctx: ctx, run: compressor, tag: tag, log: log}, nil
	}
	rows, err := records.Scratch("")
	if err != nil {
		return out, err
	}
	return &rankedStream{stream: out.(*stream), ctx: ctx, rows: rows, tag: tag, log: log}, nil
}

// rankedFile is a TREC run in a file. Its partial output is the rows.
type rankedFile struct {
	*partial
	ctx context.Context
	run *records.Compressor
	tag string
	log zerolog.Logger
}

func (r *rankedFile) commit() error {
	// From here on the rows are all there, whatever happens to the run.
	if err := r.checkpoint(); err != nil {
		return err
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return r.wrap(err)
	}
	rows, err := r.file.Stat()
	if err != nil {
		return r.wrap(err)
	}
	mode := rows.Mode().Perm()
	err = atomicfile.WriteVia(r.path+runSuffix, r.path, mode, func(run *os.File) error {
		if err := run.Chmod(mode); err != nil { // beyond the umask
			return err
		}
		return r.rank(run)
	})
	if err != nil {
		return r.wrap(err)
	}
	return r.finish(r.statePath(), r.dataPath())
}

// rank writes the run to a file.
func (r *rankedFile) rank(file *os.File) error {
	packed := r.run.Writer(file)
	duplicates, err := records.Rank(packed, input.NewReader(r.ctx, r.file), filepath.Dir(file.Name()), r.tag)
	if err != nil {
		return err
	}
	warnDuplicates(r.log, duplicates)
	return packed.Close()
}

// rankedStream is a TREC run that is seen as it is written. The rows are in a
// file without a name.
type rankedStream struct {
	*stream
	ctx  context.Context
	rows *os.File
	tag  string
	log  zerolog.Logger
}

func (r *rankedStream) write(lines []byte, _ position, _ tally) error {
	_, err := r.rows.Write(lines)
	return err
}

func (r *rankedStream) commit() error {
	if _, err := r.rows.Seek(0, io.SeekStart); err != nil {
		return err
	}
	duplicates, err := records.Rank(r.Writer, input.NewReader(r.ctx, r.rows), "", r.tag)
	if err != nil {
		return r.wrap(err)
	}
	warnDuplicates(r.log, duplicates)
	return r.stream.commit()
}

func (r *rankedStream) close(err error) error {
	return errors.Join(r.stream.close(err), r.rows.Close())
}
