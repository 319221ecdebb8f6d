package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// output takes the lines of scored records, a window at a time.
type output interface {
	// begin comes first. It says what the output depends on, and returns how far
	// an earlier run came.
	begin([]setting) (state, error)
	// write adds the lines of a window, and says where the input and the counts
	// are behind it.
	write(lines []byte, input position, counts tally) error
	// commit completes the output.
	commit() error
	// close ends what was not committed because of err, and returns err and what
	// there is to say about it.
	close(err error) error
}

// createOutput starts an output to path, or to stdout for "-". A file appears
// when it is complete, standard output, devices and pipes are written as it
// comes. Waiting for the reader of a pipe ends when ctx does.
func createOutput(ctx context.Context, path string, stdout io.Writer, resume bool) (output, error) {
	if path == "-" {
		return newStream(ctx, stdout, nil), nil
	}
	path, special, err := place(path)
	if err != nil {
		return nil, err
	}
	if !special {
		return openPartial(path, resume)
	}
	if resume {
		return nil, usagef("--resume needs an output file, and %s is none", path)
	}
	file, err := openFile(ctx, path, os.O_WRONLY)
	if err != nil {
		return nil, fmt.Errorf("create output: %w", err)
	}
	return newStream(ctx, file, file), nil
}

// place returns where an output to path belongs, and whether something that is
// no regular file is there.
func place(path string) (_ string, special bool, _ error) {
	// A symbolic link stays one: what it points to is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return path, false, nil
	case err != nil:
		return "", false, fmt.Errorf("create output: %w", err)
	case info.IsDir():
		return "", false, fmt.Errorf("create output: %s is a directory, a file is needed", path)
	}
	return path, !info.Mode().IsRegular(), nil
}

// stream is an output that is seen as it is written.
type stream struct {
	*bufio.Writer
	file *os.File // nil for standard output
}

func newStream(ctx context.Context, w io.Writer, file *os.File) *stream {
	return &stream{Writer: bufio.NewWriter(&interruptibleWriter{ctx: ctx, w: w}), file: file}
}

func (s *stream) begin([]setting) (state, error) { return state{}, nil }

func (s *stream) write(lines []byte, _ position, _ tally) error {
	_, err := s.Write(lines)
	if err == nil {
		err = s.Flush()
	}
	return s.wrap(err)
}

func (s *stream) commit() error {
	err := s.Flush()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return s.wrap(err)
}

func (s *stream) close(err error) error {
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return err
}

func (s *stream) wrap(err error) error {
	if err == nil {
		return nil
	}
	name := "standard output"
	if s.file != nil {
		name = s.file.Name()
	}
	return fmt.Errorf("write %s: %w", name, err)
}
