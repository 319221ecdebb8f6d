package bundle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/bundle/bundletest"
)

// read reads a valid binary.
func read(t testing.TB, path string) *Binary {
	t.Helper()
	b, err := ReadBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadBinary(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	const system = "/usr/lib/libSystem.B.dylib"
	for _, test := range []struct {
		file, archs, id string
		libraries       []string
		runPaths        []string
		minimum         string
		signed          bool
	}{
		{"old/libmlx.dylib", "arm64", "@rpath/libmlx.dylib", []string{system}, nil, "14.0", true},
		{"old/libmlxrank.dylib", "arm64", "@rpath/libmlxrank.dylib", []string{system, "@rpath/libmlx.dylib"}, []string{"@loader_path"}, "14.0", true},
		{"new/libmlx.dylib", "arm64", "@rpath/libmlx.dylib", []string{system, "@rpath/libjaccl.dylib"}, nil, "26.2", true},
		{"intel/libmlx.dylib", "x86_64", "@rpath/libmlx.dylib", []string{system}, nil, "14.0", false},
		{"program/found", "arm64", "", []string{system, "@rpath/libmlxr.dylib"}, []string{"@executable_path/../Frameworks"}, "14.0", true},
		{"program/universal", "x86_64 and arm64", "", []string{system, "@rpath/libmlxr.dylib"}, nil, "14.0", true},
	} {
		t.Run(test.file, func(t *testing.T) {
			b := read(t, fixtures.Path(test.file))
			s := b.Slices[len(b.Slices)-1]
			if b.archs() != test.archs || s.ID != test.id || s.Minimum.String() != test.minimum || s.Platform != "macOS" {
				t.Errorf("got %s, %q, %s %v", b.archs(), s.ID, s.Platform, s.Minimum)
			}
			var names []string
			for _, l := range s.Libraries {
				names = append(names, l.Name)
			}
			slices.Sort(names)
			slices.Sort(test.libraries)
			if !slices.Equal(names, test.libraries) || !slices.Equal(s.RunPaths, test.runPaths) {
				t.Errorf("libraries %q, run paths %q", names, s.RunPaths)
			}
			if (s.Signature != nil) != test.signed {
				t.Fatalf("signature %v", s.Signature)
			}
			if test.signed && (!s.Signature.AdHoc || s.Signature.Team != "" || s.Signature.Runtime || s.Signature.stale(s.data) != "") {
				t.Errorf("signature %+v, %s", s.Signature, s.Signature.stale(s.data))
			}
		})
	}
}

// TestSignedByTeam reads a binary that another program has signed.
func TestSignedByTeam(t *testing.T) {
	t.Parallel()
	dir := bundletest.Unpack(t, "testdata/signed.zip")
	s := read(t, dir+"/Signed.app/Contents/MacOS/Signed").Slices[0].Signature
	if s.AdHoc || s.Team != "MLXRTEST01" || !s.Runtime || s.Identifier != "org.example.signed" ||
		!reflect.DeepEqual(s.Entitlements, map[string]any{"com.apple.security.app-sandbox": true}) {
		t.Errorf("got %+v", s)
	}
}

func TestDamagedBinary(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	library, universal := read(t, fixtures.Path("old/libmlx.dylib")).data, read(t, fixtures.Path("program/universal")).data
	signature := read(t, fixtures.Path("old/libmlx.dylib")).Slices[0].Signature.start
	changed := func(at int, value uint32) []byte {
		data := bytes.Clone(library)
		binary.BigEndian.PutUint32(data[at:], value)
		return data
	}
	old := read(t, fixtures.Path("old/libmlx.dylib")).Slices[0]
	changedAt := func(at int, value uint32) []byte { // in the byte order of load commands
		data := bytes.Clone(library)
		binary.LittleEndian.PutUint32(data[at:], value)
		return data
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"name's offset":           {changedAt(old.find(lcIDDylib).at+8, 1<<30), "its name at 1073741824"},
		"signature's offset":      {changedAt(old.find(lcSignature).at+8, 8), "damaged signature"},
		"empty":                   {nil, "not a Mach-O file: it has 0 bytes"},
		"text":                    {[]byte("#!/bin/sh\n"), "not a Mach-O file: it starts with 23 21 2f 62"},
		"header only":             {library[:20], "damaged Mach-O file"},
		"load commands truncated": {library[:200], "damaged Mach-O file"},
		"truncated in the middle": {library[:len(library)/2], "damaged Mach-O file: EOF"},
		"last byte missing":       {library[:len(library)-1], "cut off"},
		"universal, truncated":    {universal[:len(universal)-1], "cut off"},
		"universal, header only":  {universal[:30], "damaged Mach-O file"},
		"not a signature":         {changed(signature, 0), "damaged signature: it does not start"},
		"signature's index":       {changed(signature+8, 1<<30), "damaged signature: its index of 1073741824 parts"},
		"signature's parts":       {changed(signature+16, 1<<30), "damaged signature: part 0 ends after the signature"},
		"no code directory":       {changed(signature+12, 77), "no code directory"},
		"too much to hash":        {changed(signature+20+32, 1<<30), "damaged signature: a code directory of 1073741824 bytes"},
		"too many hashes":         {changed(signature+20+28, 1<<30), "damaged signature: a code directory whose hashes lie outside"},
		"hashes of length 0":      {changed(signature+20+36, 0x00020000), "damaged signature"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseBinary(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	// A file without some of its last bytes is rejected.
	for n := range library {
		if n%97 == 0 {
			if _, err := parseBinary(library[:n]); err == nil {
				t.Fatalf("the first %d of %d bytes were accepted as a whole file", n, len(library))
			}
		}
	}
}

// find returns the first load command of a kind.
func (s *Slice) find(kind uint32) command {
	return s.commands[slices.IndexFunc(s.commands, func(c command) bool { return c.kind == kind })]
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	want := edits{id: "@rpath/a-longer-name.dylib", names: map[string]string{"@rpath/libmlx.dylib": "@loader_path/libmlx.dylib"}, runPaths: []string{frameworksPath}}
	for _, file := range []string{"old/libmlxrank.dylib", "program/universal", "intel/libmlxr.dylib"} {
		t.Run(file, func(t *testing.T) {
			old := read(t, fixtures.Path(file))
			before := bytes.Clone(old.data)
			data, err := old.rewrite(func(*Slice) edits { return want })
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(old.data, before) {
				t.Error("the file that was read changed")
			}
			b, err := parseBinary(data)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) != len(old.data) {
				t.Errorf("%d bytes, was %d", len(data), len(old.data))
			}
			for i, s := range b.Slices {
				was := old.Slices[i]
				if was.ID != "" && s.ID != want.id || !slices.Contains(s.RunPaths, frameworksPath) || len(s.RunPaths) != len(was.RunPaths)+1 {
					t.Errorf("name %q, run paths %q", s.ID, s.RunPaths)
				}
				for j, l := range s.Libraries {
					if name, ok := want.names[was.Libraries[j].Name]; l.Name != was.Libraries[j].Name && (!ok || l.Name != name) {
						t.Errorf("linked with %s, was %s", l.Name, was.Libraries[j].Name)
					}
				}
				if !bytes.Equal(s.data[s.firstBytes:s.signatureStart()], was.data[was.firstBytes:was.signatureStart()]) {
					t.Error("bytes outside the load commands and the signature changed")
				}
				if s.Signature != nil && s.Signature.stale(s.data) != "" {
					t.Error("the new signature is stale")
				}
			}
			again, err := b.rewrite(func(*Slice) edits { return want })
			if err != nil || !bytes.Equal(again, data) {
				t.Errorf("a second rewrite changes something, or fails: %v", err)
			}
		})
	}
}

// signatureStart returns the offset of the signature, which follows the slice's
// own bytes.
func (s *Slice) signatureStart() int {
	if s.Signature == nil {
		return len(s.data)
	}
	return s.Signature.start
}

// TestRewriteSigned checks that a certificate's signature is kept although it is
// stale.
func TestRewriteSigned(t *testing.T) {
	t.Parallel()
	dir := bundletest.Unpack(t, "testdata/signed.zip")
	old := read(t, dir+"/relaxed")
	data, err := old.rewrite(func(*Slice) edits { return edits{runPaths: []string{"@loader_path/x"}} })
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseBinary(data)
	if err != nil {
		t.Fatal(err)
	}
	s := b.Slices[0]
	if got := s.Signature.stale(s.data); got != "1 of its pages differ" {
		t.Errorf("stale: %q", got)
	}
}

func TestRewriteWithoutRoom(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	b := read(t, fixtures.Path("program/full"))
	long := edits{runPaths: []string{"@executable_path/" + strings.Repeat("x", b.Slices[0].firstBytes)}}
	if _, err := b.rewrite(func(*Slice) edits { return long }); err == nil || !strings.Contains(err.Error(), "-headerpad_max_install_names") {
		t.Errorf("got %v", err)
	}
	// The load commands cannot grow over unknown bytes.
	b = read(t, fixtures.Path("program/found"))
	data := bytes.Clone(b.data)
	data[b.Slices[0].firstBytes-1] = 1
	if b, err := parseBinary(data); err != nil {
		t.Error(err)
	} else if _, err := b.rewrite(func(*Slice) edits { return edits{runPaths: []string{"x"}} }); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("got %v", err)
	}
}

// FuzzMachO parses arbitrary bytes and rewrites the files that parse. The reader
// ignores most of a file, so the fuzzed bytes are either a whole file or replace
// a few bytes in the load commands or the signature of a valid one.
func FuzzMachO(f *testing.F) {
	fixtures := bundletest.Open(f, "testdata")
	good := []*Binary{
		read(f, fixtures.Path("old/libmlxrank.dylib")), read(f, fixtures.Path("program/universal")),
		read(f, fixtures.Path("intel/libmlx.dylib")), read(f, bundletest.Unpack(f, "testdata/signed.zip")+"/relaxed"),
	}
	for i, b := range good {
		last := b.Slices[len(b.Slices)-1]
		f.Add(uint8(i), false, uint16(last.offset), []byte{0xcf})
		for _, c := range last.commands {
			f.Add(uint8(i), false, uint16(last.offset+c.at), c.raw[:min(len(c.raw), 32)])
		}
		f.Add(uint8(i), true, uint16(12), []byte{0xff, 0xff})
	}
	f.Add(uint8(len(good)), false, uint16(0), good[0].data[:2048])
	f.Fuzz(func(t *testing.T, which uint8, inSignature bool, at uint16, patch []byte) {
		data := patch
		if int(which) < len(good) {
			last := good[which].Slices[len(good[which].Slices)-1]
			data = bytes.Clone(good[which].data)
			start := 0
			if inSignature {
				start = last.offset + last.signatureStart()
			}
			copy(data[min(start+int(at), len(data)):], patch)
		}
		b, err := parseBinary(data)
		if err != nil {
			return
		}
		for _, s := range b.Slices {
			if s.Signature != nil {
				s.Signature.stale(s.data)
				s.Signature.cdHashes()
			}
			s.wants(mlxLibrary)
			s.exports()
			s.mlxVersion()
			s.unsigned()
		}
		changed, err := b.rewrite(func(*Slice) edits {
			return edits{id: "@rpath/x", names: map[string]string{"@rpath/libmlx.dylib": "@loader_path/libmlx.dylib"}, runPaths: []string{"@loader_path"}}
		})
		if err != nil {
			return
		}
		again, err := parseBinary(changed)
		if err != nil {
			return // only the rewrite detects this damage
		}
		for i, s := range again.Slices {
			if len(s.Libraries) != len(b.Slices[i].Libraries) || !slices.Contains(s.RunPaths, "@loader_path") {
				t.Errorf("%v, was %v; run paths %v", s.Libraries, b.Slices[i].Libraries, s.RunPaths)
			}
		}
	})
}

func TestMetallib(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	for name, want := range map[string]struct {
		m     Metallib
		needs Version
	}{
		"old/mlx.metallib": {Metallib{Version{14, 0, 0}, Version{3, 1, 0}, 2, 0}, Version{14, 0, 0}},
		"new/mlx.metallib": {Metallib{Version{26, 2, 0}, Version{4, 0, 0}, 2, 1}, Version{26, 2, 0}},
	} {
		if got, err := ReadMetallib(fixtures.Path(name)); err != nil || *got != want.m || got.needs() != want.needs {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	// A metallib for an old system does not load there if its Metal version is newer.
	if got := (&Metallib{Minimum: Version{14, 0, 0}, Language: Version{4, 0, 0}}).needs(); got != (Version{26, 0, 0}) {
		t.Errorf("Metal 4.0 needs macOS %v", got)
	}
}

func TestDamagedMetallib(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	whole, err := os.ReadFile(fixtures.Path("old/mlx.metallib"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, value uint32) []byte {
		data := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(data[at:], value)
		return data
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                 {nil, "not a library of Metal kernels"},
		"text":                  {bytes.Repeat([]byte("text"), 50), `starts with "text"`},
		"cut":                   {whole[:len(whole)-1], fmt.Sprintf("it has %[2]d bytes, expected %[1]d", len(whole), len(whole)-1)},
		"for iOS":               {changed(4, 0x20001), "another system"},
		"list too long":         {changed(32, 1<<30), "list of functions ends"},
		"list outside the file": {changed(24, 1<<30), "list of functions ends"},
		"too many":              {changed(88, 1<<30), "function 2 of 1073741824"},
		"function's size":       {changed(92, 3), "function 0 of 2"},
		"field's length":        {changed(100, 0xffffffff), "field \"NAME\" ends"},
		"function too big":      {changed(92, 1<<20), "function 0 of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseMetallib(bytes.NewReader(test.data), int64(len(test.data))); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzMetallib(f *testing.F) {
	fixtures := bundletest.Open(f, "testdata")
	for _, name := range []string{"old/mlx.metallib", "new/mlx.metallib"} {
		data, err := os.ReadFile(fixtures.Path(name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parseMetallib(bytes.NewReader(data), int64(len(data))); err == nil && m.NAX > m.Functions {
			t.Errorf("%+v of %d bytes", m, len(data))
		}
	})
}
