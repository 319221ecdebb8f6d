package records

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd file can ask for. zstd itself makes
// no larger one without --ultra or --long=28 and up.
const maxWindow = 128 << 20

// Decompress reads text that may be compressed with gzip or zstd, which its
// first bytes show. It reads nothing before it is read itself.
func Decompress(r io.Reader) io.Reader { return &decompressor{raw: &source{r: r}} }

type decompressor struct {
	raw  *source
	text io.Reader // nil before the first read
	kind string    // "" for plain text
}

// source keeps the error that its reader ended with, which a decompressor may
// take for a fault of the data.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (d *decompressor) Read(p []byte) (int, error) {
	if d.text == nil {
		if err := d.open(); err != nil {
			return 0, err
		}
	}
	n, err := d.text.Read(p)
	return n, d.explain(err)
}

func (d *decompressor) open() error {
	raw := bufio.NewReaderSize(d.raw, 64<<10)
	magic, err := raw.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case isGzip(magic):
		d.kind = "gzip"
		d.text, err = newMembers(raw)
	case isZstd(magic):
		d.kind = "zstd"
		d.text, err = zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	default:
		d.text, err = raw, nil
	}
	if err != nil {
		d.text = failed{err}
	}
	return nil
}

// gzipMagic begins every member of a gzip file.
var gzipMagic = []byte{0x1f, 0x8b}

var errNotGzip = errors.New("something that is not gzip follows the compressed data; gzip -dc leaves it out")

// members reads the members of a gzip file one after another. As in gzip and
// Python, zeros behind a member are padding, which tapes and block devices leave.
type members struct {
	raw    *bufio.Reader
	member *gzip.Reader
}

func newMembers(raw *bufio.Reader) (*members, error) {
	member, err := gzip.NewReader(raw)
	if err != nil {
		return nil, err
	}
	member.Multistream(false)
	return &members{raw, member}, nil
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.member.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
}

// next goes to the member behind the padding, or returns io.EOF.
func (m *members) next() error {
	for {
		b, err := m.raw.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			break
		}
	}
	if err := m.raw.UnreadByte(); err != nil {
		return err
	}
	// Without a whole magic number, Reset reports that the data is cut short.
	magic, err := m.raw.Peek(len(gzipMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.HasPrefix(gzipMagic, magic) {
		return errNotGzip
	}
	if err := m.member.Reset(m.raw); err != nil {
		return err
	}
	m.member.Multistream(false)
	return nil
}

// Compressed reports whether a file that begins with these bytes, at least four
// if it has them, is one that Decompress unpacks.
func Compressed(magic []byte) bool { return isGzip(magic) || isZstd(magic) }

func isGzip(magic []byte) bool { return bytes.HasPrefix(magic, gzipMagic) }

// isZstd knows the magic numbers of a frame and of a skippable frame, with which
// parallel compressors begin.
func isZstd(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}

// explain adds that it is the compressed data that an error is about.
func (d *decompressor) explain(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF), d.kind == "":
		return err
	case d.raw.err != nil:
		return d.raw.err
	case errors.Is(err, errNotGzip):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the %s data is cut short: %w", d.kind, err)
	}
	return fmt.Errorf("the %s data is broken: %w", d.kind, err)
}

type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

// A Compressor compresses pieces of a text by themselves: written one after
// another they are a file, and what was written of a file up to the end of a
// piece can be read whatever follows.
type Compressor struct {
	encoder encoder // nil for none
}

type encoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

// NewCompressor compresses as the name of a file says.
func NewCompressor(name string) (*Compressor, error) {
	switch {
	case strings.HasSuffix(name, ".gz"):
		return &Compressor{gzip.NewWriter(nil)}, nil
	case strings.HasSuffix(name, ".zst"):
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
		return &Compressor{e}, err
	}
	return &Compressor{}, nil
}

// Compress returns a piece compressed.
func (c *Compressor) Compress(piece []byte) ([]byte, error) {
	if c.encoder == nil {
		return piece, nil
	}
	var b bytes.Buffer
	c.encoder.Reset(&b)
	if _, err := c.encoder.Write(piece); err != nil {
		return nil, err
	}
	if err := c.encoder.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// pieceBytes is how much of a text Writer compresses at once.
const pieceBytes = 1 << 20

// Writer compresses what is written to it, up to Close, which leaves w open.
func (c *Compressor) Writer(w io.Writer) io.WriteCloser {
	return &pieces{compressor: c, w: w}
}

type pieces struct {
	compressor *Compressor
	w          io.Writer
	piece      []byte
	any        bool // a piece was written
}

func (p *pieces) Write(text []byte) (int, error) {
	p.piece = append(p.piece, text...)
	if len(p.piece) < pieceBytes {
		return len(text), nil
	}
	return len(text), p.flush()
}

func (p *pieces) flush() error {
	packed, err := p.compressor.Compress(p.piece)
	if err != nil {
		return err
	}
	p.piece, p.any = p.piece[:0], true
	_, err = p.w.Write(packed)
	return err
}

func (p *pieces) Close() error {
	if len(p.piece) == 0 && p.any {
		return nil
	}
	return p.flush()
}
