package records

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Rows returns the number of rows of Parquet, or -1 for another format.
func (r *Reader) Rows() int64 {
	if p, ok := r.source.(*parquetRows); ok {
		return p.file.NumRows()
	}
	return -1
}

// Pass goes past the next record without parsing it, or returns io.EOF. A blank line
// counts as a record.
func (r *Reader) Pass() error { return r.source.pass() }

// Offset returns the offset of Position.
func (r *Reader) Offset() int64 { return r.source.at() }

// EndAt makes Next return io.EOF at an offset, which must be that of a Position.
func (r *Reader) EndAt(offset int64) { r.source.endAt(offset) }

func (l *Lines) at() int64 { return l.offset }

func (l *Lines) endAt(offset int64) { l.end = offset }

// pass ends at the end of a line, also if the line is too long.
func (l *Lines) pass() error {
	if l.quotes == 0 {
		return l.passLine()
	}
	_, err := l.read()
	if !errors.Is(err, errTooLong) {
		return err
	}
	if l.inLong {
		return l.skipLine()
	}
	return nil
}

// passLine goes past a line without a copy of it.
func (l *Lines) passLine() error {
	for start := l.offset; ; {
		_, err := l.slice()
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && l.offset == start:
			return io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read %s: line %d: %w", l.name, l.number+1, err)
		}
		l.number++
		return nil
	}
}

func (p *parquetRows) at() int64 { return int64(p.row) }

func (p *parquetRows) endAt(row int64) { p.end = row }

func (p *parquetRows) pass() error {
	_, err := p.read()
	return err
}
