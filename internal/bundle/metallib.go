package bundle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Metallib describes a library of Metal kernels. Apple has not published the
// format. These fields are known because they are the only ones that differ
// between the files of MLX for macOS 14 and for macOS 26.2.
type Metallib struct {
	Minimum   Version // macOS that it was compiled for
	Language  Version // newest Metal version of its functions
	Functions int
	NAX       int // functions that use the matrix units of M5
}

// languages maps the versions of Metal's language to the first macOS that loads
// them.
var languages = []struct{ language, macOS Version }{
	{Version{4, 0, 0}, Version{26, 0, 0}},
	{Version{3, 2, 0}, Version{15, 0, 0}},
	{Version{3, 1, 0}, Version{14, 0, 0}},
}

// needs returns the oldest macOS that loads the kernels.
func (m *Metallib) needs() Version {
	for _, l := range languages {
		if !m.Language.Less(l.language) && m.Minimum.Less(l.macOS) {
			return l.macOS
		}
	}
	return m.Minimum
}

const (
	metallibHeader = 88
	metallibMacOS  = 0x8001
	naxKernel      = "steel_gemm_fused_nax"
)

// ReadMetallib reads the header and the list of functions.
func ReadMetallib(path string) (*Metallib, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return readMetallib(file, path)
}

// readMetallib reads and closes the file.
func readMetallib(file *os.File, name string) (m *Metallib, err error) {
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if m, err = parseMetallib(file, info.Size()); err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return m, nil
}

func parseMetallib(r io.ReaderAt, size int64) (*Metallib, error) {
	head := make([]byte, metallibHeader)
	if n, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if n < metallibHeader || string(head[:4]) != "MTLB" {
		return nil, fmt.Errorf("is not a library of Metal kernels: it starts with %q", head[:min(n, 4)])
	}
	le := binary.LittleEndian
	if target := le.Uint16(head[4:]); target != metallibMacOS {
		return nil, fmt.Errorf("has Metal kernels for another system: target %#x, expected %#x for macOS", target, metallibMacOS)
	}
	if said := le.Uint64(head[16:]); said != uint64(size) {
		return nil, fmt.Errorf("is damaged: it has %[2]d bytes, expected %[1]d", said, size)
	}
	at, length := le.Uint64(head[24:]), le.Uint64(head[32:])
	if at > uint64(size) || length > uint64(size)-at || uint64(size)-at-length < 4 {
		return nil, fmt.Errorf("is damaged: its list of functions ends at %d, the file at %d", at+length, size)
	}
	list := make([]byte, 4+length) // the count comes first
	if _, err := r.ReadAt(list, int64(at)); err != nil {
		return nil, err
	}
	m := &Metallib{Minimum: Version{int(le.Uint16(head[12:])), int(le.Uint16(head[14:])), 0}}
	if err := m.takeFunctions(list); err != nil {
		return nil, fmt.Errorf("is damaged: %w", err)
	}
	return m, nil
}

// takeFunctions parses the list: a count, then the size and the tagged fields of
// each function.
func (m *Metallib) takeFunctions(list []byte) error {
	le := binary.LittleEndian
	m.Functions = int(le.Uint32(list))
	rest := list[4:]
	for i := range m.Functions {
		if len(rest) < 4 || uint64(le.Uint32(rest)) > uint64(len(rest)) || le.Uint32(rest) < 4 {
			return fmt.Errorf("function %d of %d ends after the end of the list", i, m.Functions)
		}
		entry := rest[4:le.Uint32(rest)]
		rest = rest[le.Uint32(rest):]
		if err := m.takeFunction(entry); err != nil {
			return fmt.Errorf("function %d: %w", i, err)
		}
	}
	return nil
}

func (m *Metallib) takeFunction(entry []byte) error {
	le := binary.LittleEndian
	named := false
	for len(entry) >= 6 && string(entry[:4]) != "ENDT" {
		length := int(le.Uint16(entry[4:]))
		if len(entry) < 6+length {
			return fmt.Errorf("its field %q ends after the function", entry[:4])
		}
		tag, value := string(entry[:4]), entry[6:6+length]
		entry = entry[6+length:]
		switch {
		case tag == "NAME" && !named:
			named = true
			name, _, _ := bytes.Cut(value, []byte{0})
			if strings.Contains(string(name), naxKernel) {
				m.NAX++
			}
		case tag == "VERS" && length == 8: // version of AIR, then of the language
			if v := (Version{int(le.Uint16(value[4:])), int(le.Uint16(value[6:])), 0}); m.Language.Less(v) {
				m.Language = v
			}
		}
	}
	return nil
}
