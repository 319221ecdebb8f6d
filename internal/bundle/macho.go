package bundle

import (
	"bytes"
	"debug/macho"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Load commands that debug/macho does not parse.
const (
	lcLoadDylib     = 0xc
	lcIDDylib       = 0xd
	lcLoadWeakDylib = 0x80000018
	lcRunPath       = 0x8000001c
	lcSignature     = 0x1d
	lcReexportDylib = 0x8000001f
	lcLazyDylib     = 0x20
	lcVersionMin    = 0x24
	lcUpwardDylib   = 0x80000023
	lcBuildVersion  = 0x32
	lcSegment64     = 0x19
	headerSize      = 32 // of a 64-bit file
)

const arm64 = "arm64"

// Library names a library that a binary is linked with.
type Library struct {
	Name string // as in the load command
	Weak bool   // the binary runs without it
}

// Slice is the part of a Mach-O file for one architecture. A file that is not
// universal has one slice.
type Slice struct {
	Arch       string
	Kind       macho.Type
	ID         string // install name of a library
	Libraries  []Library
	RunPaths   []string
	Platform   string
	Minimum    Version // oldest macOS; zero if not set
	Signature  *Signature
	symbols    *macho.Symtab
	strings    []byte // section of constant strings
	data       []byte // bytes of the slice
	offset     int    // of data in the file
	commands   []command
	firstBytes int // offset of the contents, after the space for load commands
}

// command is a load command in the format of the file.
type command struct {
	kind uint32
	raw  []byte
	at   int // in the slice
}

// Binary holds a Mach-O file.
type Binary struct {
	Slices []*Slice
	data   []byte
}

// ReadBinary reads a Mach-O file, universal or not.
func ReadBinary(path string) (*Binary, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, err := parseBinary(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// parseBinary parses load commands with debug/macho, which accepts any input
// without panicking. This package parses the commands that debug/macho does not.
func parseBinary(data []byte) (*Binary, error) {
	b := &Binary{data: data}
	fat, err := macho.NewFatFile(bytes.NewReader(data))
	if errors.Is(err, macho.ErrNotFat) {
		file, err := macho.NewFile(bytes.NewReader(data))
		if err != nil {
			return nil, notMachO(data, err)
		}
		slice, err := newSlice(file, data, 0)
		b.Slices = []*Slice{slice}
		return b, err
	}
	if err != nil {
		return nil, notMachO(data, err)
	}
	for _, arch := range fat.Arches {
		start, end := uint64(arch.Offset), uint64(arch.Offset)+uint64(arch.Size)
		if end > uint64(len(data)) {
			return nil, fmt.Errorf("is cut off: its part for %s ends at %d, the file at %d", archName(arch.Cpu, arch.SubCpu), end, len(data))
		}
		slice, err := newSlice(arch.File, data[start:end:end], int(start))
		if err != nil {
			return nil, err
		}
		b.Slices = append(b.Slices, slice)
	}
	return b, nil
}

// notMachO describes a file that debug/macho cannot read.
func notMachO(data []byte, err error) error {
	if len(data) < 4 {
		return fmt.Errorf("is not a Mach-O file: it has %d bytes", len(data))
	}
	switch binary.LittleEndian.Uint32(data) {
	case macho.Magic64, macho.Magic32, 0xbebafeca: // MagicFat in the other byte order
		return fmt.Errorf("is a damaged Mach-O file: %w", err)
	}
	return fmt.Errorf("is not a Mach-O file: it starts with % x", data[:4])
}

func archName(cpu macho.Cpu, sub uint32) string {
	switch {
	case cpu == macho.CpuArm64 && sub&0xff == 2:
		return "arm64e"
	case cpu == macho.CpuArm64:
		return arm64
	case cpu == macho.CpuAmd64:
		return "x86_64"
	}
	return strings.ToLower(strings.TrimPrefix(cpu.String(), "Cpu"))
}

func newSlice(file *macho.File, data []byte, offset int) (*Slice, error) {
	s := &Slice{Arch: archName(file.Cpu, file.SubCpu), Kind: file.Type, symbols: file.Symtab, data: data, offset: offset}
	if file.Magic != macho.Magic64 || file.ByteOrder != binary.LittleEndian {
		return nil, fmt.Errorf("is a 32-bit or big-endian Mach-O file for %s, expected 64 bits and little-endian", s.Arch)
	}
	at := headerSize
	for _, load := range file.Loads {
		raw := load.Raw()
		c := command{kind: binary.LittleEndian.Uint32(raw), raw: raw, at: at}
		at += len(raw)
		s.commands = append(s.commands, c)
		if err := s.take(c); err != nil {
			return nil, err
		}
	}
	if s.Signature != nil && s.Signature.start < at {
		return nil, fmt.Errorf("is damaged: its signature starts at %d, inside its load commands", s.Signature.start)
	}
	s.firstBytes = len(data)
	for _, section := range file.Sections {
		if section.Offset != 0 && section.Size != 0 {
			s.firstBytes = min(s.firstBytes, int(section.Offset))
		}
	}
	if cstrings := file.Section("__cstring"); cstrings != nil {
		start, end := uint64(cstrings.Offset), uint64(cstrings.Offset)+cstrings.Size
		if start <= end && end <= uint64(len(data)) {
			s.strings = data[start:end]
		}
	}
	return s, s.checkWhole(file)
}

// checkWhole rejects a file that ends before one of its segments.
func (s *Slice) checkWhole(file *macho.File) error {
	for _, load := range file.Loads {
		segment, ok := load.(*macho.Segment)
		if !ok {
			continue
		}
		if end := segment.Offset + segment.Filesz; end < segment.Offset || end > uint64(len(s.data)) {
			return fmt.Errorf("is cut off: segment %s ends at %d, the file at %d", segment.Name, end, len(s.data))
		}
	}
	return nil
}

// take stores the contents of a load command.
func (s *Slice) take(c command) error {
	switch c.kind {
	case lcIDDylib, lcLoadDylib, lcLoadWeakDylib, lcReexportDylib, lcLazyDylib, lcUpwardDylib, lcRunPath:
		if at := c.word(2); at < 12 || uint64(at) >= uint64(len(c.raw)) {
			return fmt.Errorf("is damaged: the load command at %d has %d bytes and its name at %d", c.at, len(c.raw), at)
		}
	}
	switch c.kind {
	case lcIDDylib:
		s.ID = c.text()
	case lcLoadDylib, lcLoadWeakDylib, lcReexportDylib, lcLazyDylib, lcUpwardDylib:
		s.Libraries = append(s.Libraries, Library{c.text(), c.kind == lcLoadWeakDylib})
	case lcRunPath:
		s.RunPaths = append(s.RunPaths, c.text())
	case lcVersionMin:
		s.Platform, s.Minimum = platforms[1], packedVersion(c.word(2))
	case lcBuildVersion:
		// A zippered library has one for macOS and one for Mac Catalyst.
		if platform := platformName(c.word(2)); s.Platform != platforms[1] {
			s.Platform, s.Minimum = platform, packedVersion(c.word(3))
		}
	case lcSignature:
		start, end := uint64(c.word(2)), uint64(c.word(2))+uint64(c.word(3))
		if end > uint64(len(s.data)) {
			return fmt.Errorf("is cut off: its signature ends at %d, the file at %d", end, len(s.data))
		}
		signature, err := parseSignature(s.data, int(start), int(end))
		if err != nil {
			return fmt.Errorf("has a damaged signature: %w", err)
		}
		s.Signature = signature
	}
	return nil
}

var platforms = map[uint32]string{1: "macOS", 2: "iOS", 3: "tvOS", 4: "watchOS", 6: "Mac Catalyst", 7: "the iOS simulator", 11: "visionOS"}

func platformName(number uint32) string {
	if name, ok := platforms[number]; ok {
		return name
	}
	return fmt.Sprintf("platform %d", number)
}

// word returns a 32-bit word of a load command, 0 if the command is shorter.
func (c command) word(index int) uint32 {
	if len(c.raw) < 4*index+4 {
		return 0
	}
	return binary.LittleEndian.Uint32(c.raw[4*index:])
}

// text returns the string of a load command. The third word is its offset.
func (c command) text() string {
	text, _, _ := bytes.Cut(c.raw[c.word(2):], []byte{0})
	return string(text)
}

// Arch returns the slice for an architecture, nil if there is none.
func (b *Binary) Arch(name string) *Slice {
	for _, s := range b.Slices {
		if s.Arch == name {
			return s
		}
	}
	return nil
}

// archs lists the architectures of a file.
func (b *Binary) archs() string {
	var names []string
	for _, s := range b.Slices {
		names = append(names, s.Arch)
	}
	return strings.Join(names, " and ")
}

// links returns the link to the library with a file name.
func (s *Slice) links(file string) (Library, bool) {
	i := slices.IndexFunc(s.Libraries, func(l Library) bool { return baseName(l.Name) == file })
	if i < 0 {
		return Library{}, false
	}
	return s.Libraries[i], true
}

func baseName(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// isSystem reports whether a library belongs to macOS.
func isSystem(name string) bool {
	return strings.HasPrefix(name, "/usr/lib/") || strings.HasPrefix(name, "/System/")
}
