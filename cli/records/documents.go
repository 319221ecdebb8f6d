package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Document is a text to rank and its origin.
type Document struct {
	Place  int // of the line or the item, from 1
	ID     string
	Text   string
	Fields Object // of the object, without its id and text
}

// Documents holds the texts of a file.
type Documents struct {
	List   []Document
	Format Format
	Basis  string // reason for the format, such as "by its name"
	Blank  int    // skipped lines without text

	// HeaderLike reports that the first row, which is read as a document, looks
	// like the names of columns. Only GuessHeader sets it.
	HeaderLike bool

	// ObjectLine is the first line that begins like a JSON object but is read as
	// text, because detection chose LinesOf. It is 0 if there is none.
	ObjectLine int

	sources map[string]bool
	fields  Fields
}

// Sources names the fields or columns from which the texts come.
func (d *Documents) Sources() string { return joinSources(d.sources) }

// ReadDocuments reads a file of documents: a JSON array, lines of JSON objects,
// columns id and text, or lines of text. Auto detects the format by the name and the
// contents of the file, and rejects an ambiguous file.
func ReadDocuments(name string, r io.Reader, format Format, header HeaderPolicy, fields Fields) (*Documents, error) {
	lines := NewLines(name, r)
	if err := lines.sniff(); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(lines.r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	d := &Documents{Format: format, Basis: "by --format", sources: make(map[string]bool), fields: fields}
	if format == Auto {
		if err = d.detect(name, text); err != nil {
			return nil, err
		}
	}
	if header == SkipHeader && d.Format != TSV && d.Format != CSV {
		return nil, fmt.Errorf("%s is %s: %w", name, d.Format, ErrNoColumns)
	}
	switch {
	case d.Format == JSON:
		err = d.readArray(name, text)
	case d.Format == CSV, d.Format == TSV && fields.any():
		err = d.readTable(name, text, header)
	case d.Format == LinesOf && fields.any():
		err = fmt.Errorf("%s is %s: %w", name, d.Format, errFields)
	default:
		err = d.readLines(NewLines(name, bytes.NewReader(text)), header)
	}
	if err == nil && len(d.List) == 0 {
		err = fmt.Errorf("%s has no documents; write one passage per line", name)
	}
	if err != nil {
		return nil, d.explain(err)
	}
	return d, nil
}

// explain adds the detected format to an error that a wrong detection may cause.
func (d *Documents) explain(err error) error {
	if d.Basis == "by --format" || d.Format == LinesOf {
		return err
	}
	return fmt.Errorf("%w (read as %s %s; --format chooses another format)", err, d.Format, d.Basis)
}

// detect sets the format of a file of documents and its basis.
func (d *Documents) detect(name string, text []byte) error {
	switch extension(name) {
	case ".jsonl", ".ndjson":
		d.Format, d.Basis = JSONL, "by its name"
		return nil
	case ".tsv":
		d.Format, d.Basis = TSV, "by its name"
		return nil
	case ".csv":
		d.Format, d.Basis = CSV, "by its name"
		return nil
	}
	first, rest, _ := firstLine(text)
	switch {
	case startsArray(text):
		d.Format, d.Basis = JSON, "since it begins like an array"
	case !bytes.HasPrefix(bytes.TrimSpace(first), []byte("{")):
		d.Format, d.Basis = LinesOf, "since its first line is not a JSON object"
		return d.checkLines(name, text)
	case isObject(first):
		d.Format, d.Basis = JSONL, "since its first line is a JSON object"
	case len(bytes.TrimSpace(rest)) > 0 && isStream(text):
		return fmt.Errorf("%s has JSON objects of several lines; write one object per line, for example with jq -c", name)
	default:
		_, err := ParseObject(first)
		return fmt.Errorf("%s: cannot detect the format: the first line begins with { but is not a JSON object: %w; "+
			"give --format lines to rank the lines as text, or --format jsonl", name, err)
	}
	return nil
}

// checkLines rejects a file of text lines in which more than half of the lines are
// JSON objects, since they would be ranked as text. A text about JSON has fewer.
func (d *Documents) checkLines(name string, text []byte) error {
	lines, objects, first := countObjects(text)
	if 2*objects > lines {
		return fmt.Errorf("%s: cannot detect the format: the first line is text, but %d of %d lines begin like JSON objects, line %d first; "+
			"give --format lines to rank the lines as text, or write every line as an object", name, objects, lines, first)
	}
	d.ObjectLine = first
	return nil
}

// firstLine returns the first line that is not blank, the rest of the text, and
// whether a newline ends the line.
func firstLine(text []byte) (line, rest []byte, ended bool) {
	line, rest, ended = bytes.Cut(text, []byte("\n"))
	for ended && isBlank(line) {
		line, rest, ended = bytes.Cut(rest, []byte("\n"))
	}
	return bytes.TrimPrefix(line, utf8BOM), rest, ended
}

func isObject(line []byte) bool {
	_, err := ParseObject(line)
	return err == nil
}

// isStream reports whether text consists of JSON values.
func isStream(text []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(text))
	for {
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// countObjects counts the lines that are not blank, and of these the lines that begin
// like JSON objects. first is the first such line, or 0.
func countObjects(text []byte) (lines, objects, first int) {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		trimmed := bytes.TrimSpace(bytes.TrimPrefix(line, utf8BOM))
		if len(trimmed) == 0 {
			continue
		}
		lines++
		if bytes.HasPrefix(trimmed, []byte(`{"`)) || trimmed[0] == '{' && isObject(trimmed) {
			objects++
			if first == 0 {
				first = number
			}
		}
	}
	return lines, objects, first
}

// startsArray reports whether text begins like a JSON array of strings or objects. A
// line of text can also begin with a bracket, as in "[1] ...".
func startsArray(text []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(bytes.TrimPrefix(text, utf8BOM), " \t\r\n"), []byte("["))
	rest = bytes.TrimSpace(rest[:min(len(rest), 4096)])
	return ok && len(rest) > 0 && strings.IndexByte(`"{]`, rest[0]) >= 0
}

// readLines reads a document from each line.
func (d *Documents) readLines(lines *Lines, header HeaderPolicy) error {
	parse := map[Format]func([]byte) (Document, string, error){LinesOf: parseTextLine, JSONL: d.parseItem, TSV: newColumnParser()}[d.Format]
	if parse == nil {
		return fmt.Errorf("%s: unknown format %q of documents", lines.name, d.Format)
	}
	first := d.Format == TSV // the next row may be a header
	for {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if isBlank(line) {
			d.Blank++
			continue
		}
		if first {
			first = false
			if header == SkipHeader {
				continue
			}
			d.HeaderLike = header == GuessHeader && isHeader(line)
		}
		document, source, err := parse(line)
		if err != nil {
			return lines.Errorf("%w", err)
		}
		document.Place = lines.number
		d.add(document, source)
	}
}

func (d *Documents) add(document Document, source string) {
	d.List = append(d.List, document)
	d.sources[source] = true
}

// readArray reads an array of strings or objects.
func (d *Documents) readArray(name string, text []byte) error {
	text = bytes.TrimPrefix(text, utf8BOM)
	if err := checkAllText(name, text); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	fail := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s: item %d of the JSON array: %w", name, len(d.List)+1, err)
	}
	start, err := decoder.Token()
	if err != nil {
		return fail(err)
	}
	if start != json.Delim('[') {
		return fmt.Errorf("%s: not a JSON array: it starts with %v", name, start)
	}
	for decoder.More() {
		var item json.RawMessage
		if err := decoder.Decode(&item); err != nil {
			return fail(err)
		}
		document, source, err := d.parseItem(item)
		if err != nil {
			return fail(err)
		}
		document.Place = len(d.List) + 1
		d.add(document, source)
	}
	if _, err := decoder.Token(); err != nil {
		return fail(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more data follows the JSON array at byte %d", name, decoder.InputOffset())
	}
	return nil
}

// checkAllText calls CheckText for each line and adds the line to its error.
func checkAllText(name string, text []byte) error {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if err := CheckText(line); err != nil {
			return fmt.Errorf("%s: line %d: %w", name, number, err)
		}
	}
	return nil
}

func parseTextLine(line []byte) (Document, string, error) {
	return Document{Text: string(line)}, "line", nil
}

// newColumnParser returns a parser of lines id<TAB>text or
// id<TAB>url<TAB>title<TAB>body. The first line determines which.
func newColumnParser() func([]byte) (Document, string, error) {
	t := &Texts{}
	return func(line []byte) (Document, string, error) {
		id, err := t.id(line)
		if err != nil {
			return Document{}, "", err
		}
		text, source := joinColumns(bytes.Split(line, []byte("\t")))
		return Document{ID: id, Text: text}, source, nil
	}
}

// readTable reads a document from each row of a table.
func (d *Documents) readTable(name string, text []byte, header HeaderPolicy) error {
	r, err := newReader(name, bytes.NewReader(text), Options{Format: d.Format, Score: IgnoreScore, Header: header, Fields: d.fields})
	if err != nil {
		return err
	}
	t := r.parser.(*table)
	if _, err := r.source.read(); err != nil { // the header row
		return err
	}
	for {
		row, err := r.source.read()
		record := Record{Line: r.source.line(), Text: row}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil && t.blank(row):
			d.Blank++
			continue
		case err == nil:
			err = CheckText(row)
		}
		var object Object
		if err == nil {
			object, err = t.object(row)
		}
		if err == nil {
			err = d.addObject(object, record.Line)
		}
		if err != nil {
			return r.Errorf(&record, "%w", err)
		}
	}
}

func (d *Documents) addObject(object Object, place int) error {
	document, source, err := d.newDocument(object)
	if err != nil {
		return err
	}
	document.Place = place
	d.add(document, source)
	return nil
}

// parseItem parses a string or an object.
func (d *Documents) parseItem(item []byte) (Document, string, error) {
	item = bytes.TrimSpace(item)
	switch item[0] {
	case '"':
		if d.fields.any() {
			return Document{}, "", fmt.Errorf("expected an object with the fields that flags name, found the string %s", Abridge(item))
		}
		var text string
		err := json.Unmarshal(item, &text)
		return Document{Text: text}, "string", err
	case '{':
		object, err := ParseObject(item)
		if err != nil {
			return Document{}, "", err
		}
		return d.newDocument(object)
	}
	return Document{}, "", fmt.Errorf("expected a string or an object, found %s", Abridge(item))
}

// newDocument moves the text and the id of an object into a document and keeps the
// other fields.
func (d *Documents) newDocument(object Object) (Document, string, error) {
	text, source, err := d.fields.document(object)
	if err != nil {
		return Document{}, "", err
	}
	document := Document{Text: text, Fields: object}
	names := documentIDs
	if d.fields.DocumentID != "" {
		names = []string{d.fields.DocumentID}
		if _, err := object.id(names[0]); err != nil {
			return Document{}, "", err
		}
	}
	for _, name := range names {
		if id, err := object.id(name); err == nil {
			document.ID = id
			delete(object, name)
			break
		}
	}
	switch {
	case d.fields.Document != nil: // the fields may be parts of the text
	case source == "document":
		delete(object, "document")
	default:
		delete(object, "text")
	}
	return document, source, nil
}
