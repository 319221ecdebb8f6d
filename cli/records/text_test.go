package records

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/klauspost/compress/gzip"
)

// wide encodes a text in UTF-16.
func wide(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// wider encodes a text in UTF-32.
func wider(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, r := range text {
		b = order.AppendUint32(b, uint32(r))
	}
	return string(b)
}

// notText holds beginnings of files that are not text, with the error for each.
func notText(t testing.TB) map[string][]string {
	t.Helper()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		program = []byte("\x7fELF\x02\x01\x01\x00\x00")
	}
	packed := new(bytes.Buffer)
	w := gzip.NewWriter(packed)
	if _, err := io.WriteString(w, "a\tb\n"); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	text := "Ein Satz, wie er im Büche steht.\nNoch einer.\n"
	return map[string][]string{
		"\xff\xfe" + wide(binary.LittleEndian, text):               {"UTF-16", "iconv -f UTF-16 -t UTF-8"},
		"\xfe\xff" + wide(binary.BigEndian, text):                  {"UTF-16", "iconv -f UTF-16 -t UTF-8"},
		wide(binary.LittleEndian, text):                            {"UTF-16LE", "iconv -f UTF-16LE -t UTF-8"},
		wide(binary.BigEndian, text):                               {"UTF-16BE", "iconv -f UTF-16BE -t UTF-8"},
		wide(binary.LittleEndian, "ab cd\n"):                       {"UTF-16LE"},
		"\xff\xfe\x00\x00" + wider(binary.LittleEndian, text):      {"UTF-32", "iconv -f UTF-32"},
		"\x00\x00\xfe\xff" + wider(binary.BigEndian, text):         {"UTF-32", "iconv -f UTF-32"},
		wider(binary.LittleEndian, text):                           {"UTF-32LE"},
		wider(binary.BigEndian, "ab cd\n"):                         {"UTF-32BE"},
		"\xfd7zXZ\x00\x00\x04\xe6":                                 {"an xz file", "xz -d"},
		"BZh91AY&SY\x4e\xece\x8c":                                  {"a bzip2 file", "bzip2 -d"},
		"PK\x03\x04\x14\x00\x06\x00\x08\x00":                       {"a ZIP file or an Office document"},
		"\x04\"M\x18d@\xa7":                                        {"an lz4 file", "lz4 -d"},
		"PAR1\x15\x04\x15\x1e\x15\"L\x15\x02":                      {"a Parquet file", "JSON lines"},
		"ARROW1\x00\x00\xff\xff\xff\xff":                           {"an Arrow file"},
		"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj":                     {"a PDF file", "pdftotext"},
		"%PDF-1.3\n1 0 obj\n":                                      {"a PDF file"},
		"SQLite format 3\x00\x10\x00":                              {"an SQLite database"},
		string(program[:min(len(program), 10_000)]):                {"a program"},
		"\xcf\xfa\xed\xfe\x0c\x00\x00\x01":                         {"a program (Mach-O)"},
		"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR":                      {"a PNG image"},
		"\xff\xd8\xff\xe0\x00\x10JFIF\x00":                         {"a JPEG image"},
		"GIF89a\x01\x00\x01\x00\x80":                               {"a GIF image"},
		"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00":                     {"an Office document"},
		"{\\rtf1\\ansi Hello}":                                     {"an RTF document"},
		packed.String():                                            {"a gzip file inside another"},
		"docs/" + strings.Repeat("\x00", 252) + "ustar  \x00":      {"a tar archive"},
		"version https://git-lfs.github.com/spec/v1\noid sha256:0": {"a Git LFS pointer"},
		"\x01\x02\x03\x04\x05\x06\x07\x00 abc":                     {"binary data"},
		strings.Repeat("\x00", 4096):                               {"binary data"},
	}
}

// isText are texts that begin as files of other kinds do, or end in the middle
// of a character.
var isText = []string{
	"", "a", "BM25 is a ranking function.\n", "PAR1 is a receptor.\n", "MZ twins\n", "ORC\tb\n", "GIF8 images\n", "PKCS\n", "RIFF and raff\n", "ID3 tags\n",
	"caf\xe9 in Latin-1\n", strings.Repeat("\xcf\xf0\xe8\xe2\xe5\xf2 ", 50), "\u65e5\u672c\u8a9e", "\xe6\x97", "\x1b[31mred\x1b[0m\n", "a\x00b is one bad line of many\n", "\ufeffa\n", "{\"a\":1}\n", "\r\n\f\n",
}

func TestSniff(t *testing.T) {
	for file, words := range notText(t) {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(file), "byte by byte": iotest.OneByteReader(strings.NewReader(file))} {
			_, err := NewLines("f", r).read()
			if err == nil || !strings.HasPrefix(err.Error(), "f: looks like ") {
				t.Errorf("%.20q, %s: got %v, want %q", file, name, err, words)
				continue
			}
			for _, word := range words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%.20q, %s: %v lacks %q", file, name, err, word)
				}
			}
		}
		if _, err := ReadDocuments("f", strings.NewReader(file), LinesOf, NoHeader, Fields{}); err == nil || !strings.Contains(err.Error(), "looks like") {
			t.Errorf("documents %.20q: got %v", file, err)
		}
		if _, err := NewReader("f", strings.NewReader(file), Options{Format: TSV}); err == nil || !strings.Contains(err.Error(), "looks like") {
			t.Errorf("pairs %.20q: got %v", file, err)
		}
	}
	for _, text := range isText {
		if _, err := NewLines("f", strings.NewReader(text)).read(); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestSniffReadsOneLine checks that sniffing needs only the first line.
func TestSniffReadsOneLine(t *testing.T) {
	l := NewLines("f", io.MultiReader(strings.NewReader("a"), strings.NewReader("\n"), readerFunc(func([]byte) (int, error) {
		t.Error("read on behind the first line")
		return 0, io.EOF
	})))
	if line, err := l.Next(); err != nil || string(line) != "a" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestCheckText(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"é\u2028\ufeff😀\r":         "",
		"\x1b[1m\x07":              "",
		"caf\xe9":                  "byte 0xE9 at column 4; Latin-1?",
		"é\x93quoted\x94":          "byte 0x93 at column 2; Windows-1252?",
		"\xcf\xf0\xe8\xe2\xe5\xf2": "byte 0xCF at column 1); convert it with iconv -f ENCODING -t UTF-8", // Cyrillic
		"\xed\xa0\x80":             "byte 0xED at column 1",                                              // a surrogate
		"\xc0\x80":                 "byte 0xC0 at column 1",                                              // an overlong NUL
		"\xe6\x97":                 "byte 0xE6 at column 1",                                              // cut short
		"ab\x00":                   "NUL byte at column 3",
		"\x8f\x01k\x02Zq\x00ab":    "byte 0x8F at column 1); it looks like binary data",
	} {
		err := CheckText([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// TestMacLineEnds refuses a file whose lines end as on old Macs.
func TestMacLineEnds(t *testing.T) {
	for _, text := range []string{"a\rb\rc", "a\rb\r"} {
		if _, err := NewLines("f", strings.NewReader(text)).Next(); err == nil || !strings.Contains(err.Error(), "tr '\\r' '\\n'") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	for _, text := range []string{"a\rb\n", "a\r", "a\r\r"} {
		if _, err := NewLines("f", strings.NewReader(text)).Next(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
