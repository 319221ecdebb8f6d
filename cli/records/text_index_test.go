package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// TestIndexSpills compares an index that does not fit in memory with its entries.
func TestIndexSpills(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	const texts = 2*spillBytes/entryBytes + 1000
	var b indexBuilder
	for i := range int64(texts) {
		hash := xxhash.Sum64String(fmt.Sprint(i))
		if i%1000 == 0 {
			hash = 42 // a collision
		}
		if err := b.add(hash, i); err != nil {
			t.Fatal(err)
		}
	}
	x, file, err := b.index()
	if err != nil || file == nil || x.bits < 10 {
		t.Fatalf("got %+v, %v, %v", x, file, err)
	}
	for i := range int64(texts) {
		if i%1000 == 0 || i%97 > 0 {
			continue
		}
		if got, err := x.find(xxhash.Sum64String(fmt.Sprint(i))); err != nil || !slices.Equal(got, []int64{i}) {
			t.Fatalf("text %d: got %v, %v", i, got, err)
		}
	}
	got, err := x.find(42)
	if err != nil || len(got) != (texts+999)/1000 || !slices.IsSorted(got) {
		t.Errorf("got %d offsets, %v", len(got), err)
	}
	if got, err := x.find(43); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if err := errors.Join(b.close(), file.Close()); err != nil {
		t.Error(err)
	}
}

func TestIndexDamaged(t *testing.T) {
	var b indexBuilder
	for i := range 200 {
		if err := b.add(uint64(i)<<56, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	x, _, err := b.index()
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, indexBytes(200))
	if _, err := x.file.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for _, change := range []byte{1, 0x80} {
			damaged := bytes.Clone(whole)
			damaged[i] ^= change
			x.file = bytes.NewReader(damaged)
			for hash := uint64(0); hash < 256; hash += 17 {
				if offsets, err := x.find(hash << 56); err != nil && !strings.Contains(err.Error(), "the index of texts") || len(offsets) > 200 {
					t.Fatalf("byte %d: %d offsets, %v", i, len(offsets), err)
				}
			}
		}
	}
	x.file = bytes.NewReader(whole[:100])
	if _, err := x.find(1); err == nil || !strings.Contains(err.Error(), "read the index of texts: byte ") {
		t.Errorf("got %v", err)
	}
}

var errNotRead = errors.New("it was read")

// openTexts opens a file with a kept index. If kept, it must not be indexed again.
func openTexts(t *testing.T, path string, o TextsOptions, kept bool) *Texts {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader = file
	if kept {
		r = readerFunc(func([]byte) (int, error) { return 0, errNotRead })
	}
	texts, err := OpenTexts(filepath.Base(path), o, r, file, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(texts.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	if texts.KeptNow == kept && texts.KeepError == nil {
		t.Errorf("kept now: %v, index %s", texts.KeptNow, texts.Kept)
	}
	return texts
}

func TestOpenTexts(t *testing.T) {
	defer func(d time.Duration) { settled = d }(settled)
	settled = 0
	dir, cache := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	path := filepath.Join(dir, "corpus.tsv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // longer than a tick of the clock of files
	}
	check := func(texts *Texts, id, want string) {
		t.Helper()
		if got, _, err := texts.Get(id); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", id, got, err, want)
		}
	}
	write("a\tA\nb\tB\n")
	first := openTexts(t, path, TextsOptions{}, false)
	second := openTexts(t, path, TextsOptions{}, true)
	check(second, "b", "B")
	if first.Identity() != second.Identity() || second.Kept != path+indexSuffix || second.KeptNow {
		t.Errorf("%s and %s, kept in %s", first.Identity(), second.Identity(), second.Kept)
	}
	if _, _, err := second.Get("c"); err == nil || !strings.Contains(err.Error(), `id "c" is not in corpus.tsv`) {
		t.Errorf("got %v", err)
	}
	other := openTexts(t, path, TextsOptions{Fields: Fields{DocumentID: "x"}}, false)
	if other.Kept == second.Kept {
		t.Error("two fields have one index")
	}

	// The same size and time of modification, but other contents.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write("a\tA\nc\tC\n")
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	changed := openTexts(t, path, TextsOptions{}, false)
	check(changed, "c", "C")
	check(openTexts(t, path, TextsOptions{}, true), "c", "C")

	// Another file under the name, as mv leaves it.
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	write("a\tA\nd\tD\n")
	check(openTexts(t, path, TextsOptions{}, false), "d", "D")

	index, err := os.ReadFile(path + indexSuffix)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", "PAR1", string(index[:len(index)-1]), string(index) + "x", indexMagic + "{}\n", indexMagic + "{", strings.Replace(string(index), `"texts":2`, `"texts":1`, 1), strings.Replace(string(index), `"texts":2`, `"texts":-2`, 1)} {
		if err := os.WriteFile(path+indexSuffix, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		check(openTexts(t, path, TextsOptions{}, false), "d", "D")
		check(openTexts(t, path, TextsOptions{}, true), "d", "D")
	}

	// A folder in place of the index cannot be replaced; then the user's cache has it.
	if err := errors.Join(os.Remove(path+indexSuffix), os.Mkdir(path+indexSuffix, 0o700)); err != nil {
		t.Fatal(err)
	}
	cached := openTexts(t, path, TextsOptions{}, false)
	check(cached, "d", "D")
	if !strings.HasPrefix(cached.Kept, cache) {
		t.Errorf("kept in %s", cached.Kept)
	}
	check(openTexts(t, path, TextsOptions{}, true), "d", "D")
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cache, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	none := openTexts(t, path, TextsOptions{}, false)
	if check(none, "d", "D"); none.KeepError == nil || none.Kept != "" {
		t.Errorf("kept in %q, %v", none.Kept, none.KeepError)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestOpenTextsSettled does not keep the index of a file that may change again without
// a trace.
func TestOpenTextsSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "corpus.tsv")
	if err := os.WriteFile(path, []byte("a\tA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	texts := openTexts(t, path, TextsOptions{}, false)
	if texts.Kept != "" || texts.KeepError == nil || !strings.Contains(texts.KeepError.Error(), "just changed") {
		t.Errorf("kept in %q, %v", texts.Kept, texts.KeepError)
	}
}

// TestOpenTextsSmall keeps no index of a small file.
func TestOpenTextsSmall(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "corpus.tsv")
	if err := os.WriteFile(path, []byte("a\tA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := OpenTexts("corpus.tsv", TextsOptions{}, file, file, KeepBytes)
	if err != nil || texts.Kept != "" || texts.KeepError != nil {
		t.Errorf("got %+v, %v", texts, err)
	}
	entries, err := os.ReadDir(dir)
	if err := errors.Join(err, file.Close()); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v", entries, err)
	}
}
