package records

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
)

// maxLine caps the bytes of one line of input. No text of this size can be scored; a
// file with such lines is not line-oriented.
const maxLine = 64 << 20

// utf8BOM is the byte order mark that some programs write at the start of a text.
var utf8BOM = []byte("\xef\xbb\xbf")

// errTooLong reports a line that is longer than maxLine. The next read skips the rest
// of the line.
var errTooLong = fmt.Errorf("longer than %d MiB; is it text, one entry per line?", maxLine>>20)

// Lines reads a text line by line, up to maxLine bytes per line. It drops a UTF-8 byte
// order mark at the start of any line: joined files have some in later lines.
type Lines struct {
	name   string // of the input, for errors
	r      *bufio.Reader
	number int   // of the last line, from 1
	first  int   // line of the last record
	offset int64 // of the byte after the last line
	sum    hash.Hash
	inLong bool  // the rest of the last line is unread
	failed error // of position, for the next read
	end    int64 // offset at which the input ends

	sniffed bool // sniff has accepted the first bytes

	// quotes is the delimiter of CSV, whose records go on while a quote is open, or 0.
	quotes byte
}

// NewLines returns a reader of the lines of r. Errors report name.
func NewLines(name string, r io.Reader) *Lines { return newLines(name, r, 64<<10) }

func newLines(name string, r io.Reader, buffer int) *Lines {
	return &Lines{name: name, r: bufio.NewReaderSize(r, buffer), sum: sha256.New(), end: math.MaxInt64}
}

// Next returns a copy of the next line without its line end, or io.EOF. A line that
// is not text is an error.
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

// Errorf returns an error about the last line that Next returned.
func (l *Lines) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s: line %d: %w", l.name, l.number, fmt.Errorf(format, args...))
}

// read returns a record without its newline, also if it is not text. After errTooLong,
// read can be called again. A record is a line, or the lines of a row of CSV.
func (l *Lines) read() ([]byte, error) {
	line, err := l.readLine()
	l.first = l.number
	if l.quotes == 0 || err != nil {
		return bytes.TrimPrefix(line, utf8BOM), err
	}
	line = bytes.TrimPrefix(line, utf8BOM)
	quotes := quoteState{delimiter: l.quotes}
	for more := line; ; {
		if quotes.scan(more); quotes.cell != inQuotes {
			return line, nil
		}
		if more, err = l.readLine(); errors.Is(err, io.EOF) {
			return line, nil // the parser finds the open quote
		}
		if err != nil {
			return nil, err
		}
		if line = append(append(line, '\n'), more...); len(line) > maxLine {
			return nil, errTooLong
		}
	}
}

// line returns the number of the last record's first line.
func (l *Lines) line() int { return l.first }

// readLine returns a line without its newline.
func (l *Lines) readLine() ([]byte, error) {
	if err := l.sniff(); err != nil {
		return nil, err
	}
	if err := l.failed; err != nil {
		l.failed = nil
		return nil, err
	}
	if l.inLong {
		if err := l.skipLine(); err != nil {
			return nil, err
		}
	}
	if l.offset >= l.end {
		return nil, io.EOF
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
		line = bytes.TrimSuffix(line, []byte("\n"))
		if l.number == 1 && !ended && bytes.IndexByte(trimEnd(bytes.TrimPrefix(line, utf8BOM)), '\r') >= 0 {
			return nil, l.Errorf("the file is one line with carriage returns; if these are line ends, as on old Macs, convert them with tr '\\r' '\\n'")
		}
		return line, nil
	}
}

// sniff rejects a file that is not text, before it is read. It waits for at most the
// first line.
func (l *Lines) sniff() error {
	if l.sniffed {
		return nil
	}
	head, _, err := l.peek(func(head []byte) bool { return len(head) >= sniffBytes || bytes.IndexByte(head, '\n') >= 0 })
	if err != nil {
		return err
	}
	l.sniffed = true
	if err := Sniff(head); err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	return nil
}

// peek buffers more of the input until enough accepts the buffered bytes, or until the
// input ends. It returns these bytes, and whether the input has ended.
func (l *Lines) peek(enough func([]byte) bool) (head []byte, ended bool, err error) {
	for {
		head, err := l.r.Peek(l.r.Buffered())
		if err != nil || enough(head) {
			return head, false, err
		}
		_, err = l.r.Peek(len(head) + 1)
		if errors.Is(err, io.EOF) {
			return head, true, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read %s: line 1: %w", l.name, err)
		}
	}
}

// skipLine reads up to the end of a line that is too long.
func (l *Lines) skipLine() error {
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

// slice reads up to a newline or the size of the buffer.
func (l *Lines) slice() ([]byte, error) {
	part, err := l.r.ReadSlice('\n')
	l.offset += int64(len(part))
	l.sum.Write(part)
	return part, err
}

// head returns the buffered part of the first line that is not blank, and whether
// that is the whole line. It waits for no more input than that.
func (l *Lines) head() (line []byte, whole bool, err error) {
	if err := l.sniff(); err != nil {
		return nil, false, err
	}
	_, ended, err := l.peek(func(head []byte) bool {
		line, _, whole = firstLine(head)
		return whole || len(head) == l.r.Size()
	})
	return trimEnd(line), whole || ended, err
}

// isBlank reports whether a line is empty or white space.
func isBlank(line []byte) bool {
	return len(bytes.TrimSpace(bytes.TrimPrefix(line, utf8BOM))) == 0
}

// A Position is a place between two lines of a text, with the hash of the text before
// it.
type Position struct {
	Offset int64  // in bytes, from the start
	Line   int    // lines before
	Sum    []byte // SHA-256 of the bytes before
}

// position goes to the end of a line that is too long: another run could not know that
// it begins within a line.
func (l *Lines) position() Position {
	if l.inLong {
		l.failed = l.skipLine()
	}
	return Position{Offset: l.offset, Line: l.number, Sum: l.sum.Sum(nil)}
}

// skip reads up to a position that is not before the current one. It returns changed if the text before the position differs.
func (l *Lines) skip(to Position, changed error) error {
	n, err := io.CopyN(l.sum, l.r, to.Offset-l.offset)
	switch {
	case errors.Is(err, io.EOF):
		return changed
	case err != nil:
		return fmt.Errorf("read %s: byte %d: %w", l.name, l.offset+n, err)
	case !bytes.Equal(l.sum.Sum(nil), to.Sum):
		return changed
	}
	l.offset, l.number, l.inLong = to.Offset, to.Line, false
	l.sniffed = l.sniffed || to.Offset > 0
	return nil
}
