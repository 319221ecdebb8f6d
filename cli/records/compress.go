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

// maxWindow caps the memory that a zstd file can request. zstd needs --ultra, or
// --long=28 and up, to exceed it.
const maxWindow = 128 << 20

// Decompress returns a reader of text that may be compressed with gzip or zstd, which
// it detects by the first bytes. It reads nothing from r before the first Read.
func Decompress(r io.Reader) io.Reader { return &decompressor{raw: &source{r: r}} }

type decompressor struct {
	raw  *source
	text io.Reader // nil before the first read
	kind string    // "" for plain text
	err  error     // of open
}

// source keeps the read error of its reader, which a decompressor may report as
// broken data.
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
	if d.text == nil && d.err == nil {
		d.err = d.open()
	}
	if d.err != nil {
		return 0, d.explain(d.err)
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
	return err
}

// gzipMagic begins every member of a gzip file.
var gzipMagic = []byte{0x1f, 0x8b}

var errNotGzip = errors.New("data that is not gzip follows the compressed data; gzip -dc drops it")

// members reads the members of a gzip file. Zeros after a member are padding, which
// tapes and block devices add; gzip and Python also skip them.
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

// next skips padding and opens the next member, or returns io.EOF.
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
	// If the magic number is incomplete, Reset reports truncated data.
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

// Compressed reports whether Decompress decompresses a file that begins with magic,
// its first four bytes or more.
func Compressed(magic []byte) bool { return isGzip(magic) || isZstd(magic) }

func isGzip(magic []byte) bool { return bytes.HasPrefix(magic, gzipMagic) }

// isZstd detects a frame and a skippable frame, with which parallel compressors begin.
func isZstd(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}

// explain adds to an error that the compressed data is broken.
func (d *decompressor) explain(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errNotGzip), d.kind == "":
		return err
	case d.raw.err != nil:
		return d.raw.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the %s data is truncated: %w", d.kind, err)
	}
	return fmt.Errorf("the %s data is broken: %w", d.kind, err)
}

// A Compressor compresses pieces of a text independently. Concatenated pieces are a
// file, and a file that ends after any piece is readable.
type Compressor struct {
	encoder encoder // nil for no compression
}

type encoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

// NewCompressor returns a compressor for the extension of a file's name.
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

// Compress returns the compressed piece.
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

// pieceBytes is the size of the pieces that Writer compresses.
const pieceBytes = 1 << 20

// Writer returns a writer that compresses to w. Close writes the last piece and does
// not close w.
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
