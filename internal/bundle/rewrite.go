package bundle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// edits holds the wanted contents of a file's load commands.
type edits struct {
	id       string            // install name, if the file has one
	names    map[string]string // new names of linked libraries, by the old names
	runPaths []string          // added if missing
}

// rewrite returns the file with the load commands of all slices changed, or the
// file itself if nothing changes. It renews an ad-hoc signature; another signature
// becomes invalid.
func (b *Binary) rewrite(wanted func(*Slice) edits) ([]byte, error) {
	var data []byte
	for _, s := range b.Slices {
		head, err := s.rewrite(wanted(s))
		if err != nil {
			return nil, err
		}
		if head == nil {
			continue
		}
		if data == nil {
			data = bytes.Clone(b.data)
		}
		own := data[s.offset : s.offset+len(s.data)]
		copy(own, head)
		if s.Signature != nil && s.Signature.AdHoc {
			s.Signature.renew(own)
		}
	}
	if data == nil {
		return b.data, nil
	}
	return data, nil
}

// rewrite returns the new header and load commands of a slice, followed by zeros;
// nil if nothing changes.
//
// Only the sizes in the header depend on the offsets of load commands. Symbols
// refer to linked libraries by their order, which stays. So names can change as
// long as all load commands fit before the first section.
func (s *Slice) rewrite(e edits) ([]byte, error) {
	var commands [][]byte
	changed := false
	missing := slices.Clone(e.runPaths)
	for _, c := range s.commands {
		raw := c.raw
		switch c.kind {
		case lcIDDylib:
			if e.id != "" && e.id != c.text() {
				raw, changed = c.withText(e.id), true
			}
		case lcLoadDylib, lcLoadWeakDylib, lcReexportDylib, lcLazyDylib, lcUpwardDylib:
			if name, ok := e.names[c.text()]; ok && name != c.text() {
				raw, changed = c.withText(name), true
			}
		case lcRunPath:
			missing = slices.DeleteFunc(missing, func(path string) bool { return path == c.text() })
		}
		commands = append(commands, raw)
	}
	for _, path := range missing {
		blank := command{kind: lcRunPath, raw: make([]byte, 12)}
		binary.LittleEndian.PutUint32(blank.raw, lcRunPath)
		binary.LittleEndian.PutUint32(blank.raw[8:], 12)
		commands, changed = append(commands, blank.withText(path)), true
	}
	if !changed {
		return nil, nil
	}
	return s.assemble(commands)
}

// assemble returns a header followed by load commands.
func (s *Slice) assemble(commands [][]byte) ([]byte, error) {
	all := slices.Concat(commands...)
	used, room := headerSize+int(binary.LittleEndian.Uint32(s.data[20:])), s.firstBytes
	if headerSize+len(all) > room {
		return nil, fmt.Errorf("no room for the names: load commands need %d bytes, limit %d before the first section; link it with -Wl,-headerpad_max_install_names",
			headerSize+len(all), room)
	}
	if used > room || len(bytes.Trim(s.data[used:room], "\x00")) > 0 {
		return nil, fmt.Errorf("the space after the load commands, from %d to %d, is not empty: link it with the right names", used, room)
	}
	head := make([]byte, max(used, headerSize+len(all)))
	copy(head, s.data[:headerSize])
	copy(head[headerSize:], all)
	binary.LittleEndian.PutUint32(head[16:], uint32(len(commands)))
	binary.LittleEndian.PutUint32(head[20:], uint32(len(all)))
	return head, nil
}

// withText returns the load command with another string, padded to eight bytes.
func (c command) withText(text string) []byte {
	at := int(c.word(2))
	size := (at + len(text) + 1 + 7) / 8 * 8
	raw := make([]byte, size)
	copy(raw, c.raw[:at])
	copy(raw[at:], text)
	binary.LittleEndian.PutUint32(raw[4:], uint32(size))
	return raw
}

// unsigned returns the bytes of a slice that signing does not change, so that a
// signed file can be recognised: everything before the signature, with the sizes
// of the signature and of its segment set to zero.
func (s *Slice) unsigned() []byte {
	if s.Signature == nil {
		return s.data
	}
	data := bytes.Clone(s.data[:s.Signature.start])
	for _, c := range s.commands {
		switch {
		case c.kind == lcSignature:
			clear(data[c.at+8 : c.at+len(c.raw)])
		case c.kind == lcSegment64 && string(bytes.TrimRight(c.raw[8:24], "\x00")) == "__LINKEDIT":
			clear(data[c.at+32 : c.at+40]) // its size in memory
			clear(data[c.at+48 : c.at+56]) // and in the file
		}
	}
	return data
}

// sameCode reports whether a file of the app equals the planned file except for its
// signature. A damaged file, or one that is not Mach-O, is different.
func sameCode(planned, old []byte) (bool, error) {
	x, err := parseBinary(planned)
	if err != nil {
		return false, err
	}
	y, err := parseBinary(old)
	if err != nil {
		return false, nil //nolint:nilerr // the file will be replaced
	}
	return slices.EqualFunc(x.Slices, y.Slices, func(x, y *Slice) bool {
		return x.Arch == y.Arch && bytes.Equal(x.unsigned(), y.unsigned())
	}), nil
}
