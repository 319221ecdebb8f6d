package bundle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// edits say what load commands of a file are to be.
type edits struct {
	id       string            // the install name, if it has one
	names    map[string]string // of linked libraries, by the name they have
	runPaths []string          // to be there
}

// rewrite returns the file with its load commands changed, in all its slices.
// It is the file itself where nothing is to be changed. An ad-hoc signature is
// made to hold again; another one no longer does.
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

// rewrite returns the new header and load commands of a slice, with the zeros
// behind them; nil if nothing is to be changed.
//
// Nothing refers to load commands by where they lie, but for the sizes in the
// header; linked libraries are counted, and they keep their order. So names can
// change as long as all fits in before the first section.
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

// assemble lays out a header and its load commands.
func (s *Slice) assemble(commands [][]byte) ([]byte, error) {
	all := slices.Concat(commands...)
	used, room := headerSize+int(binary.LittleEndian.Uint32(s.data[20:])), s.firstBytes
	if headerSize+len(all) > room {
		return nil, fmt.Errorf("there is no room for the names: load commands take %d bytes, of %d before the first section; link it with -Wl,-headerpad_max_install_names",
			headerSize+len(all), room)
	}
	if used > room || len(bytes.Trim(s.data[used:room], "\x00")) > 0 {
		return nil, fmt.Errorf("the space behind the load commands, from %d to %d, is in use: link it with the right names", used, room)
	}
	head := make([]byte, max(used, headerSize+len(all)))
	copy(head, s.data[:headerSize])
	copy(head[headerSize:], all)
	binary.LittleEndian.PutUint32(head[16:], uint32(len(commands)))
	binary.LittleEndian.PutUint32(head[20:], uint32(len(all)))
	return head, nil
}

// withText is a load command with another string, padded to eight bytes.
func (c command) withText(text string) []byte {
	at := int(c.word(2))
	size := (at + len(text) + 1 + 7) / 8 * 8
	raw := make([]byte, size)
	copy(raw, c.raw[:at])
	copy(raw[at:], text)
	binary.LittleEndian.PutUint32(raw[4:], uint32(size))
	return raw
}

// unsigned is what signing does not change of a slice, so that a file is known
// again after it was signed: all before the signature, without the sizes of the
// signature and of the segment that it lies in.
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

// sameCode reports whether a file of the app differs from the planned one in
// its signature at most. What is no Mach-O file, or is damaged, does differ.
func sameCode(planned, old []byte) (bool, error) {
	x, err := parseBinary(planned)
	if err != nil {
		return false, err
	}
	y, err := parseBinary(old)
	if err != nil {
		return false, nil //nolint:nilerr // it is to be replaced
	}
	return slices.EqualFunc(x.Slices, y.Slices, func(x, y *Slice) bool {
		return x.Arch == y.Arch && bytes.Equal(x.unsigned(), y.unsigned())
	}), nil
}
