package weights

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

const maxCharsmap = 8 << 20 // bytes; real models have a quarter of a megabyte

// A charsmap is the table of a Precompiled normalizer, which SentencePiece made: a
// double array that maps texts to offsets of their replacements.
type charsmap struct {
	units  []byte // of the double array: 32 bits each, little endian
	text   []byte // replacements, each ended by NUL
	base64 string // of the whole table
}

// parseCharsmap parses a table in base64. It checks what the tokenizer library does
// not: that no lookup leaves the array or the text, which would be a panic.
func parseCharsmap(encoded string) (*charsmap, error) {
	if len(encoded) > maxCharsmap {
		return nil, fmt.Errorf("%d bytes (limit %d)", len(encoded), maxCharsmap)
	}
	data, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("not valid base64: %w", err)
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("%d bytes, expected the size of a double array first", len(data))
	}
	size := uint64(binary.LittleEndian.Uint32(data))
	if size == 0 || size%4 != 0 || size > uint64(len(data)-4) {
		return nil, fmt.Errorf("a double array of %d bytes in a table of %d, expected a multiple of 4 that fits", size, len(data))
	}
	c := &charsmap{units: data[4 : 4+size], text: data[4+size:], base64: base64.StdEncoding.EncodeToString(data)}
	if !utf8.Valid(c.text) {
		return nil, errors.New("the replacements are not valid UTF-8")
	}
	return c, c.check()
}

// A unit is an element of a double array.
type unit uint32

func (c *charsmap) unit(i uint32) unit { return unit(binary.LittleEndian.Uint32(c.units[4*i:])) }

func (u unit) label() uint32  { return uint32(u) & (1<<31 | 0xFF) }
func (u unit) hasLeaf() bool  { return u>>8&1 == 1 }
func (u unit) value() uint32  { return uint32(u) & (1<<31 - 1) }
func (u unit) offset() uint32 { return uint32(u) >> 10 << (uint32(u) & (1 << 9) >> 6) }

// check visits every node of the double array.
func (c *charsmap) check() error {
	count := uint32(len(c.units) / 4)
	seen := make([]bool, count|0xFF+1)
	queue := []uint32{c.unit(0).offset()}
	for len(queue) > 0 {
		node := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		// The children of a node are at its position combined with any byte.
		if node|0xFF >= count {
			return fmt.Errorf("the double array has %d elements, but a node at %d", count, node)
		}
		if seen[node] {
			continue
		}
		seen[node] = true
		for label := uint32(1); label < 256; label++ {
			child := c.unit(node ^ label)
			if child.label() != label {
				continue
			}
			next := node ^ label ^ child.offset()
			if next >= count {
				return fmt.Errorf("the double array has %d elements, but a node at %d", count, next)
			}
			if child.hasLeaf() {
				if err := c.checkValue(c.unit(next).value()); err != nil {
					return err
				}
			}
			queue = append(queue, next)
		}
	}
	return nil
}

// checkValue checks the offset of a replacement.
func (c *charsmap) checkValue(at uint32) error {
	if uint64(at) > uint64(len(c.text)) || int(at) < len(c.text) && !utf8.RuneStart(c.text[at]) {
		return fmt.Errorf("a replacement at byte %d of %d, expected the start of a character", at, len(c.text))
	}
	return nil
}

// transform returns the replacement of a text: that of its shortest part from the
// start that has one, as the tokenizer library does.
func (c *charsmap) transform(text string) (replacement string, ok bool) {
	node := c.unit(0).offset()
	for i := 0; i < len(text) && text[i] != 0; i++ {
		label := uint32(text[i])
		child := c.unit(node ^ label)
		if child.label() != label {
			return "", false
		}
		node ^= label ^ child.offset()
		if child.hasLeaf() {
			rest := c.text[c.unit(node).value():]
			if end := bytes.IndexByte(rest, 0); end >= 0 {
				rest = rest[:end]
			}
			return string(rest), true
		}
	}
	return "", false
}
