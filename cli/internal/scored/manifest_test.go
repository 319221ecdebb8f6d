package scored

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// partOf returns the file of a part with these lines.
func partOf(t *testing.T, lines string) ([]byte, Manifest) {
	t.Helper()
	sum := newDigester()
	sum.add([]byte(lines))
	m := Manifest{Version: manifestVersion, Part: 3, Of: 16, Kind: OutputLines, Output: sum.digest(), Records: 2, Settings: []Setting{{"dtype", "float32"}},
		Whole: Place{9, 2, []byte{1}}, Start: Place{0, 0, []byte{2}}, End: Place{9, 2, []byte{1}}}
	file, err := m.appendTo([]byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	return file, m
}

// TestReadPart reads parts whose lines are longer and shorter than the buffers, whole and
// byte by byte, and finds every changed byte of a small one.
func TestReadPart(t *testing.T) {
	for _, lines := range []string{"", "\n", "one\ntwo\n", "no end", strings.Repeat("x", 3*maxManifest) + "\n", strings.Repeat("a line\n", maxManifest)} {
		file, want := partOf(t, lines)
		var got bytes.Buffer
		take := func(p []byte) error { got.Write(p); return nil }
		m, err := ReadPart(bytes.NewReader(file), take)
		if lines == "no end" {
			if err == nil {
				t.Error("no error for lines without an end")
			}
			continue
		}
		if err != nil || got.String() != lines || !reflect.DeepEqual(m, want) {
			t.Errorf("%.20q: %v, %d bytes, %+v, want %d and %+v", lines, err, got.Len(), m, len(lines), want)
		}
		if len(lines) > 100 {
			continue
		}
		if _, err := ReadPart(iotest.OneByteReader(bytes.NewReader(file)), take); err != nil {
			t.Error(err)
		}
		for i := range lines {
			bad := bytes.Clone(file)
			bad[i] ^= 1
			if _, err := ReadPart(bytes.NewReader(bad), take); err == nil {
				t.Errorf("%.20q: no error for a change of byte %d", lines, i)
			}
		}
		for n := range file {
			if _, err := ReadPart(bytes.NewReader(file[:n]), take); err == nil {
				t.Errorf("%.20q: no error for the first %d of %d bytes", lines, n, len(file))
			}
		}
	}
}

// FuzzReadPart checks that any file gives an error, or lines and a manifest of them.
func FuzzReadPart(f *testing.F) {
	f.Add([]byte("one\n"))
	f.Add([]byte(`{"mlxrank_part":{"version":1,"part":1,"of":1,"kind":"lines","output":{"bytes":0,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}}` + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		sum := newDigester()
		m, err := ReadPart(bytes.NewReader(file), func(p []byte) error { sum.add(p); return nil })
		if err == nil && !reflect.DeepEqual(sum.digest(), m.Output) {
			t.Errorf("lines with %+v, and the manifest has %+v", sum.digest(), m.Output)
		}
	})
}
