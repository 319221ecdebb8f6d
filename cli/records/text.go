package records

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// CheckText returns an error for a text with a byte that is not UTF-8 or a NUL. All
// other characters are text. Only a newline ends a line, unlike U+2028, a form feed
// or a carriage return inside a line.
func CheckText(text []byte) error {
	if utf8.Valid(text) && bytes.IndexByte(text, 0) < 0 {
		return nil
	}
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		switch {
		case r == utf8.RuneError && size == 1:
			return notUTF8(text, at)
		case r == 0:
			return fmt.Errorf("NUL byte at column %d: not text, but binary data or UTF-16", utf8.RuneCount(text[:at])+1)
		}
		at += size
	}
	return nil
}

// notUTF8 returns the error of a line with a byte that is not UTF-8. It guesses the
// encoding of a line of mostly ASCII, as in Western languages: bytes from 0x80 to 0x9F
// are letters and quotation marks in Windows-1252, and no text of Latin-1 has them.
func notUTF8(line []byte, at int) error {
	guess, encoding, high := "; Latin-1?", "ISO-8859-1", 0
	for rest := line; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			high++
			if rest[0] < 0xa0 {
				guess, encoding = "; Windows-1252?", "WINDOWS-1252"
			}
		}
		rest = rest[size:]
	}
	if looksBinary(line) {
		return fmt.Errorf("not UTF-8 (byte 0x%02X at column %d); it looks like binary data", line[at], utf8.RuneCount(line[:at])+1)
	}
	if 2*high > len(line) {
		guess, encoding = "", "ENCODING"
	}
	return fmt.Errorf("not UTF-8 (byte 0x%02X at column %d%s); convert it with iconv -f %s -t UTF-8",
		line[at], utf8.RuneCount(line[:at])+1, guess, encoding)
}

// looksBinary reports whether more than one byte in 16 is a control character that no text
// needs.
func looksBinary(line []byte) bool {
	control := 0
	for _, b := range line {
		if b < ' ' && !bytes.ContainsRune([]byte("\t\n\f\r\x1b"), rune(b)) {
			control++
		}
	}
	return 16*control > len(line)
}

// trimEnd drops the carriage returns at the end of a line.
func trimEnd(line []byte) []byte { return bytes.TrimRight(line, "\r") }

// A kind is a file format that is not text.
type kind struct {
	at     int    // offset of magic
	magic  string // bytes that identify the format
	name   string
	advice string
	plain  bool // files may look like text
}

const (
	exportText = "export its text first"
	giveText   = "give a text file"
	toJSONL    = "convert it to JSON lines, for example with DuckDB or pandas"
)

// kinds lists the formats that users pass by mistake. A kind without plain matches
// only if the file also has bytes that text never has: a passage may begin with "BM"
// or "PAR1".
var kinds = []kind{
	{magic: "\xff\xfe\x00\x00", name: "UTF-32 text", advice: "convert it with iconv -f UTF-32 -t UTF-8"},
	{magic: "\x00\x00\xfe\xff", name: "UTF-32 text", advice: "convert it with iconv -f UTF-32 -t UTF-8"},
	{magic: "\xff\xfe", name: "UTF-16 text", advice: "convert it with iconv -f UTF-16 -t UTF-8"},
	{magic: "\xfe\xff", name: "UTF-16 text", advice: "convert it with iconv -f UTF-16 -t UTF-8"},
	{magic: "%PDF-", name: "a PDF file", advice: "extract its text, for example with pdftotext", plain: true},
	{magic: "{\\rtf", name: "an RTF document", advice: exportText, plain: true},
	{magic: "%!PS", name: "a PostScript file", advice: "extract its text, for example with ps2ascii", plain: true},
	{magic: "version https://git-lfs.github.com/spec/", name: "a Git LFS pointer", advice: "fetch the file with git lfs pull", plain: true},
	{magic: "\xfd7zXZ\x00", name: "an xz file", advice: "unpack it with xz -d"},
	{at: 4, magic: "1AY&SY", name: "a bzip2 file", advice: "unpack it with bzip2 -d"},
	{at: 4, magic: "\x17\x72\x45\x38\x50\x90", name: "a bzip2 file", advice: "unpack it with bzip2 -d"},
	{magic: "\x04\"M\x18", name: "an lz4 file", advice: "unpack it with lz4 -d"},
	{magic: "\x02!L\x18", name: "an lz4 file", advice: "unpack it with lz4 -d"},
	{magic: "\x1f\x8b", name: "a gzip file inside another", advice: "unpack it once with gzip -d"},
	{magic: "\x28\xb5\x2f\xfd", name: "a zstd file inside another", advice: "unpack it once with zstd -d"},
	{magic: "\x1f\x9d", name: "a file of compress", advice: "unpack it with uncompress"},
	{magic: "\xff\x06\x00\x00sNaPpY", name: "a Snappy file", advice: "unpack it first"},
	{magic: "LZIP", name: "an lzip file", advice: "unpack it with lzip -d"},
	{magic: "7z\xbc\xaf\x27\x1c", name: "a 7-Zip archive", advice: "unpack it first"},
	{magic: "Rar!\x1a\x07", name: "a RAR archive", advice: "unpack it first"},
	{at: 257, magic: "ustar", name: "a tar archive", advice: "unpack it with tar -x"},
	{magic: "PK\x03\x04", name: "a ZIP file or an Office document", advice: "unpack it or export its text first"},
	{magic: "PK\x05\x06", name: "an empty ZIP file", advice: giveText},
	{magic: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", name: "an Office document", advice: exportText},
	{magic: "PAR1", name: "a Parquet file", advice: "give --format parquet where there is that flag, or convert it to JSON lines, for example with DuckDB or pandas"},
	{magic: "ARROW1", name: "an Arrow file", advice: toJSONL},
	{magic: "\xff\xff\xff\xff", name: "an Arrow stream", advice: toJSONL},
	{magic: "Obj\x01", name: "an Avro file", advice: toJSONL},
	{magic: "ORC", name: "an ORC file", advice: toJSONL},
	{magic: "\x89HDF\r\n", name: "an HDF5 file", advice: toJSONL},
	{magic: "\x93NUMPY", name: "a NumPy file", advice: toJSONL},
	{magic: "SQLite format 3\x00", name: "an SQLite database", advice: "export a table with sqlite3 -json or -tabs"},
	{magic: "\x7fELF", name: "a program (ELF)", advice: giveText},
	{magic: "\xcf\xfa\xed\xfe", name: "a program (Mach-O)", advice: giveText},
	{magic: "\xce\xfa\xed\xfe", name: "a program (Mach-O)", advice: giveText},
	{magic: "\xca\xfe\xba\xbe", name: "a program (Mach-O or Java)", advice: giveText},
	{magic: "MZ", name: "a program (Windows)", advice: giveText},
	{magic: "\x00asm", name: "a program (WebAssembly)", advice: giveText},
	{magic: "\x89PNG\r\n", name: "a PNG image", advice: giveText},
	{magic: "\xff\xd8\xff", name: "a JPEG image", advice: giveText},
	{magic: "GIF8", name: "a GIF image", advice: giveText},
	{magic: "II*\x00", name: "a TIFF image", advice: giveText},
	{magic: "MM\x00*", name: "a TIFF image", advice: giveText},
	{at: 8, magic: "WEBP", name: "a WebP image", advice: giveText},
	{magic: "BM", name: "a BMP image", advice: giveText},
	{magic: "RIFF", name: "a sound or video file", advice: giveText},
	{magic: "OggS", name: "a sound or video file", advice: giveText},
	{magic: "ID3", name: "a sound file", advice: giveText},
	{at: 4, magic: "ftyp", name: "a video file", advice: giveText},
	{magic: "GGUF", name: "a GGUF model", advice: giveText},
}

// sniffBytes is the number of bytes that sniff needs.
const sniffBytes = 512

// Sniff returns an error if a file that begins with head is not text. head has at
// least the first line or sniffBytes.
func Sniff(head []byte) error {
	plain := isPlain(head)
	for _, k := range kinds {
		if (k.plain || !plain) && len(head) > k.at && bytes.HasPrefix(head[k.at:], []byte(k.magic)) {
			return fmt.Errorf("looks like %s, not UTF-8 text; %s", k.name, k.advice)
		}
	}
	if plain {
		return nil
	}
	if name := wideText(head); name != "" {
		return fmt.Errorf("looks like %s text without a byte order mark; convert it with iconv -f %s -t UTF-8", name, name)
	}
	controls := 0
	for _, b := range head {
		if isBinary(b) {
			controls++
		}
	}
	if controls > 3 && 10*controls > len(head) {
		return fmt.Errorf("looks like binary data, not UTF-8 text: %d of its first %d bytes are control characters", controls, len(head))
	}
	return nil
}

// isPlain reports whether head may be text. Its last character may be incomplete.
func isPlain(head []byte) bool {
	for at := 0; at < len(head); {
		r, size := utf8.DecodeRune(head[at:])
		if r == utf8.RuneError && size == 1 {
			return !utf8.FullRune(head[at:])
		}
		if size == 1 && isBinary(head[at]) {
			return false
		}
		at += size
	}
	return true
}

// isBinary reports whether b is a control character that text never has. Escape is
// allowed: it colours the output of programs.
func isBinary(b byte) bool { return b < 0x20 && !strings.ContainsRune("\t\n\v\f\r\b\x1b", rune(b)) }

// wideText returns the name of UTF-16 or UTF-32 if head has NULs like ASCII in that
// encoding, or else "".
func wideText(head []byte) string {
	var nuls [4]int
	for i, b := range head {
		if b == 0 {
			nuls[i%4]++
		}
	}
	most := func(places ...int) bool {
		n := 0
		for _, p := range places {
			n += nuls[p]
		}
		return len(head) >= 3 && 4*n*4 >= 3*len(head)*len(places) // three quarters
	}
	even, odd := most(0, 2), most(1, 3)
	switch {
	case most(1, 2, 3) && nuls[0] == 0:
		return "UTF-32LE"
	case most(0, 1, 2) && nuls[3] == 0:
		return "UTF-32BE"
	case odd && !even && nuls[0]+nuls[2] == 0:
		return "UTF-16LE"
	case even && !odd && nuls[1]+nuls[3] == 0:
		return "UTF-16BE"
	}
	return ""
}
