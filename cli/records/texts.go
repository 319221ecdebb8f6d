package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

// Texts finds texts by their ids in a file of lines id<TAB>text, of lines
// id<TAB>url<TAB>title<TAB>body as in MS MARCO's documents, or of objects as in BEIR's
// corpora. Memory holds neither the texts nor, for many texts, their index. Get checks a
// text, so that an error in a text that no run names does not matter.
type Texts struct {
	// Kept is the file that keeps the index for later runs, and KeepError the reason
	// why a large file has none. KeptNow reports that this run has made the file.
	Kept      string
	KeptNow   bool
	KeepError error

	name string
	TextsOptions
	file    io.ReaderAt
	columns int // of lines that are not objects
	index   *textIndex
	opened  io.Closer // the file of the index, or nil
	sum     []byte    // SHA-256 of the file
}

// TextsOptions describes a file of texts.
type TextsOptions struct {
	Queries bool // queries, and not documents
	Objects bool // JSON objects, whatever the name and the first line are
	Fields  Fields
}

// The fields of objects with the id of a text and with a query.
var (
	documentIDs = []string{"_id", "id", "document_id"}
	queryIDs    = []string{"_id", "id", "query_id"}
	queryTexts  = []string{"query", "text"}
)

// IndexTexts indexes a file of queries or documents, which r reads from its start.
// Errors report name. The index ends with the process.
func IndexTexts(name string, o TextsOptions, r io.Reader, file io.ReaderAt) (_ *Texts, err error) {
	t := &Texts{name: name, TextsOptions: o, file: file}
	var b indexBuilder
	defer func() { err = errors.Join(err, b.close()) }()
	if err := t.build(&b, r); err != nil {
		return nil, err
	}
	t.index, t.opened, err = b.index()
	return t, err
}

// build adds the lines that r reads to an index.
func (t *Texts) build(b *indexBuilder, r io.Reader) error {
	lines := NewLines(t.name, r)
	head, whole, err := lines.head()
	if err != nil {
		return err
	}
	t.Objects = t.Objects || holdsObjects(t.name, head, whole)
	for {
		offset := lines.offset
		line, err := lines.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, errTooLong) {
			return lines.Errorf("%w", err)
		}
		if err != nil {
			return err
		}
		if line = trimEnd(line); len(line) == 0 || t.Objects && isBlank(line) {
			continue
		}
		id, err := t.id(line)
		if err != nil {
			return lines.Errorf("%w", err)
		}
		if err := b.add(xxhash.Sum64String(id), offset); err != nil {
			return err
		}
	}
	t.sum = lines.sum.Sum(nil)
	return nil
}

// Close closes the index.
func (t *Texts) Close() error {
	if t.opened == nil {
		return nil
	}
	return t.opened.Close()
}

// holdsObjects reports whether a file of texts has JSON objects, by its name or its
// first line.
func holdsObjects(name string, head []byte, whole bool) bool {
	switch extension(name) {
	case ".jsonl", ".ndjson":
		return true
	case ".tsv":
		return false
	}
	if !whole {
		return bytes.HasPrefix(bytes.TrimSpace(head), []byte("{"))
	}
	_, err := ParseObject(head)
	return err == nil
}

// id returns the id of a line. The first line determines the number of columns.
func (t *Texts) id(line []byte) (string, error) {
	if t.Objects {
		object, err := ParseObject(line)
		if err != nil {
			return "", err
		}
		return object.firstID(t.idFields()...)
	}
	n := bytes.Count(line, []byte("\t")) + 1
	if t.columns == 0 && (n == 2 || n == 4) {
		t.columns = n
	}
	if n != t.columns {
		expected := map[int]string{0: "2 (id, text) or 4 (id, url, title, body)", 2: "2 (id, text)", 4: "4 (id, url, title, body)"}
		return "", fmt.Errorf("%s, expected %s", plural(n, "column"), expected[t.columns])
	}
	id, _, _ := bytes.Cut(line, []byte("\t"))
	return string(id), nil
}

// idFields lists the fields of objects that may have the id.
func (t *Texts) idFields() []string {
	name, usual := t.Fields.DocumentID, documentIDs
	if t.Queries {
		name, usual = t.Fields.QueryID, queryIDs
	}
	if name != "" {
		return []string{name}
	}
	return usual
}

// Identity describes the texts for a comparison with other texts, also for a nil
// receiver.
func (t *Texts) Identity() string {
	if t == nil {
		return "none"
	}
	return fmt.Sprintf("%s with SHA-256 %x", plural(int(t.index.count), "text"), t.sum)
}

// Get returns the text with an id, and its fields or columns. Two lines may have the
// same id if their texts are equal.
func (t *Texts) Get(id string) (text, source string, err error) {
	offsets, err := t.index.find(xxhash.Sum64String(id))
	if err != nil {
		return "", "", &readError{err}
	}
	first := int64(-1) // offset of the line of text
	for _, offset := range offsets {
		line, err := t.read(offset)
		if err != nil {
			return "", "", err
		}
		found, err := t.id(line)
		if err != nil || found != id {
			continue // another id with this hash; IndexTexts has checked the line
		}
		other, from, err := t.text(line)
		if err != nil {
			return "", "", t.at(offset, err)
		}
		if first >= 0 && other != text {
			return "", "", t.differ(id, first, offset)
		}
		if first < 0 {
			text, source, first = other, from, offset
		}
	}
	if first < 0 {
		return "", "", t.missing(id)
	}
	return text, source, nil
}

func (t *Texts) missing(id string) error {
	return fmt.Errorf("id %q is not in %s", Abridge([]byte(id)), t.name)
}

// mayHave reports whether there may be a text with an id, without reading the file. It
// errs only if the hashes of two ids are equal; Get finds out.
func (t *Texts) mayHave(id string) (bool, error) {
	offsets, err := t.index.find(xxhash.Sum64String(id))
	return len(offsets) > 0, err
}

// text returns the text of a line, and its fields or columns.
func (t *Texts) text(line []byte) (text, source string, err error) {
	if err := CheckText(line); err != nil {
		return "", "", err
	}
	if !t.Objects {
		text, source = joinColumns(bytes.Split(line, []byte("\t")))
		return text, source, nil
	}
	object, err := ParseObject(line)
	if err != nil {
		return "", "", err
	}
	switch {
	case !t.Queries:
		return t.Fields.document(object)
	case t.Fields.Query != nil:
		return t.Fields.Query.join(object)
	}
	return object.firstText(queryTexts...)
}

// joinColumns returns the text of a line with the columns id and text, or id, url,
// title and body.
func joinColumns(fields [][]byte) (text, source string) {
	if len(fields) == 4 {
		return titled(string(fields[2]), string(fields[3])), "title and body"
	}
	return string(fields[1]), "text"
}

// at adds the line to an error about it.
func (t *Texts) at(offset int64, err error) error {
	n, lerr := t.lineNumber(offset)
	if lerr != nil {
		return lerr
	}
	return fmt.Errorf("%s: line %d: %w", t.name, n, err)
}

// differ returns the error of two lines with the same id and different texts.
func (t *Texts) differ(id string, first, second int64) error {
	a, err := t.lineNumber(first)
	if err != nil {
		return err
	}
	b, err := t.lineNumber(second)
	if err != nil {
		return err
	}
	return fmt.Errorf("id %q has different texts in lines %d and %d of %s; remove one", Abridge([]byte(id)), a, b, t.name)
}

// lineNumber counts the lines before an offset.
func (t *Texts) lineNumber(offset int64) (int, error) {
	n := 1
	chunk := make([]byte, 1<<20)
	for at := int64(0); at < offset; {
		part := chunk[:min(int64(len(chunk)), offset-at)]
		got, err := t.file.ReadAt(part, at)
		if err != nil && (!errors.Is(err, io.EOF) || got == 0) {
			return 0, &readError{fmt.Errorf("read %s: byte %d: %w", t.name, at, err)}
		}
		n += bytes.Count(part[:got], []byte("\n"))
		at += int64(got)
	}
	return n, nil
}

// read returns the line at an offset without its line end.
func (t *Texts) read(offset int64) ([]byte, error) {
	var line []byte
	for size := 1 << 10; ; size *= 4 {
		line = make([]byte, size)
		n, err := t.file.ReadAt(line, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, &readError{fmt.Errorf("read %s: byte %d: %w", t.name, offset, err)}
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
			return nil, &readError{fmt.Errorf("read %s: byte %d: the file changed while it was read", t.name, offset)}
		}
	}
	return trimEnd(bytes.TrimPrefix(line, utf8BOM)), nil
}

// A readError is an error of the file, not of the line that needs the text.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }
