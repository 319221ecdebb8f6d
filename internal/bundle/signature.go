package bundle

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // old code signatures are by SHA-1
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"howett.net/plist"
)

// The parts of a code signature, named as in xnu's cs_blobs.h. All numbers are
// big-endian.
const (
	superBlobMagic     = 0xfade0cc0
	directoryMagic     = 0xfade0c02
	entitlementsMagic  = 0xfade7171
	slotDirectory      = 0
	slotEntitlements   = 5
	slotAlternate      = 0x1000 // and the next four
	slotCMS            = 0x10000
	flagAdHoc          = 0x2
	flagRequireLV      = 0x2000
	flagRuntime        = 0x10000
	specialInfo        = 1
	specialSeal        = 3
	specialEntitlement = 5
)

const noLibraryValidation = "com.apple.security.cs.disable-library-validation"

// Signature holds the contents of a code signature. Its certificates are not
// checked; only macOS can do that.
type Signature struct {
	Identifier        string
	Team              string // "" for none
	AdHoc             bool   // without a certificate
	Runtime           bool   // the hardened runtime
	LibraryValidation bool   // enabled without the hardened runtime
	Entitlements      map[string]any
	directories       []directory
	entitlements      []byte // as stored in the signature
	start, end        int    // of the signature in the slice
}

// directory is a code directory, which holds the hashes of the code's pages.
type directory struct {
	at        int // in the slice
	raw       []byte
	hash      func([]byte) []byte
	hashSize  int
	first     int // offset of the first page's hash
	special   int // hashes before it
	pages     int
	pageSize  int
	codeLimit int
}

// parseSignature parses the signature at data[start:end].
func parseSignature(data []byte, start, end int) (*Signature, error) {
	blob := data[start:end]
	word := func(at int) uint32 { return binary.BigEndian.Uint32(blob[at:]) }
	if len(blob) < 12 || word(0) != superBlobMagic {
		return nil, errors.New("it does not start with the magic number of a signature")
	}
	count := int64(word(8))
	if 12+8*count > int64(len(blob)) {
		return nil, fmt.Errorf("its index of %d parts does not fit into %d bytes", count, len(blob))
	}
	s := &Signature{start: start, end: end}
	cms := false
	for i := range int(count) {
		slot, at := word(12+8*i), int64(word(16+8*i))
		if at+8 > int64(len(blob)) || at+int64(word(int(at)+4)) > int64(len(blob)) || word(int(at)+4) < 8 {
			return nil, fmt.Errorf("part %d ends after the signature", i)
		}
		magic, part := word(int(at)), blob[at:at+int64(word(int(at)+4))]
		switch {
		case magic == directoryMagic && (slot == slotDirectory || slot >= slotAlternate && slot < slotAlternate+5):
			d, err := parseDirectory(part, start+int(at), start)
			if err != nil {
				return nil, err
			}
			if d.hash != nil {
				s.directories = append(s.directories, d)
			}
			s.describe(part)
		case magic == entitlementsMagic && slot == slotEntitlements:
			s.entitlements = part
			if _, err := plist.Unmarshal(part[8:], &s.Entitlements); err != nil {
				return nil, fmt.Errorf("its entitlements: %w", err)
			}
		case slot == slotCMS:
			cms = len(part) > 8
		}
	}
	if len(s.directories) == 0 {
		return nil, errors.New("it has no code directory with a supported hash")
	}
	s.AdHoc = s.AdHoc || !cms
	return s, nil
}

// describe reads the identifier, the team and the flags of a code directory.
func (s *Signature) describe(raw []byte) {
	version, flags := binary.BigEndian.Uint32(raw[8:]), binary.BigEndian.Uint32(raw[12:])
	s.AdHoc = flags&flagAdHoc != 0
	s.Runtime = flags&flagRuntime != 0
	s.LibraryValidation = flags&flagRequireLV != 0
	s.Identifier = text(raw, binary.BigEndian.Uint32(raw[20:]))
	if version >= 0x20200 && len(raw) >= 52 {
		s.Team = text(raw, binary.BigEndian.Uint32(raw[48:]))
	}
}

// text returns the string at an offset, "" for offset 0.
func text(raw []byte, at uint32) string {
	if at == 0 || uint64(at) >= uint64(len(raw)) {
		return ""
	}
	found, _, _ := bytes.Cut(raw[at:], []byte{0})
	return string(found)
}

// parseDirectory parses a code directory of limit bytes of code. The hash function
// is nil if it is not supported.
func parseDirectory(raw []byte, at, limit int) (directory, error) {
	if len(raw) < 44 {
		return directory{}, fmt.Errorf("a code directory of %d bytes", len(raw))
	}
	word := func(i int) int64 { return int64(binary.BigEndian.Uint32(raw[i:])) }
	d := directory{at: at, raw: raw, first: int(word(16)), special: int(word(24)), pages: int(word(28)), codeLimit: int(word(32)), hashSize: int(raw[36])}
	d.hash = hashes[raw[37]]
	if word(8) >= 0x20300 && len(raw) >= 64 {
		if wide := binary.BigEndian.Uint64(raw[56:]); wide != 0 {
			if wide > uint64(limit) {
				return directory{}, fmt.Errorf("a code directory of %d bytes of code, where there are %d", wide, limit)
			}
			d.codeLimit = int(wide)
		}
	}
	if raw[39] > 30 {
		return directory{}, fmt.Errorf("pages of 2^%d bytes", raw[39])
	}
	d.pageSize = 1 << raw[39]
	if raw[39] == 0 { // one page of everything
		d.pageSize = max(d.codeLimit, 1)
	}
	switch before, behind := d.first-d.special*d.hashSize, int64(d.first)+int64(d.pages)*int64(d.hashSize); {
	case d.codeLimit > limit:
		return directory{}, fmt.Errorf("a code directory of %d bytes of code, where there are %d", d.codeLimit, limit)
	case before < 44 || behind > int64(len(raw)):
		return directory{}, errors.New("a code directory whose hashes lie outside of it")
	case d.pages != (d.codeLimit+d.pageSize-1)/d.pageSize:
		return directory{}, fmt.Errorf("a code directory with %d hashes for %d bytes in pages of %d", d.pages, d.codeLimit, d.pageSize)
	case d.hash != nil && len(d.hash(nil)) != d.hashSize:
		return directory{}, fmt.Errorf("a code directory with hashes of %d bytes", d.hashSize)
	}
	return d, nil
}

// hashes holds the supported hash functions of a code directory.
var hashes = map[byte]func([]byte) []byte{
	1: func(b []byte) []byte { sum := sha1.Sum(b); return sum[:] }, //nolint:gosec // see above
	2: func(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] },
	3: func(b []byte) []byte { sum := sha256.Sum256(b); return sum[:20] },
	4: func(b []byte) []byte { sum := sha512.Sum384(b); return sum[:] },
}

// page returns the bounds of a page's bytes and the offset of its hash.
func (d *directory) page(i int) (start, end, hash int) {
	start = i * d.pageSize
	return start, min(start+d.pageSize, d.codeLimit), d.first + i*d.hashSize
}

// stale describes how data differs from the signed data, "" if it does not.
func (s *Signature) stale(data []byte) string {
	if n := s.stalePages(data); n > 0 {
		return fmt.Sprintf("%d of its pages differ", n)
	}
	if s.entitlements != nil {
		if same, _ := s.seals(specialEntitlement, s.entitlements); !same {
			return "its entitlements differ"
		}
	}
	return ""
}

// stalePages counts the pages of code that were changed after signing.
func (s *Signature) stalePages(data []byte) int {
	stale := 0
	for _, d := range s.directories {
		for i := range d.pages {
			start, end, hash := d.page(i)
			if !bytes.Equal(d.hash(data[start:end]), d.raw[hash:hash+d.hashSize]) {
				stale++
			}
		}
	}
	return stale
}

// seals reports whether the signature has the hash of content in a special slot.
// known is false if the slot is empty.
func (s *Signature) seals(slot int, content []byte) (same, known bool) {
	for _, d := range s.directories {
		if slot > d.special {
			continue
		}
		hash := d.raw[d.first-slot*d.hashSize:][:d.hashSize]
		if bytes.Equal(hash, make([]byte, d.hashSize)) {
			continue
		}
		if !bytes.Equal(hash, d.hash(content)) {
			return false, true
		}
		known = true
	}
	return known, known
}

// cdHashes returns the hashes with which other signatures refer to this one.
func (s *Signature) cdHashes() [][]byte {
	var sums [][]byte
	for _, d := range s.directories {
		sums = append(sums, d.hash(d.raw)[:20])
	}
	return sums
}

// renew writes the hashes of the changed data into the signature inside data. The
// signature must be ad hoc: with a certificate, it would become invalid.
func (s *Signature) renew(data []byte) {
	for _, d := range s.directories {
		for i := range d.pages {
			start, end, hash := d.page(i)
			copy(data[d.at+hash:], d.hash(data[start:end]))
		}
	}
}
