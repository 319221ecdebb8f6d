package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxLine bounds the memory one line of input can take. No text of this size
// can be scored; what has such lines is not line-oriented.
const maxLine = 64 << 20

var utf8BOM = []byte("\xef\xbb\xbf")

// lines reads a text line by line, without a limit that real lines meet, and
// skips blank ones. A UTF-8 byte order mark before the first line is dropped.
type lines struct {
	name   string // of the input, for errors
	r      *bufio.Reader
	number int // of the line that next returned last, from 1
}

func newLines(name string, r io.Reader) *lines {
	return &lines{name: name, r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns a line without its newline, in memory of its own, or io.EOF.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.read()
		if err != nil {
			return nil, err
		}
		l.number++
		if l.number == 1 {
			line = bytes.TrimPrefix(line, utf8BOM)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
}

func (l *lines) read() ([]byte, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("%s: line %d: longer than %d MiB; is it text, one entry per line?",
				l.name, l.number+1, maxLine>>20)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case err != nil:
			return nil, fmt.Errorf("read %s: line %d: %w", l.name, l.number+1, err)
		}
		return line[:len(line)-1], nil
	}
}

// errorf is an error about the line that next returned last.
func (l *lines) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: line %d: %w", l.name, l.number, fmt.Errorf(format, args...))
}

// input is what a command reads: a named file, or standard input.
type input struct {
	io.Reader
	name string
	file *os.File // nil for standard input
}

// openInput opens path, or stdin for "-". A read ends when ctx does.
func openInput(ctx context.Context, path string, stdin io.Reader) (*input, error) {
	if path == "-" {
		return &input{Reader: &interruptible{ctx: ctx, r: stdin}, name: "standard input"}, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open input: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("open input: %s is a directory, a file is needed", path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &input{Reader: &interruptible{ctx: ctx, r: file}, name: path, file: file}, nil
}

// rewindable reports whether the input can be read twice.
func (in *input) rewindable() bool {
	if in.file == nil {
		return false
	}
	info, err := in.file.Stat()
	return err == nil && info.Mode().IsRegular()
}

func (in *input) Close() error {
	if in.file == nil {
		return nil
	}
	return in.file.Close()
}

// interruptible is a reader whose reads return when ctx ends, even one that
// waits for a terminal or a pipe. A read left behind writes only to a buffer of
// its own.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data := make([]byte, len(p))
		n, err := i.r.Read(data)
		done <- result{data[:n], err}
	}()
	select {
	case r := <-done:
		return copy(p, r.data), r.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}
