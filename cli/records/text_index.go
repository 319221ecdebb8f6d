package records

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// A textIndex finds the offsets of lines by the hashes of their ids. It is a file, or a
// part of one, so that memory does not grow with the number of texts:
//
//	entries: hash, offset (8 bytes each, little endian), in this order
//	table:   for each value of the hash's highest bits, the number of entries before it;
//	         and the number of all entries
type textIndex struct {
	file  io.ReaderAt
	start int64 // of the entries
	count int64
	bits  uint
}

const (
	entryBytes  = 16
	bucketTexts = 64 // at most, on average
)

// tableBits returns the number of bits that select a bucket.
func tableBits(count int64) uint {
	bits := uint(0)
	for count>>bits > bucketTexts {
		bits++
	}
	return bits
}

// indexBytes returns the size of an index.
func indexBytes(count int64) int64 {
	return count*entryBytes + (1<<tableBits(count)+1)*8
}

// find returns the offsets of the lines whose ids may have this hash, in ascending
// order.
func (x *textIndex) find(hash uint64) ([]int64, error) {
	bucket := int64(0)
	if x.bits > 0 {
		bucket = int64(hash >> (64 - x.bits))
	}
	var ends [16]byte
	if err := x.read(ends[:], x.start+x.count*entryBytes+bucket*8); err != nil {
		return nil, err
	}
	first, end := int64(binary.LittleEndian.Uint64(ends[:8])), int64(binary.LittleEndian.Uint64(ends[8:]))
	if first < 0 || end < first || end > x.count {
		return nil, errors.New("the index of texts is damaged; remove it")
	}
	entries := make([]byte, (end-first)*entryBytes)
	if err := x.read(entries, x.start+first*entryBytes); err != nil {
		return nil, err
	}
	var offsets []int64
	for ; len(entries) > 0; entries = entries[entryBytes:] {
		if binary.LittleEndian.Uint64(entries) == hash {
			offsets = append(offsets, int64(binary.LittleEndian.Uint64(entries[8:])))
		}
	}
	return offsets, nil
}

func (x *textIndex) read(p []byte, at int64) error {
	n, err := x.file.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	return fmt.Errorf("read the index of texts: byte %d: %w", at, err)
}

// An indexBuilder sorts entries. Above spillBytes it keeps them in temporary files, each
// of which has a part of the hashes and is sorted alone.
type indexBuilder struct {
	parts [1 << partBits]indexPart
	held  int // bytes in memory
	count int64
}

type indexPart struct {
	held []byte
	file *os.File // nil if all is in memory
}

const (
	partBits   = 6
	spillBytes = 16 << 20
)

func (b *indexBuilder) add(hash uint64, offset int64) error {
	p := &b.parts[hash>>(64-partBits)]
	p.held = binary.LittleEndian.AppendUint64(p.held, hash)
	p.held = binary.LittleEndian.AppendUint64(p.held, uint64(offset))
	b.count++
	if b.held += entryBytes; b.held < spillBytes {
		return nil
	}
	b.held = 0
	for i := range b.parts {
		if err := b.parts[i].spill(); err != nil {
			return fmt.Errorf("index texts: %w", err)
		}
	}
	return nil
}

// spill moves the entries to a file.
func (p *indexPart) spill() (err error) {
	if p.file == nil {
		if p.file, err = Scratch(""); err != nil {
			return err
		}
	}
	_, err = p.file.Write(p.held)
	p.held = p.held[:0]
	return err
}

// entries returns the entries of a part, sorted by hash and offset.
func (p *indexPart) entries() ([][2]uint64, error) {
	raw := p.held
	if p.file != nil {
		if _, err := p.file.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		spilled, err := io.ReadAll(p.file)
		if err != nil {
			return nil, err
		}
		raw = append(spilled, raw...)
	}
	list := make([][2]uint64, 0, len(raw)/entryBytes)
	for ; len(raw) > 0; raw = raw[entryBytes:] {
		list = append(list, [2]uint64{binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(raw[8:])})
	}
	slices.SortFunc(list, func(a, b [2]uint64) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return list, nil
}

// write writes the index.
func (b *indexBuilder) write(w io.Writer) error {
	out, bits := bufio.NewWriter(w), tableBits(b.count)
	table := make([]uint64, 1<<bits+1) // entries of each bucket, and then their sums
	var entry [entryBytes]byte
	for i := range b.parts {
		list, err := b.parts[i].entries()
		if err != nil {
			return fmt.Errorf("index texts: %w", err)
		}
		for _, e := range list {
			binary.LittleEndian.PutUint64(entry[:8], e[0])
			binary.LittleEndian.PutUint64(entry[8:], e[1])
			if _, err := out.Write(entry[:]); err != nil {
				return err
			}
			bucket := uint64(0)
			if bits > 0 {
				bucket = e[0] >> (64 - bits)
			}
			table[bucket+1]++
		}
	}
	for i := range table {
		if i > 0 {
			table[i] += table[i-1]
		}
		binary.LittleEndian.PutUint64(entry[:8], table[i])
		if _, err := out.Write(entry[:8]); err != nil {
			return err
		}
	}
	return out.Flush()
}

// index returns the index in memory, or in a temporary file if it is large. close
// removes the file.
func (b *indexBuilder) index() (_ *textIndex, file io.Closer, err error) {
	x := &textIndex{count: b.count, bits: tableBits(b.count)}
	if b.count*entryBytes < spillBytes {
		var memory bytes.Buffer
		if err := b.write(&memory); err != nil {
			return nil, nil, err
		}
		x.file = bytes.NewReader(memory.Bytes())
		return x, nil, nil
	}
	scratch, err := Scratch("")
	if err != nil {
		return nil, nil, err
	}
	if err := b.write(scratch); err != nil {
		return nil, nil, errors.Join(err, scratch.Close())
	}
	x.file = scratch
	return x, scratch, nil
}

// close removes the temporary files.
func (b *indexBuilder) close() error {
	var errs []error
	for i := range b.parts {
		if file := b.parts[i].file; file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
