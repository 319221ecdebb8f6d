package records

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// KeepBytes is the size from which OpenTexts keeps the index of a file.
const KeepBytes = 64 << 20

// indexSuffix is the suffix of the index that is kept beside a file.
const indexSuffix = ".mlxrank-index"

// indexMagic begins a kept index. A line with the JSON of indexHeader and the index
// follow.
const indexMagic = "mlxrank index of texts 1\n"

// settled is the age from which a change of a file is sure to change its times again. A
// test sets it.
var settled = 2 * time.Second

// indexHeader describes the file of an index and how it was read.
type indexHeader struct {
	File    fingerprint `json:"file"`
	IDs     []string    `json:"ids"` // fields that may have the id
	Forced  bool        `json:"forced"`
	Objects bool        `json:"objects"`
	Columns int         `json:"columns"`
	Texts   int64       `json:"texts"`
	Sum     []byte      `json:"sha256"` // of the file
}

// A fingerprint changes with every change of a file: programs can set the time of
// modification back, but not the time of change.
type fingerprint struct {
	Bytes    int64  `json:"bytes"`
	Modified int64  `json:"modified_ns"`
	Changed  int64  `json:"changed_ns"`
	Inode    uint64 `json:"inode"`
	Ends     []byte `json:"ends"` // SHA-256 of the first and last endBytes
}

const endBytes = 64 << 10

func newFingerprint(file *os.File) (fingerprint, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &s); err != nil {
		return fingerprint{}, err
	}
	f := fingerprint{Bytes: s.Size, Modified: s.Mtim.Nano(), Changed: s.Ctim.Nano(), Inode: s.Ino}
	sum := sha256.New()
	for _, at := range []int64{0, max(0, s.Size-endBytes)} {
		if _, err := io.Copy(sum, io.NewSectionReader(file, at, endBytes)); err != nil {
			return fingerprint{}, err
		}
	}
	f.Ends = sum.Sum(nil)
	return f, nil
}

// OpenTexts finds the texts of a regular file, as IndexTexts does. It keeps the index of
// a file of least bytes or more in a file beside it, or else in the user's cache, and
// uses a kept index of the unchanged file instead of reading r.
func OpenTexts(name string, o TextsOptions, r io.Reader, file *os.File, least int64) (_ *Texts, err error) {
	before, err := newFingerprint(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if before.Bytes < least {
		return IndexTexts(name, o, r, file)
	}
	t := &Texts{name: name, TextsOptions: o, file: file}
	header := indexHeader{File: before, IDs: t.idFields(), Forced: o.Objects}
	paths, err := indexPaths(file.Name(), header)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if t.openKept(path, header) {
			return t, nil
		}
	}
	start := time.Now()
	var b indexBuilder
	defer func() { err = errors.Join(err, b.close()) }()
	if err := t.build(&b, r); err != nil {
		return nil, err
	}
	after, err := newFingerprint(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	header.Objects, header.Columns, header.Texts, header.Sum = t.Objects, t.columns, b.count, t.sum
	switch {
	case !reflect.DeepEqual(before, after):
		t.KeepError = errors.New("the file changed while it was indexed")
	case start.Sub(time.Unix(0, before.Changed)) < settled:
		t.KeepError = errors.New("the file has just changed")
	default:
		t.keep(paths, header, &b)
	}
	if t.index == nil {
		t.index, t.opened, err = b.index()
	}
	return t, err
}

// indexPaths lists where the index of a file is kept, the best place first.
func indexPaths(path string, header indexHeader) ([]string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	suffix := indexSuffix
	if key := fmt.Sprint(header.IDs, header.Forced); key != fmt.Sprint(documentIDs, false) {
		sum := sha256.Sum256([]byte(key))
		suffix += "-" + hex.EncodeToString(sum[:4])
	}
	paths := []string{path + suffix}
	if cache, err := os.UserCacheDir(); err == nil {
		sum := sha256.Sum256([]byte(path + suffix))
		paths = append(paths, filepath.Join(cache, "mlxrank", "texts", hex.EncodeToString(sum[:12])+indexSuffix))
	}
	return paths, nil
}

// openKept opens a kept index. It reports false if there is none, or one that another
// version of the file or other fields made.
func (t *Texts) openKept(path string, want indexHeader) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	if header, start, err := readIndexHeader(file); err == nil && header.describes(want) {
		t.Objects, t.columns, t.sum = header.Objects, header.Columns, header.Sum
		t.index = &textIndex{file: file, start: start, count: header.Texts, bits: tableBits(header.Texts)}
		t.Kept, t.opened = path, file
		return true
	}
	file.Close() //nolint:errcheck // read only
	return false
}

// describes reports whether an index is of the file and the fields of want.
func (h indexHeader) describes(want indexHeader) bool {
	return reflect.DeepEqual(h.File, want.File) && reflect.DeepEqual(h.IDs, want.IDs) && h.Forced == want.Forced
}

// readIndexHeader reads the header of a kept index and returns where the index starts.
func readIndexHeader(file *os.File) (h indexHeader, start int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return h, 0, err
	}
	r := bufio.NewReader(io.NewSectionReader(file, 0, min(info.Size(), 64<<10)))
	magic := make([]byte, len(indexMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != indexMagic {
		return h, 0, errors.New("not an index")
	}
	line, err := r.ReadBytes('\n')
	if err != nil {
		return h, 0, err
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, 0, err
	}
	start = int64(len(magic) + len(line))
	if h.Texts < 0 || h.Texts > info.Size()/entryBytes || info.Size() != start+indexBytes(h.Texts) || len(h.Sum) != sha256.Size {
		return h, 0, errors.New("the index is damaged")
	}
	return h, start, nil
}

// keep writes the index to the first of the paths that can be written.
func (t *Texts) keep(paths []string, header indexHeader, b *indexBuilder) {
	text, err := json.Marshal(header)
	if err != nil {
		t.KeepError = err
		return
	}
	for i, path := range paths {
		if i > 0 {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.KeepError = errors.Join(t.KeepError, err)
				continue
			}
		}
		temp := path + "." + strconv.FormatUint(rand.Uint64(), 36) + ".tmp"
		err := atomicfile.WriteVia(temp, path, 0o644, func(f *os.File) error {
			if _, err := io.Copy(f, bytes.NewReader(append([]byte(indexMagic), append(text, '\n')...))); err != nil {
				return err
			}
			return b.write(f)
		})
		if err == nil && t.openKept(path, header) {
			t.KeptNow, t.KeepError = true, nil
			return
		}
		t.KeepError = errors.Join(t.KeepError, err)
	}
}
