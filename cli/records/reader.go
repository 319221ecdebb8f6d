package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Options select what a Reader takes.
type Options struct {
	Format Format
	Score  ScorePolicy
	IDs    bool // records must have ids that a TREC run can hold
	Header HeaderPolicy

	// Queries and Documents are the texts that a TREC run names.
	Queries, Documents *Texts
}

// ErrNoTexts reports a TREC run without the texts that it names.
var ErrNoTexts = errors.New("a TREC run needs its queries and documents")

// ErrNoColumns reports SkipHeader for a format that has no header row.
var ErrNoColumns = errors.New("only files of columns have a header row")

// A Reader reads records.
type Reader struct {
	// Format is that of the input, found if Auto was given.
	Format Format

	// HeaderLike reports that the first row, which is read as a pair, looks like
	// the names of columns. It is set by GuessHeader only.
	HeaderLike bool

	Blank int // lines so far that hold nothing and are no records

	lines *Lines
	parser
	ids     bool
	check   *idCheck // nil where an id names one text anyway
	header  bool     // the next record is the header row
	sources map[string]bool
}

// NewReader reads records from r, which errors call name. It waits for the first
// line, which reveals a binary file, the format and a header row.
func NewReader(name string, r io.Reader, o Options) (*Reader, error) {
	reader := &Reader{Format: o.Format, lines: NewLines(name, r), ids: o.IDs, sources: make(map[string]bool)}
	head, whole, err := reader.lines.head()
	if err != nil {
		return nil, err
	}
	if o.Format == Auto {
		if reader.Format, err = detect(name, head, whole, o); err != nil {
			return nil, err
		}
	}
	switch reader.Format {
	case JSONL:
		reader.parser = jsonl{score: o.Score, ids: o.IDs}
	case TSV, MSMARCO:
		reader.parser = columns{names: columnsOf[reader.Format], score: o.Score}
		reader.header = o.Header == SkipHeader
		reader.HeaderLike = o.Header == GuessHeader && whole && isHeader(head)
	case TREC:
		if o.Queries == nil || o.Documents == nil {
			return nil, fmt.Errorf("%s: %w", name, ErrNoTexts)
		}
		reader.parser = newTREC(head, o.Queries, o.Documents)
	default:
		return nil, fmt.Errorf("%s: no format %q", name, reader.Format)
	}
	if o.Header == SkipHeader && !reader.header {
		return nil, fmt.Errorf("%s is %s: %w", name, reader.Format, ErrNoColumns)
	}
	if o.IDs && reader.Format == TSV {
		return nil, fmt.Errorf("%s: a TREC run needs ids, and tsv has none; the columns qid, pid, query, passage are --format msmarco", name)
	}
	if o.IDs && reader.Format != TREC {
		reader.check = newIDCheck()
	}
	return reader, nil
}

// Layout is that of the input.
func (r *Reader) Layout() Layout {
	if layout, ok := r.parser.(Layout); ok {
		return layout
	}
	return Scored{}
}

// Next returns the next record, or io.EOF. What is wrong with a line is in the
// record; an error is one that ends the reading.
func (r *Reader) Next() (Record, error) {
	for {
		line, err := r.lines.read()
		record := Record{Line: r.lines.number, Text: line}
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

// fill parses the text of a record.
func (r *Reader) fill(record *Record) error {
	header := r.header
	r.header = false
	if err := CheckText(record.Text); err != nil {
		return err
	}
	if header {
		record.Header = true
		return r.parser.(columns).checkHeader(record.Text)
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

// Sources names the fields that the documents so far were made of.
func (r *Reader) Sources() string { return joinSources(r.sources) }

func joinSources(sources map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(sources)), ", ")
}

// Errorf is an error about a record's line.
func (r *Reader) Errorf(record *Record, format string, args ...any) error {
	return fmt.Errorf("%s: line %d: %w", r.lines.name, record.Line, fmt.Errorf(format, args...))
}

// Position is behind the record that Next returned last.
func (r *Reader) Position() Position { return r.lines.position() }

// Skip reads up to a position that another Reader reported. It must come before
// Next. It returns changed if what stands before the position is not what stood
// there then.
func (r *Reader) Skip(to Position, changed error) error {
	if r.check != nil {
		return r.skipRecords(to, changed)
	}
	r.header = r.header && to.Offset == 0
	return r.lines.skip(to, changed)
}

// skipRecords is Skip for a Reader that compares the texts of ids: it parses the
// records before the position, since later ones are compared with them.
func (r *Reader) skipRecords(to Position, changed error) error {
	for r.lines.offset < to.Offset {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if at := r.lines.position(); at.Offset != to.Offset || !bytes.Equal(at.Sum, to.Sum) {
		return changed
	}
	r.Blank, r.sources = 0, make(map[string]bool)
	return nil
}
