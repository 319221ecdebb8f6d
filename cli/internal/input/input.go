// Package input reads files, standard input and query-document pairs.
package input

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/mlxrank/mlxrank/cli/records"
)

// ErrChanged reports an input that changed during the run.
var ErrChanged = errors.New("the file changed during the run; run again")

// A File is an input: a named file or standard input, decompressed.
type File struct {
	io.Reader
	Name string
	raw  io.Reader // before decompression
	file *os.File  // nil for standard input
	from *os.File  // the open file, also of standard input; nil if there is none
	size int64     // of a regular file when it was opened, else -1
	pipe *os.File  // a named pipe of which file is a copy, or nil
}

// Open opens path, or stdin for "-". Reads return when ctx ends. Bytes that are
// appended to a regular file after Open are not read.
func Open(ctx context.Context, path string, stdin io.Reader) (*File, error) {
	if path == "-" {
		in := &File{Name: "standard input", raw: NewReader(ctx, stdin), size: -1}
		in.from, _ = stdin.(*os.File)
		in.Reader = records.Decompress(in.raw)
		return in, nil
	}
	file, err := OpenFile(ctx, path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open input: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("open input: %s is a directory; give a file", path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	in := &File{Name: path, raw: NewReader(ctx, file), file: file, from: file, size: -1}
	if info.Mode().IsRegular() {
		in.size = info.Size()
	}
	return in, in.Rewind()
}

// Rewindable reports whether the input can be read twice.
func (in *File) Rewindable() bool { return in.size >= 0 }

// Rewind goes back to the start. An input that is not rewindable must not have been
// read.
func (in *File) Rewind() error {
	raw := in.raw
	if in.Rewindable() {
		if _, err := in.file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read %s: %w", in.Name, err)
		}
		raw = io.LimitReader(raw, in.size)
	}
	in.Reader = records.Decompress(raw)
	return nil
}

// Keep copies an input that can be read only once to a temporary file, so that it can be
// read again. The input must not have been read.
func (in *File) Keep(ctx context.Context) error {
	if in.Rewindable() {
		return nil
	}
	scratch, err := records.Scratch("")
	if err != nil {
		return err
	}
	size, err := io.Copy(scratch, in)
	if err != nil {
		return errors.Join(fmt.Errorf("copy %s to a temporary file: %w", in.Name, err), scratch.Close())
	}
	in.raw, in.pipe, in.file, in.size = NewReader(ctx, scratch), in.file, scratch, size
	return in.Rewind()
}

// magic returns the first bytes of a regular file.
func (in *File) magic() ([]byte, error) {
	if !in.Rewindable() {
		return nil, nil
	}
	magic := make([]byte, 4)
	n, err := in.file.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", in.Name, err)
	}
	return magic[:n], nil
}

// A Section is an input that can be read at random offsets.
type Section struct {
	*io.SectionReader
	scratch *os.File // with a copy; nil for a regular file
}

// Section returns the input for reads at random offsets. Compressed files and pipes are
// first copied to a temporary file. The input must stay open.
func (in *File) Section() (Section, error) {
	magic, err := in.magic()
	if err != nil {
		return Section{}, err
	}
	if in.Rewindable() && !records.Compressed(magic) {
		return Section{io.NewSectionReader(in.file, 0, in.size), nil}, nil
	}
	scratch, err := records.Scratch("")
	if err != nil {
		return Section{}, err
	}
	size, err := io.Copy(scratch, in)
	if err != nil {
		return Section{}, errors.Join(fmt.Errorf("unpack %s: %w", in.Name, err), scratch.Close())
	}
	return Section{io.NewSectionReader(scratch, 0, size), scratch}, nil
}

// Sum returns the SHA-256 of the input.
func (s Section) Sum() ([]byte, error) {
	sum := sha256.New()
	_, err := io.Copy(sum, io.NewSectionReader(s, 0, s.Size()))
	return sum.Sum(nil), err
}

// Close removes the copy.
func (s Section) Close() error {
	if s.scratch == nil {
		return nil
	}
	return s.scratch.Close()
}

// IsParquet reports whether the input is Parquet, by the format that a flag gives, the
// name or the first bytes.
func (in *File) IsParquet(format records.Format) (bool, error) {
	if format != records.Auto {
		return format == records.Parquet, nil
	}
	magic, err := in.magic()
	return records.IsParquet(magic) || records.FormatOfName(in.Name) == records.Parquet, err
}

// IsFile reports whether the input is the file at path, also under another name.
func (in *File) IsFile(path string) (bool, error) {
	if in.from == nil {
		return false, nil
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := in.from.Stat()
	return err == nil && os.SameFile(info, there) && info.Mode().IsRegular(), err
}

// Close closes a named file and a copy.
func (in *File) Close() error {
	var errs []error
	for _, file := range []*os.File{in.file, in.pipe} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

type interruptibleReader struct {
	ctx context.Context
	r   io.Reader
}

// NewReader returns a reader whose reads return when ctx ends, even while they wait
// for a terminal or a pipe.
func NewReader(ctx context.Context, r io.Reader) io.Reader { return &interruptibleReader{ctx, r} }

func (i *interruptibleReader) Read(p []byte) (int, error) {
	data := make([]byte, len(p)) // an abandoned read must not write to p
	n, err := untilDone(i.ctx, func() (int, error) { return i.r.Read(data) })
	return copy(p, data[:n]), err
}

type interruptibleWriter struct {
	ctx context.Context
	w   io.Writer
}

// NewWriter returns a writer whose writes return when ctx ends, even while they
// wait for the reader of a pipe. After that the caller must not change the bytes
// that it passed to Write.
func NewWriter(ctx context.Context, w io.Writer) io.Writer { return &interruptibleWriter{ctx, w} }

func (i *interruptibleWriter) Write(p []byte) (int, error) {
	return untilDone(i.ctx, func() (int, error) { return i.w.Write(p) })
}

// OpenFile opens an existing file. It returns when ctx ends, since opening a named
// pipe waits for the process at its other end.
func OpenFile(ctx context.Context, path string, flag int) (*os.File, error) {
	return untilDone(ctx, func() (*os.File, error) { return os.OpenFile(path, flag, 0) })
}

// untilDone returns the result of f, or the error of ctx if ctx ends first. The
// result of an abandoned f is dropped: the process is about to end.
func untilDone[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
