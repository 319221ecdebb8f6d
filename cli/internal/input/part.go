package input

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/records"
)

// MaxParts caps the parts of an input.
const MaxParts = 1_000_000

// A Part is one of several equal parts of an input.
type Part struct {
	Number int // from 1
	Of     int
}

// ParsePart parses a part such as 3/16.
func ParsePart(text string) (Part, error) {
	number, of, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(number)
	all, err2 := strconv.Atoi(of)
	if err := errors.Join(err, err2); err != nil {
		return Part{}, command.Usagef("--part cannot be %q; expected the number of the part and of all parts, as in 3/16", text)
	}
	p := Part{n, all}
	if p.Of < 1 || p.Of > MaxParts || p.Number < 1 || p.Number > p.Of {
		return Part{}, command.Usagef("--part %s is out of range; expected I/N with I from 1 to N, and N up to %d", text, MaxParts)
	}
	return p, nil
}

func (p Part) String() string { return fmt.Sprintf("%d/%d", p.Number, p.Of) }

// border returns the offset at which a share of an input of this size ends.
func (p Part) border(share int, size int64) int64 {
	n := int64(p.Of)
	return size/n*int64(share) + size%n*int64(share)/n
}

// A Range is the part of an input that a run scores. The offsets are bytes of the text,
// or rows of Parquet.
type Range struct {
	Start, End records.Position
	Whole      records.Position // the end of the input
}

// Range finds a part of the pairs, which must be rewindable, and rewinds them. A record
// belongs to the part in which its first byte lies, or of Parquet its index. If prepare
// is not nil, it prepares a reader of chunks, and the parts consist of whole chunks.
// progress is called with the offset so far and the size.
func (p *Pairs) Range(part Part, prepare func(*Chunks), progress func(done, size int64)) (Range, error) {
	reader, err := p.Reader()
	if err != nil {
		return Range{}, err
	}
	size := reader.Rows()
	if size < 0 {
		if size, err = p.textSize(); err != nil {
			return Range{}, err
		}
		if reader, err = p.Reader(); err != nil {
			return Range{}, err
		}
	}
	f := finder{reader: reader, step: reader.Pass, progress: func(done int64) { progress(done, size) }}
	if prepare != nil {
		chunks := NewChunks(reader)
		prepare(chunks)
		f.step = chunks.pass
	}
	r, err := f.find(part, size)
	if err != nil {
		return Range{}, err
	}
	if r.Whole.Offset != size {
		return Range{}, fmt.Errorf("read %s: %w", p.Name, ErrChanged)
	}
	p.Options.Format = reader.Format
	return r, p.Rewind()
}

// textSize returns the bytes of the decompressed text, and rewinds it.
func (p *Pairs) textSize() (int64, error) {
	magic, err := p.magic()
	if err != nil {
		return 0, err
	}
	size := p.size
	if records.Compressed(magic) {
		if err := p.Rewind(); err != nil {
			return 0, err
		}
		if size, err = io.Copy(io.Discard, p); err != nil {
			return 0, fmt.Errorf("read %s: %w", p.Name, err)
		}
	}
	return size, p.Rewind()
}

// pass goes past the next chunk, or returns io.EOF.
func (w *Chunks) pass() error {
	chunk, err := w.Next()
	if err == nil && len(chunk) == 0 {
		err = io.EOF
	}
	return err
}

// A finder finds the ends of records, or of chunks of records.
type finder struct {
	reader   *records.Reader
	step     func() error // goes past a record or a chunk, or returns io.EOF
	progress func(offset int64)
}

// find returns the range of a part of an input of this size.
func (f finder) find(part Part, size int64) (r Range, err error) {
	if r.Start, err = f.at(part.border(part.Number-1, size)); err != nil {
		return r, err
	}
	r.End = r.Start
	if part.Number < part.Of {
		if r.End, err = f.at(part.border(part.Number, size)); err != nil {
			return r, err
		}
	}
	if r.Whole, err = f.at(math.MaxInt64); part.Number == part.Of {
		r.End = r.Whole
	}
	return r, err
}

// at returns the first position from an offset on at which a record begins, or the end
// of the input.
func (f finder) at(offset int64) (records.Position, error) {
	for shown := int64(0); f.reader.Offset() < offset; {
		err := f.step()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return records.Position{}, err
		}
		if now := f.reader.Offset() >> 20; now != shown {
			shown = now
			f.progress(f.reader.Offset())
		}
	}
	return f.reader.Position(), nil
}

// Enter makes a new reader return the records of the range only, from a position in it.
func (r Range) Enter(reader *records.Reader, from records.Position, changed error) error {
	if err := reader.Skip(from, changed); err != nil {
		return err
	}
	reader.EndAt(r.End.Offset)
	return nil
}
