package records

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// maxLine bounds the memory one line of input can take. No text of this size
// can be scored; what has such lines is not line-oriented.
const maxLine = 64 << 20

// utf8BOM is the byte order mark that some programs write at the start of a text.
var utf8BOM = []byte("\xef\xbb\xbf")

// errTooLong reports a line that is longer than maxLine. What is left of it is
// passed over by the next read.
var errTooLong = fmt.Errorf("longer than %d MiB; is it text, one entry per line?", maxLine>>20)

// Lines reads a text line by line, without a limit that real lines meet. A
// UTF-8 byte order mark at the start of a line is dropped: that of a later line
// is left over from joining files.
type Lines struct {
	name   string // of the input, for errors
	r      *bufio.Reader
	number int   // of the line that was read last, from 1
	offset int64 // of the byte behind it
	sum    hash.Hash
	inLong bool // the line that was read last is not yet at its end

	sniffed bool // the first bytes are known to be no binary file's
}

// NewLines reads r, which errors call name.
func NewLines(name string, r io.Reader) *Lines { return newLines(name, r, 64<<10) }

func newLines(name string, r io.Reader, buffer int) *Lines {
	return &Lines{name: name, r: bufio.NewReaderSize(r, buffer), sum: sha256.New()}
}

// Next returns the next line, without its line end and in memory of its own, or
// io.EOF. A line that is not text is an error.
func (l *Lines) Next() ([]byte, error) {
	line, err := l.read()
	if errors.Is(err, errTooLong) {
		return nil, l.Errorf("%w", err)
	}
	if err != nil {
		return nil, err
	}
	if err := CheckText(line); err != nil {
		return nil, l.Errorf("%w", err)
	}
	return trimEnd(line), nil
}

// Number is that of the line Next returned last, from 1.
func (l *Lines) Number() int { return l.number }

// Errorf is an error about the line that Next returned last.
func (l *Lines) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s: line %d: %w", l.name, l.number, fmt.Errorf(format, args...))
}

// read returns a line without its newline, whatever its bytes are. After
// errTooLong it can be called again.
func (l *Lines) read() ([]byte, error) {
	if err := l.sniff(); err != nil {
		return nil, err
	}
	if l.inLong {
		if err := l.passOver(); err != nil {
			return nil, err
		}
	}
	var line []byte
	for {
		part, err := l.slice()
		line = append(line, part...)
		ended := err == nil
		switch {
		case len(line) > maxLine:
			l.number, l.inLong = l.number+1, !ended
			return nil, errTooLong
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read %s: line %d: %w", l.name, l.number+1, err)
		}
		l.number++
		line = bytes.TrimSuffix(bytes.TrimPrefix(line, utf8BOM), []byte("\n"))
		if l.number == 1 && !ended && bytes.IndexByte(trimEnd(line), '\r') >= 0 {
			return nil, l.Errorf("the whole file is one line with carriage returns inside; if these are its line ends, as on old Macs, convert it with tr '\\r' '\\n'")
		}
		return line, nil
	}
}

// sniff refuses a file that is not text, before anything of it is read. It waits
// for no more than the first line.
func (l *Lines) sniff() error {
	if l.sniffed {
		return nil
	}
	head, err := l.peek(sniffBytes)
	if err != nil {
		return err
	}
	l.sniffed = true
	if err := sniff(head); err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	return nil
}

// peek returns what is buffered once that has a newline or n bytes, or is all.
func (l *Lines) peek(n int) ([]byte, error) {
	for {
		head, err := l.r.Peek(l.r.Buffered())
		if err != nil {
			return nil, err
		}
		if len(head) >= n || bytes.IndexByte(head, '\n') >= 0 {
			return head, nil
		}
		_, err = l.r.Peek(len(head) + 1)
		if errors.Is(err, io.EOF) {
			return head, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: line 1: %w", l.name, err)
		}
	}
}

// passOver reads up to the end of a line that is too long.
func (l *Lines) passOver() error {
	for {
		_, err := l.slice()
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read %s: line %d: %w", l.name, l.number, err)
		}
		l.inLong = false
		return nil
	}
}

// slice reads up to a newline, or as much as the buffer holds.
func (l *Lines) slice() ([]byte, error) {
	part, err := l.r.ReadSlice('\n')
	l.offset += int64(len(part))
	l.sum.Write(part)
	return part, err
}

// head returns what there is of the first line that is not blank, without
// reading past it more than it must, and whether that is the whole line.
func (l *Lines) head() (_ []byte, whole bool, err error) {
	if err := l.sniff(); err != nil {
		return nil, false, err
	}
	for {
		head, err := l.r.Peek(l.r.Buffered())
		if err != nil {
			return nil, false, err
		}
		line, rest, ended := bytes.Cut(head, []byte("\n"))
		for ended && isBlank(line) {
			line, rest, ended = bytes.Cut(rest, []byte("\n"))
		}
		line = trimEnd(bytes.TrimPrefix(line, utf8BOM))
		if ended || len(head) == l.r.Size() {
			return line, ended, nil
		}
		_, err = l.r.Peek(len(head) + 1)
		if errors.Is(err, io.EOF) {
			return line, true, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read %s: line 1: %w", l.name, err)
		}
	}
}

// isBlank reports whether a line holds nothing, or white space only.
func isBlank(line []byte) bool {
	return len(bytes.TrimSpace(bytes.TrimPrefix(line, utf8BOM))) == 0
}

// A Position is a place between two lines of a text, and what stands before it.
type Position struct {
	Offset int64  // in bytes, from the start
	Line   int    // lines before
	Sum    []byte // SHA-256 of the bytes before
}

func (l *Lines) position() Position {
	return Position{Offset: l.offset, Line: l.number, Sum: l.sum.Sum(nil)}
}

// skip reads up to a position of an earlier run. It must come before any line is
// read. changed is returned if another text stands before the position now.
func (l *Lines) skip(to Position, changed error) error {
	n, err := io.CopyN(l.sum, l.r, to.Offset)
	switch {
	case errors.Is(err, io.EOF):
		return changed
	case err != nil:
		return fmt.Errorf("read %s: byte %d: %w", l.name, n, err)
	case !bytes.Equal(l.sum.Sum(nil), to.Sum):
		return changed
	}
	l.offset, l.number = to.Offset, to.Line
	l.sniffed = l.sniffed || to.Offset > 0
	return nil
}
