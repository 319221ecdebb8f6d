package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Options configures a Reader.
type Options struct {
	Format Format
	Score  ScorePolicy
	IDs    bool // requires ids that are valid in a TREC run
	Header HeaderPolicy
	Fields Fields

	// Queries and Documents have the texts of a TREC run.
	Queries, Documents *Texts
}

// ErrNoTexts reports a TREC run without its texts.
var ErrNoTexts = errors.New("a TREC run needs its queries and documents")

// ErrNoColumns reports SkipHeader for a format that has no header row.
var ErrNoColumns = errors.New("only files of columns have a header row")

// ErrNeedsHeader reports NoHeader for a format whose columns are found by name.
var ErrNeedsHeader = errors.New("the columns are found by the names in the header row")

// A recordSource reads the records of an input.
type recordSource interface {
	// read returns the next record, or io.EOF.
	read() ([]byte, error)
	// line returns the line or the row of the last record, from 1.
	line() int
	// position returns the position after the last record.
	position() Position
	// skip goes to a position that is not before the current one. It returns changed if
	// the input before the position differs.
	skip(to Position, changed error) error
	// pass goes past the next record without returning it, or returns io.EOF.
	pass() error
	// at returns the offset of position.
	at() int64
	// endAt makes the input end at an offset, which is an end of a record.
	endAt(offset int64)
}

// A Reader reads records.
type Reader struct {
	// Format is the format of the input, detected for Auto.
	Format Format

	// HeaderLike reports that the first row, which is read as a pair, looks like
	// the names of columns. Only GuessHeader sets it.
	HeaderLike bool

	Blank int // blank lines skipped so far

	name   string // for errors
	source recordSource
	parser
	options Options
	ids     bool
	check   *idCheck // nil if the format guarantees one text per id
	header  bool     // the next record is the header row
	sources map[string]bool
}

// NewReader returns a reader of records from r. Errors report name. NewReader waits
// for the first line, by which it detects binary files, the format and a header row.
func NewReader(name string, r io.Reader, o Options) (*Reader, error) {
	reader, err := newReader(name, r, o)
	if err != nil {
		return nil, err
	}
	if t, ok := reader.parser.(*table); ok {
		if err := t.checkColumns(o.Fields, o.IDs); err != nil {
			return nil, reader.fail(err)
		}
	}
	return reader, nil
}

// newReader returns a reader of pairs, or of documents alone.
func newReader(name string, r io.Reader, o Options) (*Reader, error) {
	lines := NewLines(name, r)
	reader := &Reader{Format: o.Format, name: name, source: lines, ids: o.IDs, sources: make(map[string]bool), options: o}
	head, whole, err := lines.head()
	if err != nil {
		return nil, err
	}
	if o.Format == Auto {
		if reader.Format, err = detect(name, head, whole, o); err != nil {
			return nil, err
		}
	}
	objects := jsonl{score: o.Score, ids: o.IDs, fields: o.Fields}
	switch reader.Format {
	case JSONL:
		reader.parser = objects
	case CSV, TSV, MSMARCO:
		err = reader.setColumns(lines, head, whole, o, objects)
	case TREC:
		if o.Queries == nil || o.Documents == nil {
			return nil, fmt.Errorf("%s: %w", name, ErrNoTexts)
		}
		reader.parser = newTREC(head, o.Queries, o.Documents)
	default:
		err = fmt.Errorf("unknown format %q", reader.Format)
	}
	if err != nil {
		return nil, reader.fail(err)
	}
	if o.Header == SkipHeader && !reader.header {
		return nil, fmt.Errorf("%s is %s: %w", name, reader.Format, ErrNoColumns)
	}
	if o.IDs && reader.Format == TSV && !o.Fields.any() {
		return nil, fmt.Errorf("%s: a TREC run needs ids, but tsv has none; use --format msmarco (qid, pid, query, passage)", name)
	}
	if o.IDs && reader.Format != TREC {
		reader.check = newIDCheck()
	}
	return reader, nil
}

// fail adds the name of the input to an error.
func (r *Reader) fail(err error) error { return fmt.Errorf("%s: %w", r.name, err) }

// setColumns sets the parser of a format of columns, whose first row is head. Columns
// are found by name in CSV, and in TSV if fields are named.
func (r *Reader) setColumns(lines *Lines, head []byte, whole bool, o Options, objects jsonl) error {
	if r.Format != CSV && (r.Format != TSV || !o.Fields.any()) {
		r.parser = columns{names: columnsOf[r.Format], score: o.Score}
		r.header = o.Header == SkipHeader
		r.HeaderLike = o.Header == GuessHeader && whole && isHeader(head)
		if o.Fields.any() {
			return errFields
		}
		return nil
	}
	return r.setNames(lines, head, whole, o, objects)
}

// setNames sets the parser of a table, whose header row is head.
func (r *Reader) setNames(lines *Lines, head []byte, whole bool, o Options, objects jsonl) error {
	switch {
	case o.Header == NoHeader:
		return ErrNeedsHeader
	case len(head) == 0:
		return errors.New("it is empty; expected a header row")
	case !whole:
		return errors.New("line 1: the header row is too long")
	}
	if err := CheckText(head); err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	t, err := newTable(r.Format, head, objects)
	if err != nil {
		return err
	}
	if r.parser, r.header = t, true; t.quoted {
		lines.quotes = t.delimiter
	}
	return nil
}

// Layout returns the layout of the output that matches the input.
func (r *Reader) Layout() Layout {
	if layout, ok := r.parser.(Layout); ok {
		return layout
	}
	return Scored{}
}

// Next returns the next record, or io.EOF. A record has the error of its line; Next
// returns only errors that end the input.
func (r *Reader) Next() (Record, error) {
	for {
		line, err := r.source.read()
		record := Record{Line: r.source.line(), Text: line}
		switch {
		case errors.Is(err, errTooLong):
			record.Err = err
			return record, nil
		case err != nil:
			return Record{}, err
		case r.blank(line):
			r.Blank++
			continue
		}
		err = r.fill(&record)
		var broken *readError
		switch {
		case errors.As(err, &broken):
			return Record{}, r.Errorf(&record, "%w", err)
		case err != nil:
			return Record{Line: record.Line, Text: line, Err: err}, nil
		}
		return record, nil
	}
}

// headed is a parser of a format with a header row.
type headed interface{ checkHeader(line []byte) error }

// fill parses the text of a record.
func (r *Reader) fill(record *Record) error {
	header := r.header
	r.header = false
	if err := CheckText(record.Text); err != nil {
		return err
	}
	if header {
		record.Header = true
		return r.parser.(headed).checkHeader(record.Text)
	}
	if err := r.parse(record); err != nil {
		return err
	}
	r.sources[record.Source] = true
	if r.ids {
		if err := checkIDs(record); err != nil {
			return err
		}
	}
	if r.check != nil {
		return r.check.check(record)
	}
	return nil
}

// Sources names the fields from which the documents so far come.
func (r *Reader) Sources() string { return joinSources(r.sources) }

func joinSources(sources map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(sources)), ", ")
}

// Errorf returns an error about a record's line.
func (r *Reader) Errorf(record *Record, format string, args ...any) error {
	return fmt.Errorf("%s: line %d: %w", r.name, record.Line, fmt.Errorf(format, args...))
}

// Position returns the position behind the last record.
func (r *Reader) Position() Position { return r.source.position() }

// Skip reads up to a position of another Reader. It must be called before Next. It
// returns changed if the input before the position differs.
func (r *Reader) Skip(to Position, changed error) error {
	if r.check != nil {
		return r.skipRecords(to, changed)
	}
	if err := r.skipHeader(to); err != nil {
		return err
	}
	return r.source.skip(to, changed)
}

// skipHeader reads the header row if it is before a position. Blank lines may be before
// the row, so that it may be after the position.
func (r *Reader) skipHeader(to Position) error {
	r.source.endAt(to.Offset)
	defer r.source.endAt(math.MaxInt64)
	for r.header {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	r.Blank = 0
	return nil
}

// skipRecords skips to a position by parsing the records before it: the texts of
// later ids are compared with theirs.
func (r *Reader) skipRecords(to Position, changed error) error {
	r.source.endAt(to.Offset) // or Next would go past blank lines that end there
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	r.source.endAt(math.MaxInt64)
	if at := r.source.position(); at.Offset != to.Offset || !bytes.Equal(at.Sum, to.Sum) {
		return changed
	}
	r.Blank, r.sources = 0, make(map[string]bool)
	return nil
}
