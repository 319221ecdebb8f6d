package records

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"sort"
)

// Texts finds texts by their ids in a file of lines "id<TAB>text". Only where
// they stand is in memory, 16 bytes for each.
type Texts struct {
	name   string
	file   io.ReaderAt
	seed   maphash.Seed
	places []place
	sum    []byte // SHA-256 of the file
}

type place struct {
	hash   uint64 // of the id
	offset int64  // of the line
}

// IndexTexts reads the file of that name from its start.
func IndexTexts(name string, r io.Reader, file io.ReaderAt) (*Texts, error) {
	t := &Texts{name: name, file: file, seed: maphash.MakeSeed()}
	lines := NewLines(name, r)
	for {
		offset := lines.offset
		line, err := lines.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, errTooLong) {
			return nil, lines.Errorf("%w", err)
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
			continue
		}
		id, _, ok := bytes.Cut(line, []byte("\t"))
		if n := bytes.Count(line, []byte("\t")) + 1; !ok || n != 2 {
			return nil, lines.Errorf("%s, where 2 are needed (id, text)", plural(n, "column"))
		}
		t.places = append(t.places, place{maphash.Bytes(t.seed, id), offset})
	}
	t.sum = lines.sum.Sum(nil)
	slices.SortFunc(t.places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.offset, b.offset))
	})
	return t, t.checkUnique()
}

// checkUnique refuses an id that two lines have.
func (t *Texts) checkUnique() error {
	for i := 1; i < len(t.places); i++ {
		if t.places[i].hash != t.places[i-1].hash {
			continue
		}
		id, _, err := t.read(t.places[i-1].offset)
		if err != nil {
			return err
		}
		other, _, err := t.read(t.places[i].offset)
		if err != nil {
			return err
		}
		if bytes.Equal(id, other) {
			return fmt.Errorf("%s: two lines have the id %q", t.name, Abridge(id))
		}
	}
	return nil
}

// Identity tells the texts from others. That of nil is of no texts.
func (t *Texts) Identity() string {
	if t == nil {
		return "none"
	}
	return fmt.Sprintf("%s with SHA-256 %x", plural(len(t.places), "text"), t.sum)
}

// Get returns the text with an id.
func (t *Texts) Get(id string) (string, error) {
	hash := maphash.String(t.seed, id)
	i := sort.Search(len(t.places), func(i int) bool { return t.places[i].hash >= hash })
	for ; i < len(t.places) && t.places[i].hash == hash; i++ {
		found, text, err := t.read(t.places[i].offset)
		if err != nil {
			return "", err
		}
		if string(found) == id {
			return string(text), nil
		}
	}
	return "", fmt.Errorf("id %q is not in %s", Abridge([]byte(id)), t.name)
}

// read returns the line at an offset.
func (t *Texts) read(offset int64) (id, text []byte, err error) {
	var line []byte
	for size := 1 << 10; ; size *= 4 {
		line = make([]byte, size)
		n, err := t.file.ReadAt(line, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, &readError{fmt.Errorf("read %s: byte %d: %w", t.name, offset, err)}
		}
		end := bytes.IndexByte(line[:n], '\n')
		if end < 0 {
			end = n
		}
		line = line[:end]
		if end < n || n < size {
			break
		}
		if n > maxLine {
			return nil, nil, &readError{fmt.Errorf("read %s: byte %d: the file changed while it was read", t.name, offset)}
		}
	}
	if offset == 0 {
		line = bytes.TrimPrefix(line, UTF8BOM)
	}
	id, text, _ = bytes.Cut(bytes.TrimSuffix(line, []byte("\r")), []byte("\t"))
	return id, text, nil
}

// readError is an error that is no fault of the line that needed the text.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }
