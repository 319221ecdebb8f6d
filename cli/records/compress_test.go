package records

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
)

func compress(t testing.TB, name string, pieces ...string) []byte {
	t.Helper()
	c, err := NewCompressor(name)
	if err != nil {
		t.Fatal(err)
	}
	var file []byte
	for _, piece := range pieces {
		packed, err := c.Compress([]byte(piece))
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, packed...)
	}
	return file
}

func TestCompress(t *testing.T) {
	for _, name := range []string{"f.gz", "f.zst", "f.jsonl", "f"} {
		for _, pieces := range [][]string{{""}, {"a\n"}, {"a\n", strings.Repeat("b", 3<<20), "", "c"}} {
			file := compress(t, name, pieces...)
			want := strings.Join(pieces, "")
			got, err := io.ReadAll(Decompress(iotest.HalfReader(bytes.NewReader(file))))
			if err != nil || string(got) != want {
				t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, len(want))
			}
			if packed := Compressed(file); packed != (name == "f.gz" || name == "f.zst") {
				t.Errorf("%s of %d bytes: compressed %v", name, len(want), packed)
			}
			if again := compress(t, name, pieces...); !bytes.Equal(file, again) {
				t.Errorf("%s: compressed again, it is another file", name)
			}
		}
	}
}

// TestCompressedFilesUnpack unpacks with the gzip and zstd programs.
func TestCompressedFilesUnpack(t *testing.T) {
	for name, program := range map[string]string{"f.gz": "gzip", "f.zst": "zstd"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Logf("%s is not installed: nothing to compare with", program)
			continue
		}
		for _, pieces := range [][]string{{""}, {"a\n", "b\n"}} {
			cmd := exec.CommandContext(t.Context(), path, "-dc")
			cmd.Stdin = bytes.NewReader(compress(t, name, pieces...))
			if got, err := cmd.Output(); err != nil || string(got) != strings.Join(pieces, "") {
				t.Errorf("%s of %q: got %q, %v", program, pieces, got, err)
			}
		}
	}
}

func TestCompressorWriter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"f.gz", "f.zst", "f"} {
		for _, size := range []int{0, 1, pieceBytes, 2*pieceBytes + 1} {
			c, err := NewCompressor(name)
			if err != nil {
				t.Fatal(err)
			}
			text := make([]byte, size)
			for i := range text {
				text[i] = byte('a' + r.IntN(4))
			}
			var b bytes.Buffer
			w := c.Writer(&b)
			for rest := text; len(rest) > 0; {
				n, err := w.Write(rest[:min(len(rest), 100_000)])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(Decompress(&b))
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s of %d bytes: got %d, %v", name, size, len(got), err)
			}
		}
	}
}

// TestDecompressBroken breaks compressed data everywhere: what comes out is an
// error, or the text as it was.
func TestDecompressBroken(t *testing.T) {
	text := strings.Repeat("{\"query\": \"city\", \"document\": \"london\"}\n", 20)
	for name, kind := range map[string]string{"f.gz": "gzip", "f.zst": "zstd"} {
		file := compress(t, name, text)
		for n := 4; n < len(file); n++ {
			_, err := io.ReadAll(Decompress(bytes.NewReader(file[:n])))
			if err == nil || !strings.Contains(err.Error(), "the "+kind+" data is truncated") {
				t.Errorf("%s cut at byte %d of %d: %v", kind, n, len(file), err)
			}
		}
		for i := 4; i < len(file); i++ {
			broken := bytes.Clone(file)
			broken[i] ^= 0x55
			got, err := io.ReadAll(Decompress(bytes.NewReader(broken)))
			if err == nil && string(got) != text {
				t.Errorf("%s broken at byte %d: another text and no error", kind, i)
			}
			if err != nil && !strings.Contains(err.Error(), "the "+kind+" data is") {
				t.Errorf("%s broken at byte %d: %v", kind, i, err)
			}
		}
	}
	file := append(compress(t, "f.zst", text), "garbage garbage"...)
	if _, err := io.ReadAll(Decompress(bytes.NewReader(file))); err == nil || !strings.Contains(err.Error(), "the zstd data is broken") {
		t.Errorf("zstd with garbage behind it: %v", err)
	}
}

// TestDecompressWindow does not allocate what a header claims.
func TestDecompressWindow(t *testing.T) {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 1, 0, 0} // a window of 2 TiB
	if _, err := io.ReadAll(Decompress(bytes.NewReader(frame))); err == nil || !strings.Contains(err.Error(), "zstd") {
		t.Errorf("got %v", err)
	}
}

// TestDecompressReadError does not blame the data for what the disk did.
func TestDecompressReadError(t *testing.T) {
	for _, name := range []string{"f.gz", "f.zst", "f"} {
		file := compress(t, name, strings.Repeat("text", 1000))
		for n := range len(file) {
			r := io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(context.Canceled))
			_, err := io.ReadAll(Decompress(r))
			if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "data") {
				t.Fatalf("%s, read error at byte %d: %v", name, n, err)
			}
		}
	}
}

func TestSkippableFrameIsZstd(t *testing.T) {
	file := append([]byte{0x5e, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'x', 'y'}, compress(t, "f.zst", "text")...)
	got, err := io.ReadAll(Decompress(bytes.NewReader(file)))
	if err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestGzipMembers reads joined gzip files and the zeros after them, as gzip and
// Python do.
func TestGzipMembers(t *testing.T) {
	a, b, zeros := string(compress(t, "f.gz", "a\n", "b\n")), string(compress(t, "f.gz", "c\n")), strings.Repeat("\x00", 100_000)
	text := strings.Repeat("text", 100)
	for file, want := range map[string]string{
		a + zeros:              "a\nb\n",
		a + b:                  "a\nb\nc\n",
		a + zeros + b + "\x00": "a\nb\nc\n",
		string(compress(t, "f.gz", "")) + zeros + b: "c\n",
	} {
		got, err := io.ReadAll(Decompress(iotest.OneByteReader(strings.NewReader(file))))
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	const notGzip = "data that is not gzip follows the compressed data; gzip -dc drops it"
	const cutShort = "the gzip data is truncated: unexpected EOF"
	for file, want := range map[string]string{
		a + "x":               notGzip,
		a + "text\n":          notGzip,
		a + "\x1fx":           notGzip,
		a + b + "text\n":      notGzip,
		a + zeros + "x":       notGzip,
		a + zeros + text:      notGzip,
		a + "\x1f":            cutShort,
		a + b[:2]:             cutShort,
		a + zeros + b[:9]:     cutShort,
		a[:2]:                 cutShort,
		a[:9]:                 cutShort,
		"\x1f\x8bx" + text:    "the gzip data is broken: gzip: invalid header",
		a + "\x1f\x8b" + text: "the gzip data is broken: gzip: invalid header",
	} {
		if _, err := io.ReadAll(Decompress(strings.NewReader(file))); err == nil || err.Error() != want {
			t.Errorf("%.100q: got %v, want %s", file, err, want)
		}
	}
}
